"""Both channels of a recording are written apart, sample for sample, and what has not two is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import ClipSet, UsageError
from cdslm_eval.conversations import split_channels


def test_channels_are_written_apart(tmp_path):
    talks = tmp_path / "talks"
    talks.mkdir()
    rng = np.random.default_rng(0)
    both = np.round(rng.uniform(-0.5, 0.5, (8000, 2)) * 32768) / 32768
    sf.write(talks / "a b.wav", both, 8000)
    sf.write(talks / "a_b.flac", both[:4000], 8000)
    sf.write(talks / "mono.wav", both[:, 0], 8000)
    (talks / "broken.wav").write_bytes(b"RIFF")
    manifest, left_out = split_channels(talks, tmp_path / "out", min_seconds=0.5)
    assert set(left_out) == {"mono", "broken"}
    pairs = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["key"] for row in pairs] == ["a b", "a_b"]
    for side in (0, 1):
        samples, _ = sf.read(tmp_path / "out" / (pairs[0]["path"], pairs[0]["reference"])[side])
        np.testing.assert_array_equal(samples, both[:, side])
    # two keys that make one file name stay apart
    assert pairs[0]["path"] != pairs[1]["path"]
    channels = ClipSet.open(tmp_path / "out")
    assert [clip.key for clip in channels] == ["a b/1", "a b/2", "a_b/1", "a_b/2"]
    assert len({source.speaker for source in channels.sources}) == 4
    part = tmp_path / "part.jsonl"
    part.write_text(json.dumps({"path": "talks/a b.wav", "offset": 0.25, "duration": 0.5}))
    cut, _ = split_channels(part, tmp_path / "cut")
    samples, _ = sf.read(cut.parent / json.loads(cut.read_text())["reference"])
    np.testing.assert_array_equal(samples, both[2000:6000, 1])
    _, short = split_channels(talks, tmp_path / "long", min_seconds=0.75)
    assert short["a_b"] == "under 0.75 s"


def test_names_that_numbers_make_alike_stay_apart(tmp_path):
    talks = tmp_path / "talks"
    talks.mkdir()
    rng = np.random.default_rng(0)
    levels = {"a b": 0.1, "a_b-2": 0.2, "a_b": 0.3, "A_b": 0.4}
    for key, level in levels.items():
        sf.write(talks / f"{key}.wav", level * rng.choice([-1.0, 1.0], (800, 2)), 8000, subtype="PCM_16")
    manifest, _ = split_channels(talks, tmp_path / "out")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert len({row["path"].lower() for row in rows}) == 4
    for row in rows:
        samples, _ = sf.read(manifest.parent / row["path"])
        assert np.abs(samples).max() == pytest.approx(levels[row["key"]], abs=1e-3)


def test_a_manifest_of_the_user_is_not_written_over(tmp_path):
    sf.write(tmp_path / "two.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (800, 2)), 8000)
    (tmp_path / "manifest.jsonl").write_text('{"path": "two.wav", "text": "mine"}\n')
    with pytest.raises(UsageError, match=r"holds a manifest\.jsonl already"):
        split_channels(tmp_path, tmp_path)
    assert "mine" in (tmp_path / "manifest.jsonl").read_text()


def test_what_cannot_be_split_is_refused(tmp_path):
    sf.write(tmp_path / "mono.wav", np.zeros(800), 8000)
    with pytest.raises(UsageError, match="no conversation on two channels in it; mono: 1 channel"):
        split_channels(tmp_path, tmp_path / "out")
    sf.write(tmp_path / "two.wav", np.zeros((800, 2)), 8000)
    split_channels(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match=r"holds a conversations\.jsonl already"):
        split_channels(tmp_path, tmp_path / "out")
    wave = np.sin(np.arange(800) / 9)
    (tmp_path / "same").mkdir()
    sf.write(tmp_path / "same" / "dual.wav", np.stack([wave, 0.5 * wave], 1), 8000)
    with pytest.raises(UsageError, match="dual: its channels are the same sound"):
        split_channels(tmp_path / "same", tmp_path / "dual")
    array = ClipSet.from_arrays([(np.zeros(800, np.float32), 8000)])
    with pytest.raises(UsageError, match="lies in memory"):
        split_channels(array, tmp_path / "other")
