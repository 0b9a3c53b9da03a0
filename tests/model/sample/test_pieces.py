"""Clips that are decoded and written while they are generated are those that are decoded and written at their end."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_eval.core.clips import ClipSet  # noqa: E402 - torch may be absent
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_model.data.mel import MelSpec  # noqa: E402
from cdslm_model.sample import vocoder  # noqa: E402
from cdslm_model.sample.continuation import Continuer  # noqa: E402
from cdslm_model.sample.pieces import SampleStream, sample_stream  # noqa: E402

HOP, BEFORE, AFTER = 2, 3, 2


def smoothed(frames, lead, length, known):
    """Samples that depend on 3 frames before theirs and 2 after: means over those that are there."""
    assert known.shape[1] == lead * HOP
    total = frames.shape[1]
    means = [
        frames[:, max(0, at - BEFORE) : min(total, at + AFTER + 1)].mean((1, 2)) for at in range(lead, lead + length)
    ]
    return torch.stack(means, 1).repeat_interleave(HOP, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 7))
def test_samples_do_not_depend_on_where_log_mels_are_cut(parts, size):
    frames = torch.randn(2, sum(parts), 3, generator=torch.Generator().manual_seed(size))
    stream = SampleStream(smoothed, HOP, size, BEFORE, AFTER)
    cut = frames.split(parts, 1)
    made = [stream.push(own, last=number == len(cut) - 1) for number, own in enumerate(cut)]
    samples = torch.cat(made, 1)
    assert samples.shape == (2, sum(parts) * HOP)
    if sum(parts):
        torch.testing.assert_close(samples, smoothed(frames, 0, sum(parts), torch.empty(2, 0)))
    # what is complete is handed out, but for what waits for the frames after it and to fill a piece
    done = sum(parts[:-1])
    assert sum(own.shape[1] for own in made[:-1]) >= HOP * (done - AFTER - size + 1)


def test_griffin_lim_of_parts_is_that_of_the_whole(monkeypatch):
    monkeypatch.setattr(vocoder, "_PIECE_FRAMES", 30)
    resynthesise = vocoder.GriffinLim(MelSpec(), iterations=2)
    log_mel = torch.randn(1, 100, 80, generator=torch.Generator().manual_seed(0)) - 3
    stream = sample_stream(resynthesise)
    parts = [stream.push(part, last=number == 3) for number, part in enumerate(log_mel.split([7, 40, 20, 33], 1))]
    assert torch.equal(torch.cat(parts, 1), resynthesise(log_mel))
    # a vocoder of somebody else, which knows no parts, decodes the whole at the end
    stream = sample_stream(Doubled())
    assert stream.push(log_mel[:, :60]).shape[1] == 0
    assert torch.equal(stream.push(log_mel[:, 60:], last=True), Doubled()(log_mel))


class Doubled:
    """A vocoder with nothing but what is asked of one."""

    spec = MelSpec()

    def __call__(self, log_mel):
        return 2 * log_mel.flatten(1)


def test_a_long_clip_is_written_round_by_round_and_is_the_same(trained, corpus, tmp_path, monkeypatch, inside):
    """A model of windows of 40 frames generates 200: samples leave it before the last round is generated."""
    monkeypatch.setattr(vocoder, "_PIECE_FRAMES", 16)
    monkeypatch.setattr(vocoder, "_AHEAD_FRAMES", 4)
    generator = Host().make("generator", f"cdslm:{trained},steps=2,vocoder=griffin-lim:1,batch=2")
    prompts, rounds, plain = ClipSet.open(corpus / "valid"), [], Continuer._round
    monkeypatch.setattr(Continuer, "_round", lambda self, *rest: rounds.append(1) or plain(self, *rest))
    parts, seen = {}, []
    for part in generator.clip_parts(prompts, range(3), 2.5, 0):
        parts.setdefault(part.number, []).append(part)
        seen.append(len(rounds))
    assert seen[0] < seen[2] < len(rounds)
    whole = list(generator.clip_range(prompts, range(3), 2.5, 0))
    for clip, own in zip(whole, parts.values(), strict=True):
        assert np.array_equal(np.concatenate([part.clip.samples for part in own]), clip.samples)
        assert {part.clip.key for part in own} == {clip.key}
        assert [part.last for part in own] == [False] * (len(own) - 1) + [True]
    command = ("generate", trained, "--prompts", corpus / "valid", "--count", "2", "--seconds", "2.5", "--steps", "2")
    done = inside(*command, "--vocoder", "griffin-lim:1", "--device", "cpu", "--out", tmp_path / "clips")
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "clips").glob("*.flac*"))
    assert files == ["00000.flac", "00001.flac"]
    rows = [json.loads(line) for line in (tmp_path / "clips" / "manifest.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == files
