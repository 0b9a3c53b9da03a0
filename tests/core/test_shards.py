"""Clips in tar shards, NeMo manifests and Lhotse cuts: the same content as in files, and damage counted."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import ClipSet, score
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.spans import Address
from cdslm_eval.core.windows import windowed

RATE_HZ = 16000


def audio(number: int) -> bytes:
    rng, file = np.random.default_rng(number), io.BytesIO()
    sf.write(file, 0.1 * rng.standard_normal(RATE_HZ), RATE_HZ, format=("WAV", "FLAC")[number % 2])
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def shard(path: Path, count: int = 4) -> Path:
    """Write a shard as WebDataset does: clips and their texts next to each other."""
    members = []
    for number in range(count):
        members.append((f"set/{number:03d}.{('wav', 'flac')[number % 2]}", audio(number)))
        members.append((f"set/{number:03d}.json", json.dumps({"text": f"word {number}", "speaker": "s"}).encode()))
    return write_tar(path, members)


def test_clips_of_a_shard_are_those_of_files(tmp_path):
    clips = ClipSet.open(shard(tmp_path / "a.tar"))
    assert [source.key for source in clips.sources] == [f"set/{number:03d}" for number in range(4)]
    assert [(clip.text, clip.speaker) for clip in clips] == [(f"word {number}", "s") for number in range(4)]
    for number, clip in enumerate(clips):
        expected, rate_hz = sf.read(io.BytesIO(audio(number)), dtype="float32")
        np.testing.assert_array_equal(clip.samples, expected)
        assert rate_hz == clip.rate_hz
    for source in clips.sources:
        assert Address.parse(str(source.address)) == source.address
        assert source.address.packed == source.packed


def test_windows_of_a_shard_are_those_of_its_clips(tmp_path):
    parts = windowed(ClipSet.open(shard(tmp_path / "a.tar", 2)), 0.4)
    assert parts.positions.tolist() == [0, 1, 0, 1]
    assert parts.n_unread == 0
    expected, _ = sf.read(io.BytesIO(audio(1)), dtype="float32")
    np.testing.assert_array_equal(parts.clips[3].samples, expected[int(0.4 * RATE_HZ) : int(0.8 * RATE_HZ)])


def test_rows_of_a_shard_are_kept_by_content_and_files_give_the_same(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number:03d}.{('wav', 'flac')[number % 2]}").write_bytes(audio(number))
    options = {"metrics": "signal", "recognizer": "sidecar", "store": tmp_path / "s.cdslm", "jobs": 1}
    packed = score(shard(tmp_path / "a.tar"), **options)
    plain = score(folder, **options)
    values = [[e.value for e in result.estimates if e.name in ("level", "silence_share")] for result in (packed, plain)]
    assert values[0] == values[1]
    digests = [next(iter(result.settings["sets"].values()))["digest"] for result in (packed, plain)]
    assert digests[0] == digests[1]


def test_a_shard_that_is_cut_loses_the_clip_that_is_cut_and_no_other(tmp_path, caplog):
    path = shard(tmp_path / "a.tar")
    third = ClipSet.open(path).sources[2]
    path.write_bytes(path.read_bytes()[: third.packed.start + third.packed.length // 2])
    result = score(path, metrics="signal", recognizer="sidecar", store=tmp_path / "s.cdslm", jobs=1)
    assert [(f.clip, f.status) for f in result.failures if f.metric == "signal"] == [("set/002", "failed")]
    assert "archive is cut" in result.failures[0].reason
    assert next(e for e in result.estimates if e.name == "level").n_scored == 2
    assert "a.tar: the archive is cut or damaged" in caplog.text


@pytest.mark.parametrize("damage", ["cut behind a member", "a damaged header"])
def test_a_shard_without_its_end_keeps_what_is_there(tmp_path, caplog, damage):
    path = shard(tmp_path / "a.tar")
    third = ClipSet.open(path).sources[2].packed
    content = path.read_bytes()
    start = third.start + -(-third.length // 512) * 512
    path.write_bytes(content[:start] if damage.startswith("cut") else content[:start] + b"x" * 512 + content[start:])
    assert [source.key for source in ClipSet.open(path).sources] == ["set/000", "set/001", "set/002"]
    assert "a.tar: the archive is cut or damaged after 5 members" in caplog.text


def test_names_that_lead_elsewhere_links_and_packed_archives(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", [("../../etc/x.wav", audio(0)), ("/abs/y.wav", audio(1)), ("z.txt", b"no clip")]
    )
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert [source.key for source in ClipSet.open(path).sources] == ["../../etc/x", "/abs/y"]
    packed = tmp_path / "b.tar"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UsageError, match="decompress it first"):
        ClipSet.open(packed)
    with pytest.raises(UsageError, match=r"x\.json: 'text' must be text"):
        ClipSet.open(write_tar(tmp_path / "c.tar", [("x.wav", audio(0)), ("x.json", b'{"text": []}')]))
    with pytest.raises(AudioError, match="not readable as audio"):
        ClipSet.open(write_tar(tmp_path / "d.tar", [("x.wav", b"RIFF")]))[0]


def test_a_parquet_table_with_audio_bytes_is_read_by_row_groups(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"audio": {"bytes": audio(number), "path": f"{number}.wav"}, "text": f"word {number}", "mood": "x"}
        for number in range(5)
    ]
    rows[3]["audio"]["bytes"] = None
    path = tmp_path / "train-00000.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    with pytest.raises(UsageError, match="--ignore-columns mood"):
        ClipSet.open(path)
    clips = ClipSet.open(path, ignore_columns=["mood"])
    assert [(source.key, source.text) for source in clips.sources] == [(str(n), f"word {n}") for n in range(5)]
    for number in (4, 0, 1):
        expected, _ = sf.read(io.BytesIO(audio(number)), dtype="float32")
        np.testing.assert_array_equal(clips[number].samples, expected)
        address = clips.sources[number].address
        assert Address.parse(str(address)) == address
    with pytest.raises(AudioError, match="no bytes in the column 'audio'"):
        clips[3]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not readable as Parquet"):
        ClipSet.open(path)
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(UsageError, match="the table has none"):
        ClipSet.open(path)


def nemo(folder: Path) -> Path:
    rows = [
        {"audio_filepath": "0.wav", "duration": 1.0, "text": "one", "lang": "en"},
        {"audio_filepath": "0.wav", "offset": 0.25, "duration": 0.5, "text": "two", "lang": "en"},
    ]
    path = folder / "nemo.json"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def cut(**changes: object) -> dict[str, object]:
    recording = {
        "id": "r",
        "sources": [{"type": "file", "channels": [0], "source": "0.wav"}],
        "sampling_rate": RATE_HZ,
        "num_samples": RATE_HZ,
        "duration": 1.0,
        "channel_ids": [0],
    }
    supervision = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.5, "text": "two", "speaker": "anna"}
    whole = {"id": "cut-1", "start": 0.25, "duration": 0.5, "channel": 0, "supervisions": [supervision]}
    return whole | {"recording": recording, "type": "MonoCut"} | changes


def lhotse(folder: Path, *cuts: dict[str, object]) -> Path:
    path = folder / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, cuts)).encode()))
    return path


def test_nemo_and_lhotse_name_the_same_part(tmp_path):
    (tmp_path / "0.wav").write_bytes(audio(0))
    samples, _ = sf.read(tmp_path / "0.wav", dtype="float32")
    whole, part = ClipSet.open(nemo(tmp_path))
    cuts = ClipSet.open(lhotse(tmp_path, cut(), cut(id="cut-2", start=0, duration=1.0)))
    np.testing.assert_array_equal(whole.samples, samples)
    np.testing.assert_array_equal(part.samples, samples[RATE_HZ // 4 : RATE_HZ // 4 * 3])
    assert (part.text, part.language) == ("two", "en")
    assert (cuts[0].digest, cuts[0].text, cuts[0].speaker) == (part.digest, "two", "anna")
    assert cuts[1].digest == whole.digest
    assert cuts.name == "cuts"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"type": "MixedCut"}, "line 1: a cut of type 'MixedCut'"),
        ({"channel": 1}, "one channel of several"),
        ({"recording": None}, "without a recording of one source"),
        ({"recording": {"sources": [{"type": "command", "channels": [0], "source": "rm -r x"}]}}, "are not run"),
        ({"start": -1}, "line 1: a start of -1 s"),
    ],
)
def test_cuts_that_cannot_be_read_are_named(tmp_path, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        ClipSet.open(lhotse(tmp_path, cut(**changes)))


def test_a_packed_manifest_that_is_cut_or_unpacks_to_one_endless_line(tmp_path):
    path = lhotse(tmp_path, *[cut(id=str(number)) for number in range(50)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UsageError, match="damaged, or cut in the middle"):
        ClipSet.open(path)
    path.write_bytes(gzip.compress(b" " * (1 << 25)))
    with pytest.raises(UsageError, match="over 16 million characters"):
        ClipSet.open(path)
