"""The jump at a border is like any other inside speech, larger where a foreign clip follows, and follows the prompt."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import cdslm_eval
from cdslm_eval import Clip, Failed, Generator, GeneratorInfo, Skipped, UsageError
from cdslm_eval.builtin.generators.controls import ReversedGenerator
from cdslm_eval.builtin.metrics.join import JoinJump
from cdslm_eval.core.audio import write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.testing import check_metric
from cdslm_eval.testing.clips import spoken

RATE = 16_000


@pytest.mark.parametrize("check", check_metric(JoinJump), ids=str)
def test_the_contract(check):
    check()


def rows(samples, borders):
    clips = [
        Clip(key=str(n), samples=s.astype(np.float32), rate_hz=RATE, prompt_seconds=b / RATE)
        for n, (s, b) in enumerate(zip(samples, borders, strict=True))
    ]
    return list(JoinJump().measure(clips))


def test_speech_cut_anywhere_and_rejoined_with_itself_is_like_any_other_place_and_foreign_speech_is_not():
    rng = np.random.default_rng(3)
    speech = np.concatenate([clip.samples for clip in spoken()])
    borders = rng.integers(RATE, len(speech) - RATE, 150)
    own = rows([speech] * 150, borders)
    # the border is drawn evenly, so that its rank is even over 0..1: .5 with a standard error of .024
    assert abs(np.mean([row["rank"] for row in own]) - 0.5) < 0.08
    assert abs(np.mean([row["border_db"] for row in own]) / np.mean([row["prompt_db"] for row in own]) - 1) < 0.15
    # the same places, but what follows is from somewhere else, 20 dB down
    foreign = [np.concatenate([speech[:b], 0.1 * np.roll(speech, 2 * RATE)[b:]]) for b in borders]
    jumped = rows(foreign, borders)
    assert np.mean([row["rank"] for row in jumped]) > 0.75
    assert np.mean([row["border_db"] for row in jumped]) > 1.5 * np.mean([row["border_db"] for row in own])


def test_a_step_of_known_size_in_noise():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(4 * RATE) * 0.1
    stepped = np.concatenate([noise[: 2 * RATE], noise[2 * RATE :] / 10])
    flat, jump = rows([noise, stepped], [2 * RATE] * 2)
    # independent of the jump of white noise itself: both add in squares
    assert jump["border_db"] == pytest.approx(np.hypot(20, flat["border_db"]), rel=0.2)
    assert jump["rank"] == 1.0
    assert jump["prompt_db"] == pytest.approx(jump["continuation_db"], rel=0.1)


def test_clips_that_hold_no_border_are_not_scored():
    noise = np.random.default_rng(0).standard_normal(2 * RATE) * 0.1
    early, late, beyond = rows([noise] * 3, [RATE // 10, 2 * RATE - 100, 3 * RATE])
    assert isinstance(early, Skipped)
    assert isinstance(late, Skipped)
    assert isinstance(beyond, Failed)
    assert "3 s is no shorter than the clip of 2 s" in beyond.reason


class Echo(Generator):
    """Continues each prompt with its own beginning, at half the rate."""

    name = "echo"
    prompts = frozenset({"audio"})

    def info(self):
        return GeneratorInfo()

    def clips(self, prompts, count, seconds, seed):
        for number in range(count):
            prompt = prompts[number % len(prompts)]
            turn = number // len(prompts)
            made = prompt.at_rate(8000).samples[: round(8000 * seconds)]
            yield Clip(
                key=prompt.key + (f"-{turn}" if turn else ""), samples=made, rate_hz=8000, text="la", phones=("a",)
            )


def test_prompts_are_written_in_front_and_scored_from_the_manifest(tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    for clip in spoken()[:3]:
        write_flac(folder / f"{clip.key}.flac", clip.samples, RATE)
    made = cdslm_eval.generate(Echo, tmp_path / "made", prompts=folder, count=4, seconds=0.5, keep_prompts=True)
    assert [source.key for source in made.sources] == ["clip0", "clip1", "clip2", "clip0-1"]
    prompt = ClipSet.open(folder)[0]
    assert made.sources[3].prompt_seconds == pytest.approx(prompt.seconds, abs=1e-4)
    assert made[3].seconds == pytest.approx(prompt.seconds + 0.5, abs=1e-3)
    assert made.sources[0].phones is None
    alone = ClipSet.open(tmp_path / "made" / "continuations.jsonl")
    assert alone[3].seconds == pytest.approx(0.5, abs=1e-3)
    assert alone.sources[3].text == "la"
    expected = prompt.at_rate(8000).samples[:4000]
    assert np.abs(alone[0].samples[: len(expected)] - expected).max() < 1e-4
    store = tmp_path / "s.cdslm"
    result = cdslm_eval.score(
        {"echo": tmp_path / "made"}, metrics="join_jump", store=store, jobs=1, note=lambda _: None
    )
    estimate = result.estimate("join_jump")
    assert estimate.n_scored == 4
    assert estimate.value > 0
    # another border, another row: the length of the prompt is part of what is measured
    manifest = tmp_path / "made" / "moved.jsonl"
    lines = [json.loads(line) for line in (tmp_path / "made" / "manifest.jsonl").read_text().splitlines()]
    manifest.write_text("\n".join(json.dumps({**line, "prompt_seconds": 0.4}) for line in lines))
    moved = cdslm_eval.score({"echo": manifest}, metrics="join_jump", store=store, jobs=1, note=lambda _: None)
    assert moved.estimate("join_jump").value != estimate.value


def test_prompts_that_cannot_be_found_or_are_not_continued_are_refused(tmp_path):
    class Renames(Echo):
        name = "renames"

        def clips(self, prompts, count, seconds, seed):
            for clip in super().clips(prompts, count, seconds, seed):
                yield dataclasses.replace(clip, key="new " + clip.key)

    clips = ClipSet.from_clips(spoken()[:2])
    with pytest.raises(UsageError, match="clip 'new clip0': no prompt has this key"):
        cdslm_eval.generate(Renames, tmp_path / "a", prompts=clips, count=2, seconds=0.5, keep_prompts=True)
    with pytest.raises(UsageError, match="silence: continues no prompts"):
        cdslm_eval.generate("silence", tmp_path / "b", count=2, seconds=0.5, keep_prompts=True)
    with pytest.raises(UsageError, match="holds clips of another request"):
        cdslm_eval.generate(ReversedGenerator, tmp_path / "a", prompts=clips, count=2, seconds=0.5)
