"""Shards and windows: reading crosses their borders, and windows are determined by seed and step."""

from __future__ import annotations

import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.data.mel import MelSpec, Normalizer  # noqa: E402
from cdslm_model.data.prepare import SHARD_FRAMES, prepare  # noqa: E402
from cdslm_model.data.storage import find_storage  # noqa: E402
from cdslm_model.data.windows import Shards, Windows  # noqa: E402 - torch may be absent
from cdslm_model.errors import DataError  # noqa: E402
from cdslm_model.plugin.recordings import recordings  # noqa: E402


def test_reading_across_shards_is_reading_them_joined(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.data.prepare.SHARD_FRAMES", 300)
    clips = recordings([str(corpus)])["train"]
    prepare(clips, tmp_path / "many", MelSpec())
    monkeypatch.setattr("cdslm_model.data.prepare.SHARD_FRAMES", SHARD_FRAMES)
    prepare(clips, tmp_path / "one", MelSpec())
    many, single = Shards(tmp_path / "many"), Shards(tmp_path / "one")
    assert len(many.starts) > 4
    assert len(single.starts) == 2
    for start in range(0, single.frames - 450, 97):
        assert torch.equal(many.read(start, start + 450), single.read(start, start + 450))


def test_windows_are_determined_by_seed_step_and_place(shards):
    windows = Windows(Shards(shards / "train"), 20, 40)
    whole = windows.batch(3, 17, range(8), 8).codes
    assert whole.shape == (8, 60, 80)
    fresh = Windows(Shards(shards / "train"), 20, 40)
    for index in (0, 5):
        assert torch.equal(whole[index : index + 1], fresh.batch(3, 17, [index], 8).codes)
    assert not torch.equal(whole, windows.batch(3, 18, range(8), 8).codes)
    assert not torch.equal(whole, windows.batch(4, 17, range(8), 8).codes)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_windows_are_decoded_on_the_device_as_they_are_read(corpus, tmp_path, monkeypatch, dtype):
    """Shards are small, so that windows cross them, each with a scale of its own under int8."""
    monkeypatch.setattr("cdslm_model.data.prepare.SHARD_FRAMES", 300)
    # one speaker: windows run over clips, and over shards
    manifest = tmp_path / "one.jsonl"
    paths = sorted((corpus / "train").glob("*.wav"))
    manifest.write_text("".join(json.dumps({"path": str(path), "speaker": "a"}) + "\n" for path in paths))
    prepare(recordings([str(manifest)])[""], tmp_path / "shards", MelSpec(), storage=find_storage(dtype))
    held = Shards(tmp_path / "shards")
    windows, normalizer = Windows(held, 50, 150, join_speakers=True), held.normalizer()
    stored = windows.spread(24)
    assert (stored.shards[:, 0] != stored.shards[:, -1]).any()
    assert stored.codes.dtype == getattr(torch, dtype)
    expected = normalizer.normalize(torch.stack([torch.cat(windows.window((index + 0.5) / 24)) for index in range(24)]))
    assert torch.equal(held.decoder(normalizer, "cpu")(stored), expected)


def test_an_epoch_holds_every_disjoint_window_once(shards):
    """Found back by content: an epoch repeats no frame, and two epochs are cut and ordered differently."""
    held = Shards(shards / "train")
    windows = Windows(held, 10, 25)
    everything = held.read(0, held.frames)
    lengths = [end - start for start, end in held.stretches(False)]
    assert windows.per_epoch == sum(length // 35 for length in lengths)
    epochs = []
    for epoch in range(2):
        starts = []
        for number in range(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch):
            step, row = divmod(number, 4)
            window = windows.batch(5, step, [row], 4).codes[0].float()
            (start,) = [s for s in range(held.frames - 34) if torch.equal(everything[s], window[0])]
            assert torch.equal(everything[start : start + 35], window)
            starts.append(start)
        epochs.append(starts)
        frames = {frame for start in starts for frame in range(start, start + 35)}
        assert len(frames) == 35 * windows.per_epoch, "no frame twice"
        assert starts != sorted(starts)
        assert all(any(low <= s and s + 35 <= high for low, high in held.stretches(False)) for s in starts)
    assert sorted(epochs[0]) != sorted(epochs[1]), "each epoch starts its windows anew"


def test_windows_never_cross_clips_unless_speakers_are_joined(corpus, tmp_path):
    manifest = tmp_path / "who.jsonl"
    paths = sorted((corpus / "train").glob("*.wav"))
    message = ["a"] * 5 + ["b"] * 5 + [None] * 2
    lines = [{"path": str(path), "speaker": name} for path, name in zip(paths, message, strict=True)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare(recordings([str(manifest)])[""], tmp_path / "shards", MelSpec())
    shards = Shards(tmp_path / "shards")
    assert [clip["speaker"] for clip in shards.clips] == message
    assert [clip["name"] for clip in shards.clips] == list(map(str, paths))
    ends = np.cumsum([clip["frames"] for clip in shards.clips]).tolist()
    alone = shards.stretches(join_speakers=False)
    assert alone.tolist() == [[start, end] for start, end in itertools.pairwise([0, *ends])]
    joined = shards.stretches(join_speakers=True).tolist()
    assert joined == [[0, ends[4]], [ends[4], ends[9]], [ends[9], ends[10]], [ends[10], ends[11]]], "unknown is nobody"
    longest = max(clip["frames"] for clip in shards.clips)
    with pytest.raises(DataError, match="--join-speakers"):
        Windows(shards, 1, longest)
    assert Windows(shards, 1, longest, join_speakers=True).left_out_frames == sum(np.diff(ends)[-2:])


def test_positions_spread_over_all_windows(shards):
    held = Shards(shards / "train")
    windows = Windows(held, 10, 50)
    # The first frame of each window, found back by its content, over a grid of all positions
    count = int(windows._positions[-1])
    starts = [windows.window((index + 0.5) / count)[0] for index in range(0, count, 7)]
    everything = held.read(0, held.frames)
    allowed = [start for start, end in held.stretches(False) for start in range(start, end - 59)]
    assert len(allowed) == count
    for index, first in zip(range(0, count, 7), starts, strict=True):
        assert torch.equal(first, everything[allowed[index] : allowed[index] + 10])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "shard-00000.npy").write_bytes(b""), "missing or damaged"),
        (lambda folder: (folder / "shard-00000.json").write_text("{"), "not JSON"),
        (shutil.rmtree, "no prepared speech"),
    ],
)
def test_damaged_shards_are_named(shards, tmp_path, damage, message):
    shutil.copytree(shards / "train", tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(DataError, match=message):
        Shards(tmp_path / "copy")


def test_a_band_that_never_moves_is_not_blown_up(tmp_path):
    sf.write(tmp_path / "hum.wav", 0.3 * np.sin(np.arange(24_000) * 0.1), 24_000)
    prepare(recordings([str(tmp_path)])[""], tmp_path / "shards", MelSpec())
    shards = Shards(tmp_path / "shards")
    assert isinstance(shards.normalizer(), Normalizer)
    assert shards.normalizer().normalize(shards.read(0, shards.frames)).isfinite().all()
