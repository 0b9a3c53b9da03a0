"""Recordings into shards: what is stored is what was heard, and what is bad is told."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import cdslm, vowels  # noqa: E402 - torch may be absent

from cdslm_model.data import Shards  # noqa: E402
from cdslm_model.errors import DataError  # noqa: E402
from cdslm_model.mel import LogMel, MelSpec  # noqa: E402
from cdslm_model.plugin import recordings  # noqa: E402
from cdslm_model.prepare import prepare  # noqa: E402


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


def test_an_interrupted_call_goes_on_where_it_stood(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.prepare.SHARD_FRAMES", 300)
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


def test_another_mel_spec_or_a_changed_clip_is_refused(corpus, tmp_path):
    clips = recordings([str(corpus)])["train"][:3]
    prepare(clips, tmp_path / "shards", MelSpec())
    with pytest.raises(DataError, match="another kind"):
        prepare(clips, tmp_path / "shards", MelSpec(hop=256))
    with pytest.raises(DataError, match="stands twice"):
        prepare([*clips, clips[0]], tmp_path / "shards", MelSpec())
