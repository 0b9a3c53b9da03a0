"""Clips that are parts of recordings: cut by the manifest, decoded alone, and distinguished by what they hold."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import api
from cdslm_eval.core.audio import content_digest, read_audio, write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.spans import Address, Span
from cdslm_model.data.mel import MelSpec
from cdslm_model.data.prepare import prepare
from cdslm_model.plugin.recordings import recordings

RATE_HZ = 16_000
SECONDS = 6.0


def sound(rate_hz=RATE_HZ):
    """Return a tone that rises, in noise: no two parts of it are alike."""
    time_s = np.arange(int(SECONDS * rate_hz)) / rate_hz
    hiss = np.random.default_rng(0).standard_normal(len(time_s)) * 0.02
    return 0.3 * np.sin(2 * np.pi * (200 + 40 * time_s) * time_s) + hiss


@pytest.fixture
def counted(monkeypatch):
    """Return the list of the numbers of samples that libsndfile is asked for."""
    counts = []
    read = sf.SoundFile.read

    def counting(self, frames=-1, **options):
        block = read(self, frames, **options)
        counts.append(len(block))
        return block

    monkeypatch.setattr(sf.SoundFile, "read", counting)
    return counts


@pytest.mark.parametrize(
    ("container", "subtype", "rate_hz", "ahead_s", "tolerance"),
    [
        ("WAV", "PCM_16", RATE_HZ, 0, 0),
        ("FLAC", "PCM_16", RATE_HZ, 0, 0),
        ("OGG", "VORBIS", RATE_HZ, 0, 1e-6),
        ("OGG", "OPUS", RATE_HZ, 1, 1e-2),
        ("MP3", "MPEG_LAYER_III", RATE_HZ, 0, 1e-6),
        ("WAV", "IMA_ADPCM", RATE_HZ, 0, 0),
        ("WAV", "GSM610", 8_000, SECONDS, 0),
    ],
)
def test_a_span_is_the_slice_of_the_decoded_whole(tmp_path, counted, container, subtype, rate_hz, ahead_s, tolerance):
    path = tmp_path / "a"
    sf.write(path, sound(rate_hz), rate_hz, format=container, subtype=subtype)
    whole = read_audio(path).samples
    for start_s, end_s in [(0.0, 0.5), (1.00003, 1.75), (4.2, 5.9), (5.5, None)]:
        counted.clear()
        first, stop = round(start_s * rate_hz), None if end_s is None else round(end_s * rate_hz)
        samples = read_audio(path, span=Span(start_s, end_s)).samples
        # after a seek, MP3 and Vorbis round in another order, and Opus predicts from another past
        assert len(samples) == len(whole[first:stop])
        assert np.abs(samples - whole[first:stop]).max() <= tolerance
        assert sum(counted) == len(samples) + min(first, round(ahead_s * rate_hz))
        np.testing.assert_array_equal(samples, read_audio(path, span=Span(start_s, end_s)).samples)


def test_adjacent_spans_tile_a_recording(tmp_path):
    sf.write(tmp_path / "a.wav", sound(), RATE_HZ)
    times = [0, 0.33333, 1.11117, 2.5, None]
    pieces = [
        read_audio(tmp_path / "a.wav", span=Span.between(start_s, end_s)).samples
        for start_s, end_s in itertools.pairwise(times)
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), read_audio(tmp_path / "a.wav").samples)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (Span(6.5, 7.0), "starts at 6.5 s, but its recording ends at 6.00 s"),
        (Span(6.5), "starts at 6.5 s"),
        (Span(5.0, 6.02), "ends at 6.02 s, but its recording at 6.00 s"),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.gsm"])
def test_a_span_beyond_its_recording_is_no_clip(tmp_path, span, message, name):
    options = {"format": "WAV", "subtype": "GSM610"} if name == "a.gsm" else {}
    sf.write(tmp_path / name, sound(), RATE_HZ, **options)
    with pytest.raises(AudioError) as raised:
        read_audio(tmp_path / name, span=span)
    assert message.partition(",")[0] in str(raised.value)
    # hundredths of a second round up
    assert read_audio(tmp_path / name, span=Span(5.0, 6.005)).samples.size >= RATE_HZ


def kaldi(folder, segments):
    """Write a Kaldi folder of one FLAC, and return its wav.scp and what was decoded of it."""
    write_flac(folder / "r.flac", sound().astype(np.float32), RATE_HZ)
    (folder / "wav.scp").write_text("rec r.flac\n")
    (folder / "segments").write_text(segments)
    (folder / "text").write_text("u1 hello\n")
    (folder / "utt2spk").write_text("u1 s\nu2 s\n")
    (folder / "r.txt").write_text("what is said in all of it")
    return folder / "wav.scp", read_audio(folder / "r.flac").samples


def test_segments_and_offsets_are_the_same_clips(tmp_path):
    scp, whole = kaldi(tmp_path, "u1 rec 0.5 1.25\nu2\trec\t1.25\t-1\n")
    rows = [
        {"path": "r.flac", "offset": 0.5, "duration": 0.75, "key": "u1", "speaker": "s", "text": "hello"},
        {"path": "r.flac", "offset": 1.25, "key": "u2", "speaker": "s"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "m.csv").write_text(
        "path,key,speaker,text,offset,duration\nr.flac,u1,s,hello,0.5,.75\nr.flac,u2,s,,1.25,\n"
    )
    first, second = ClipSet.open(scp)
    assert (first.key, first.text, first.speaker) == ("u1", "hello", "s")
    assert second.text is None  # the text next to a recording is not that of its parts
    assert first.digest == content_digest(whole[8_000:20_000], RATE_HZ)
    np.testing.assert_array_equal(second.samples, whole[20_000:])
    for name in ("m.jsonl", "m.csv"):
        assert list(ClipSet.open(tmp_path / name).sources) == list(ClipSet.open(scp).sources)


def test_clips_without_a_key_are_called_by_their_part(tmp_path):
    (tmp_path / "m.csv").write_text("path,offset,duration\nd/r.wav,1.5,2\nd/r.wav,3.5,\n")
    sources = ClipSet.open(tmp_path / "m.csv").sources
    assert [source.key for source in sources] == ["d/r#t=1.5,3.5", "d/r#t=3.5"]
    assert [Address.parse(str(source.address)).span for source in sources] == [Span(1.5, 3.5), Span(3.5)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("segments", "u1 rec 0 1\nu2 other 0 1\n", "segments, line 2: wav.scp has no recording 'other'"),
        ("segments", "u1 rec 0\n", "line 1: 3 fields; UTTERANCE RECORDING START END are wanted"),
        ("segments", "u1 rec 0 1 0\n", "the channel, is not read"),
        ("segments", "u1 rec 2 1\n", "line 1: an end at 1 s, which is not after its start at 2 s"),
        ("segments", "u1 rec x 1\n", "line 1: could not convert"),
        ("segments", "u1 rec 0 1\nu1 rec 1 2\n", "the key 'u1' occurs twice"),
        ("m.csv", "path,offset\na.wav,-1\n", "line 2: a start of -1 s"),
        ("m.csv", "path,offset\na.wav,1e400\n", "line 2: a start of inf s"),
        ("m.csv", "path,duration\na.wav,0\n", "line 2: an end at 0 s"),
        (
            "m.jsonl",
            '{"path": "a.wav", "offset": "soon"}\n',
            "line 1: 'offset' must be a number of seconds, not 'soon'",
        ),
        ("m.jsonl", '{"path": "a.wav", "duration": [1]}\n', "line 1: 'duration' must be a number of seconds"),
    ],
)
def test_a_wrong_time_is_an_error_with_its_line(tmp_path, name, text, message):
    (tmp_path / "wav.scp").write_text("rec a.wav\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as raised:
        ClipSet.open(tmp_path / ("wav.scp" if name == "segments" else name))
    assert message in str(raised.value)


def test_score_generate_and_prepare_read_the_same_clips(tmp_path):
    """A set of segments and a set of files that hold the same samples give the same numbers, clips and log-mels."""
    scp, whole = kaldi(tmp_path, "u1 rec 0.5 2\nu2 rec 2 4.5\nu3 rec 5 9\n")
    cut = tmp_path / "cut"
    cut.mkdir()
    for key, samples in (("u1", whole[8_000:32_000]), ("u2", whole[32_000:72_000])):
        write_flac(cut / f"{key}.flac", samples, RATE_HZ)
    store = tmp_path / "s.cdslm"
    parts = api.score(scp, metrics="signal", store=store, jobs=1)
    (failure,) = {(failure.clip, failure.reason) for failure in parts.failures}
    assert failure == ("u3", "ends at 9 s, but its recording at 6.00 s")
    files = api.score(cut, metrics="signal", store=store, jobs=1)
    assert [estimate.value for estimate in parts.estimates] == [estimate.value for estimate in files.estimates]
    assert parts.settings["sets"]["wav"]["digest"] == files.settings["sets"]["cut"]["digest"]
    again = api.score(scp, metrics="signal", store=store, jobs=1)  # from the index of files
    assert [estimate.as_json() for estimate in again.estimates] == [e.as_json() for e in parts.estimates]

    (tmp_path / "segments").write_text("u1 rec 0.5 2\nu2 rec 2 4.5\n")
    of_parts = api.generate("reversed", tmp_path / "g1", prompts=scp, count=2)
    of_files = api.generate("reversed", tmp_path / "g2", prompts=cut, count=2)
    assert [clip.digest for clip in of_parts] == [clip.digest for clip in of_files]

    made = [prepare(recordings([str(path)])[""], tmp_path / f"{path.name}.mels", MelSpec()) for path in (scp, cut)]
    assert made[0].frames == made[1].frames > 0
    tables = [
        [(clip["digest"], clip["frames"]) for clip in json.loads(file.read_text())["clips"]]
        for folder in ("wav.scp.mels", "cut.mels")
        for file in (tmp_path / folder).glob("*.json")
    ]
    assert tables[0] == tables[1]
