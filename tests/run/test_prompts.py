"""Parts of long prompts: the same samples at whole seconds; all of what is short, packed or recognized."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.spans import Span
from cdslm_eval.plugin.prompts import prompt_part
from cdslm_eval.run.prompts import Prompts

RATE_HZ = 4000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    rng = np.random.default_rng(0)
    for name, seconds in (("a", 80.4), ("b", 50.0)):
        sf.write(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, int(seconds * RATE_HZ)), RATE_HZ, "FLOAT")
    return folder


def test_a_part_of_a_long_prompt_is_cut_from_it_at_whole_seconds(folder):
    clips = ClipSet.open(folder)
    prompts, whole = Prompts(clips, None), clips[0].samples
    end = prompt_part(prompts, 0, 2.0, from_end=True)
    assert end.key == "a"
    np.testing.assert_array_equal(end.samples, whole[77 * RATE_HZ :])  # 80.4 - 2 - 1, rounded down
    start = prompt_part(prompts, 0, 2.0, from_end=False)
    np.testing.assert_array_equal(start.samples, whole[: 3 * RATE_HZ])
    # a part of a recording begins and ends in it
    cut = ClipSet("cut", [clips.sources[0]._replace(span=Span(5.0, 75.0))])
    np.testing.assert_array_equal(
        prompt_part(Prompts(cut, None), 0, 2.0, from_end=True).samples, whole[72 * RATE_HZ : 75 * RATE_HZ]
    )


def test_what_is_short_in_memory_or_recognized_is_whole(folder):
    clips = ClipSet.open(folder)
    in_memory = [clips[0]]
    for prompts, index in (
        (Prompts(clips, None), 1),
        (Prompts(clips, [("a",), ("b",)]), 0),
        (Prompts(ClipSet.from_clips(in_memory), None), 0),
        (in_memory, 0),
    ):
        for from_end in (True, False):
            np.testing.assert_array_equal(
                prompt_part(prompts, index, 2.0, from_end=from_end).samples, prompts[index].samples
            )


def test_invalid_samples_of_a_part_are_refused(tmp_path):
    samples = np.zeros(80 * RATE_HZ)
    samples[-10] = np.nan
    sf.write(tmp_path / "bad.wav", samples, RATE_HZ, "FLOAT")
    prompts = Prompts(ClipSet.open(tmp_path), None)
    assert prompts.part(0, 2.0, from_end=False).seconds == 3
    with pytest.raises(EvalError, match="bad"):
        prompts.part(0, 2.0, from_end=True)
