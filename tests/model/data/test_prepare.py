"""Recordings into shards: what is stored equals the recording, and bad input is reported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import cdslm, vowels  # noqa: E402 - torch may be absent

from cdslm_eval.core.audio import content_digest, resample  # noqa: E402
from cdslm_model.data.mel import LogMel, MelSpec  # noqa: E402
from cdslm_model.data.prepare import prepare  # noqa: E402
from cdslm_model.data.storage import STORAGES  # noqa: E402
from cdslm_model.data.windows import Shards  # noqa: E402
from cdslm_model.errors import DataError  # noqa: E402
from cdslm_model.plugin.recordings import recordings  # noqa: E402


def test_shards_hold_the_log_mels_of_every_clip(corpus, shards):
    held = Shards(shards / "train")
    assert len(held.clips) == 12
    ends = np.cumsum([clip["frames"] for clip in held.clips])
    clip_index = 7
    samples, rate_hz = sf.read(corpus / "train" / f"{clip_index:02d}.wav", dtype="float32")
    wanted = LogMel(MelSpec())(torch.from_numpy(resample(samples, rate_hz, 24_000))[None])[0]
    actual = held.read(int(ends[clip_index - 1]), int(ends[clip_index]))
    torch.testing.assert_close(actual, wanted, rtol=0, atol=0.004)  # float16 of values down to -10
    everything = held.read(0, held.frames)
    mean, deviation = everything.double().mean(0), everything.double().std(0, correction=0)
    torch.testing.assert_close(held.normalizer().mean, mean.float(), rtol=0, atol=1e-4)
    torch.testing.assert_close(held.normalizer().std, deviation.float(), rtol=1e-3, atol=0)


def test_splits_of_a_directory_are_kept_apart(shards):
    assert {path.name for path in shards.iterdir()} == {"train", "valid"}
    assert Shards(shards / "train").shared(Shards(shards / "valid")) == []


def test_an_interrupted_call_goes_on_where_it_stood(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.data.prepare.SHARD_FRAMES", 300)
    clips = recordings([str(corpus)])["train"]

    def interrupt(done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(clips, tmp_path / "cut", MelSpec(), progress=interrupt)
    n_kept = len(Shards(tmp_path / "cut").clips)
    assert 0 < n_kept < 7
    assert prepare(clips, tmp_path / "cut", MelSpec()).added == 12 - n_kept
    prepare(clips, tmp_path / "whole", MelSpec())
    cut, whole = Shards(tmp_path / "cut"), Shards(tmp_path / "whole")
    assert torch.equal(cut.read(0, cut.frames), whole.read(0, whole.frames))
    assert prepare(clips, tmp_path / "cut", MelSpec()).added == 0, "nothing to do when it is complete"


def test_bad_audio_is_left_out_and_reported(corpus, tmp_path):
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


def test_another_mel_spec_or_a_changed_clip_is_refused(corpus, tmp_path):
    clips = recordings([str(corpus)])["train"][:3]
    prepare(clips, tmp_path / "shards", MelSpec())
    with pytest.raises(DataError, match="another kind"):
        prepare(clips, tmp_path / "shards", MelSpec(hop=256))
    with pytest.raises(DataError, match="occurs twice"):
        prepare([*clips, clips[0]], tmp_path / "shards", MelSpec())


def test_int8_is_half_the_disk_and_no_value_is_off_by_more_than_half_a_step(inside, corpus, shards, tmp_path):
    done = inside("prepare", corpus, "--out", tmp_path / "small", "--dtype", "int8")
    assert done.returncode == 0, done.stderr
    assert "int8, 2" in done.stdout, "the size of an hour is printed"
    small, large = Shards(tmp_path / "small" / "train"), Shards(shards / "train")
    steps = torch.tensor(json.loads((tmp_path / "small" / "train" / "shard-00000.json").read_text())["scale"]["step"])
    wanted = large.read(0, large.frames)
    # float16 itself is off by half a unit in its last place
    off = (small.read(0, small.frames) - wanted).abs() - wanted.abs() * 2.0**-11
    assert (off <= 0.5 * steps + 1e-5).all()
    assert (small.normalizer().mean - large.normalizer().mean).abs().max() < steps.max() / 2
    torch.testing.assert_close(small.normalizer().std, large.normalizer().std, rtol=0, atol=float(steps.max()))
    sizes = [(folder / "train" / "shard-00000.npy").stat().st_size for folder in (tmp_path / "small", shards)]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.01)
    assert small.digest != large.digest, "a run on the one is not continued on the other"


def test_storages_do_not_mix(inside, corpus, shards, tmp_path):
    done = inside("prepare", corpus / "train", "--out", shards / "train", "--dtype", "int8")
    assert (done.returncode, "use --dtype float16, or name an empty folder" in done.stderr) == (2, True), done.stderr
    done = inside("prepare", corpus / "train", "--out", tmp_path, "--dtype", "int4")
    assert (done.returncode, "--dtype takes float16 or int8" in done.stderr) == (2, True), done.stderr
    inside("prepare", corpus / "valid", "--out", tmp_path / "mixed", "--dtype", "int8")
    for suffix in (".npy", ".json"):
        shutil.copy(shards / "train" / f"shard-00000{suffix}", tmp_path / "mixed" / f"shard-00001{suffix}")
    with pytest.raises(DataError, match="shard-00001 holds float16 and those before it int8"):
        Shards(tmp_path / "mixed")


def test_a_long_clip_is_the_same_in_pieces(tmp_path, monkeypatch):
    """Decoded twice, resampled and transformed piece by piece, it gives the frames of the whole."""
    samples = vowels(np.random.default_rng(3), 9.7, 22_050)
    sf.write(tmp_path / "long.flac", samples, 22_050)
    samples, _ = sf.read(tmp_path / "long.flac", dtype="float32")
    monkeypatch.setattr("cdslm_model.plugin.recordings.CACHED_SAMPLES", 100_000)
    prepare(recordings([str(tmp_path)])[""], tmp_path / "shards", MelSpec(), storage=STORAGES["int8"])
    held = Shards(tmp_path / "shards")
    wanted = LogMel(MelSpec())(torch.from_numpy(resample(samples, 22_050, 24_000))[None])[0]
    assert held.read(0, held.frames).shape == wanted.shape
    assert (held.read(0, held.frames) - wanted).abs().max() < 0.025
    assert held.clips[0]["digest"] == content_digest(samples, 22_050)[:32]
