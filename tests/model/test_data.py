"""Shards and windows: what is stored is what was heard, and windows are determined by seed and step."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import cdslm, vowels  # noqa: E402 - torch may be absent

from cdslm_model.data import SHARD_FRAMES, Shards, Windows, prepare  # noqa: E402
from cdslm_model.errors import DataError  # noqa: E402
from cdslm_model.mel import LogMel, MelSpec, Normalizer  # noqa: E402
from cdslm_model.plugin import recordings  # noqa: E402


def test_shards_hold_the_log_mels_of_every_clip(corpus, shards):
    held = Shards(shards / "train")
    assert len(held.clips) == 12
    ends = np.cumsum([clip["frames"] for clip in held.clips])
    place = 7
    samples, rate_hz = sf.read(corpus / "train" / f"{place:02d}.wav", dtype="float32")
    import soxr

    wanted = LogMel(MelSpec())(torch.from_numpy(soxr.resample(samples, rate_hz, 24_000, quality="HQ"))[None])[0]
    found = held.read(int(ends[place - 1]), int(ends[place]))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.004)  # float16 of values down to -10
    everything = held.read(0, held.frames)
    mean, deviation = everything.double().mean(0), everything.double().std(0, correction=0)
    torch.testing.assert_close(held.normalizer().mean, mean.float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(held.normalizer().std, deviation.float(), rtol=1e-3, atol=0)


def test_splits_of_a_directory_are_kept_apart(shards):
    assert {path.name for path in shards.iterdir()} == {"train", "valid"}
    assert not set(Shards(shards / "train").digests) & set(Shards(shards / "valid").digests)


def test_reading_across_shards_is_reading_them_joined(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.data.SHARD_FRAMES", 300)
    clips = recordings([str(corpus)])["train"]
    prepare(clips, tmp_path / "many", MelSpec())
    monkeypatch.setattr("cdslm_model.data.SHARD_FRAMES", SHARD_FRAMES)
    prepare(clips, tmp_path / "one", MelSpec())
    many, one = Shards(tmp_path / "many"), Shards(tmp_path / "one")
    assert len(many.starts) > 4
    assert len(one.starts) == 2
    for start in range(0, one.frames - 450, 97):
        assert torch.equal(many.read(start, start + 450), one.read(start, start + 450))


def test_an_interrupted_call_goes_on_where_it_stood(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.data.SHARD_FRAMES", 300)
    clips = recordings([str(corpus)])["train"]

    def interrupt(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(clips, tmp_path / "cut", MelSpec(), progress=interrupt)
    kept = len(Shards(tmp_path / "cut").clips)
    assert 0 < kept < 7
    assert prepare(clips, tmp_path / "cut", MelSpec()).added == 12 - kept
    prepare(clips, tmp_path / "whole", MelSpec())
    cut, whole = Shards(tmp_path / "cut"), Shards(tmp_path / "whole")
    assert torch.equal(cut.read(0, cut.frames), whole.read(0, whole.frames))
    assert prepare(clips, tmp_path / "cut", MelSpec()).added == 0, "nothing to do when it is complete"


def test_windows_are_determined_by_seed_step_and_place(shards):
    windows = Windows(Shards(shards / "train"), 20, 40)
    whole = windows.batch(3, 17, range(8))
    assert whole[0].shape == (8, 20, 80)
    assert whole[1].shape == (8, 40, 80)
    for place in (0, 5):
        for part, one in zip(whole, windows.batch(3, 17, [place]), strict=True):
            assert torch.equal(part[place : place + 1], one)
    assert not torch.equal(whole[0], windows.batch(3, 18, range(8))[0])
    assert not torch.equal(whole[0], windows.batch(4, 17, range(8))[0])


def test_windows_never_cross_clips_unless_speakers_are_joined(corpus, tmp_path):
    clips = recordings([str(corpus)])["train"]
    prepare(clips, tmp_path / "shards", MelSpec())
    shards = Shards(tmp_path / "shards")
    ends = np.cumsum([clip["frames"] for clip in shards.clips])
    alone = shards.stretches(join_speakers=False)
    assert np.array_equal(alone[:, 1], ends)
    assert np.array_equal(shards.stretches(join_speakers=True), alone), "unknown speakers are not one speaker"
    for place, clip in enumerate(shards.clips):
        clip["speaker"] = "a" if place < 5 else "b"
    joined = shards.stretches(join_speakers=True)
    assert joined.tolist() == [[0, ends[4]], [ends[4], ends[-1]]]
    longest = int(max(clip["frames"] for clip in shards.clips))
    with pytest.raises(DataError, match="--join-speakers"):
        Windows(shards, 1, longest)
    assert Windows(shards, 1, longest, join_speakers=True).left_out_frames == 0


def test_every_position_is_equally_likely(shards):
    held = Shards(shards / "train")
    windows = Windows(held, 10, 50)
    # The first frame of each window, found back by its content, over a grid of all positions
    count = int(windows._positions[-1])
    starts = [windows.window((place + 0.5) / count)[0] for place in range(0, count, 7)]
    everything = held.read(0, held.frames)
    allowed = [start for start, end in held.stretches(False) for start in range(start, end - 59)]
    assert len(allowed) == count
    for place, found in zip(range(0, count, 7), starts, strict=True):
        assert torch.equal(found, everything[allowed[place] : allowed[place] + 10])


def test_bad_audio_is_left_out_and_told(corpus, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(corpus / "train", folder)
    rng = np.random.default_rng(5)
    sf.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    sf.write(folder / "eight.wav", vowels(rng, 2.0, 8_000), 8_000)
    sf.write(folder / "stereo.wav", np.stack([vowels(rng, 1.0, 44_100)] * 2, 1), 44_100)
    (folder / "broken.wav").write_bytes(b"RIFFnothing")
    done = cdslm("prepare", folder, "--out", tmp_path / "shards")
    assert done.returncode == 0
    assert "14 clips" in done.stdout
    assert "broken.wav: not readable" in done.stderr
    assert "silent.wav: nothing but silence" in done.stderr
    again = cdslm("prepare", folder, "--out", tmp_path / "shards")
    assert "0 clips added" in again.stdout


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "shard-00000.npy").write_bytes(b""), "missing or damaged"),
        (lambda folder: (folder / "shard-00000.json").write_text("{"), "not JSON"),
        (shutil.rmtree, "no prepared speech"),
    ],
)
def test_damaged_shards_are_named(shards, tmp_path, damage, said):
    shutil.copytree(shards / "train", tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(DataError, match=said):
        Shards(tmp_path / "copy")


def test_another_mel_spec_or_a_changed_clip_is_refused(corpus, tmp_path):
    clips = recordings([str(corpus)])["train"][:3]
    prepare(clips, tmp_path / "shards", MelSpec())
    with pytest.raises(DataError, match="another kind"):
        prepare(clips, tmp_path / "shards", MelSpec(hop=256))
    with pytest.raises(DataError, match="stands twice"):
        prepare([*clips, clips[0]], tmp_path / "shards", MelSpec())


def test_a_band_that_never_moves_is_not_blown_up(tmp_path):
    sf.write(tmp_path / "hum.wav", 0.3 * np.sin(np.arange(24_000) * 0.1), 24_000)
    prepare(recordings([str(tmp_path)])[""], tmp_path / "shards", MelSpec())
    shards = Shards(tmp_path / "shards")
    assert isinstance(shards.normalizer(), Normalizer)
    assert shards.normalizer().normalize(shards.read(0, shards.frames)).isfinite().all()
