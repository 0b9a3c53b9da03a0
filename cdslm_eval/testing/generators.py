"""What every generator must keep, each demand a check of its own."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Sequence
from functools import partial

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.clip_parts import PartialGenerator
from cdslm_eval.plugin.contract import Generator, GeneratorInfo
from cdslm_eval.testing.check import Bound, Check, Subject, bind, demand, in_time, no_heavy_import
from cdslm_eval.testing.clips import spoken

__all__ = ["GENERATOR_CHECKS", "check_generator"]

_COUNT, _SECONDS, _SEED = 3, 1.5, 5
_HANG_S = 300.0


def _declares(generator: Generator) -> None:
    from cdslm_eval.plugin.host import KINDS, complaint

    problem = complaint(type(generator), "generator", KINDS["generator"][1])
    demand(not problem, f"{type(generator).__name__}: {problem}")
    known = {"audio", "text", "phones"}
    demand(set(generator.prompts) <= known, f"prompts may name {sorted(known)}, not {sorted(generator.prompts)}")


def _info(generator: Generator) -> None:
    info = generator.info()
    demand(isinstance(info, GeneratorInfo), f"info() gave {info!r}")
    demand(info == generator.info(), "info() changes from one call to the next")
    for name in ("parameters", "tokens", "flops", "rate_hz"):
        value = getattr(info, name)
        good = value is None or (math.isfinite(value) and value > 0)
        demand(good, f"info().{name} is {value!r}; what is not known is None")
    strings = all(isinstance(earlier, str) for pair in info.conventions.items() for earlier in pair)
    demand(strings, f"info().conventions must map strings to strings, not {dict(info.conventions)!r}")


def _pickles(generator: Generator) -> None:
    again = pickle.loads(pickle.dumps(generator))  # noqa: S301 - our own bytes
    demand(again.options == generator.options, "its options are not the same after pickling")


def _clips(generator: Generator) -> None:
    clips = _made(generator, _COUNT)
    demand(len(clips) == _COUNT, f"{_COUNT} clips were requested, it generated {len(clips)}")
    demand(len({clip.key for clip in clips}) == len(clips), f"keys are not unique: {[clip.key for clip in clips]}")
    rate = generator.info().rate_hz
    for clip in clips:
        demand(clip.samples.dtype == np.float32, f"{clip.key}: samples are {clip.samples.dtype}, not float32")
        demand(clip.samples.ndim == 1, f"{clip.key}: samples have shape {clip.samples.shape}, mono is [samples]")
        demand(len(clip.samples) > 0, f"{clip.key}: no samples")
        demand(bool(np.isfinite(clip.samples).all()), f"{clip.key}: samples that are not finite")
        demand(float(np.abs(clip.samples).max()) <= 1.0, f"{clip.key}: samples outside [-1, 1]")
        demand(rate is None or clip.rate_hz == rate, f"{clip.key}: {clip.rate_hz} Hz, but info() has {rate}")


def _none(generator: Generator) -> None:
    demand(_made(generator, 0) == [], "0 clips were requested, it generated some")


def _same_seed(generator: Generator) -> None:
    _demand_equal(_made(generator, _COUNT), _made(generator, _COUNT), "made again from the same seed")


def _prefix(generator: Generator) -> None:
    _demand_equal(_made(generator, _COUNT)[:1], _made(generator, 1), "made alone: a clip must not depend on the count")


def _ranges(generator: Generator) -> None:
    first = generator.batch_clips
    demand(isinstance(first, int) and first >= 1, f"batch_clips is {first!r}, not a whole number from 1 on")
    first = first if first < _COUNT else 0  # a batch more of a costly model would show no more than the whole does
    numbers = range(first, _COUNT)
    apart = in_time(
        lambda: list(generator.clip_range(_prompts(generator), numbers, _SECONDS, _SEED)), _HANG_S, f"making {numbers}"
    )
    demand(len(apart) == len(numbers), f"{len(numbers)} clips from {first} on were requested, it made {len(apart)}")
    _demand_equal(_made(generator, _COUNT)[first:], apart, f"made by clip_range from {first} on")


def _parts(generator: Generator) -> None:
    """Demand that the clips that are written in parts are those that a whole run holds."""
    if not isinstance(generator, PartialGenerator):
        return
    door, prompts, numbers = generator, _prompts(generator), range(_COUNT)
    parts = in_time(
        lambda: list(door.clip_parts(prompts, numbers, _SECONDS, _SEED)), _HANG_S, f"making parts of {numbers}"
    )
    joined = []
    for number in numbers:
        own = [part for part in parts if part.number == number]
        ends = [part.last for part in own]
        demand(ends.count(True) == 1 and ends[-1], f"clip {number}: its last part, and no other, must say so")
        demand(len({(part.clip.key, part.clip.rate_hz) for part in own}) == 1, f"clip {number}: parts of several clips")
        joined.append(dataclasses.replace(own[0].clip, samples=np.concatenate([part.clip.samples for part in own])))
    demand(
        len(parts) == sum(part.number in numbers for part in parts), "it made parts of clips that were not requested"
    )
    _demand_equal(_made(generator, _COUNT), joined, "joined of its parts")


def _lazy(generator: Generator) -> None:
    """Demand that the first clip comes before the last is made, so that a run can be resumed and watched."""
    stream = generator.clips(_prompts(generator), 1_000_000, _SECONDS, _SEED)
    first = in_time(partial(next, stream), _HANG_S, "the first of a million clips")
    demand(isinstance(first, Clip), f"it yields {type(first).__name__}, not Clip")


def _without_prompts(generator: Generator) -> None:
    if not generator.prompts:
        return
    try:
        clips = list(generator.clips([], 1, _SECONDS, _SEED))
    except EvalError as error:
        demand(bool(str(error)), "an error without a sentence")
        return
    demand(
        False,
        f"without the prompts that it declares it generated {len(clips)} clips; raise UsageError with what it needs",
    )


def _hands_off(generator: Generator) -> None:
    prompts = _prompts(generator)
    before = [clip.samples.tobytes() for clip in prompts]
    list(generator.clips(prompts, 1, _SECONDS, _SEED))
    demand([clip.samples.tobytes() for clip in prompts] == before, "it changes the samples of its prompts")


def _prompts(generator: Generator) -> Sequence[Clip]:
    """Return spoken prompts that carry what is declared, and nothing else."""
    declared = set(generator.prompts)
    return [
        dataclasses.replace(
            clip,
            text=clip.text if "text" in declared else None,
            phones=clip.phones if "phones" in declared else None,
            reference=None,
        )
        for clip in (spoken() if declared else ())
    ]


def _made(generator: Generator, count: int) -> list[Clip]:
    return list(
        in_time(
            lambda: list(generator.clips(_prompts(generator), count, _SECONDS, _SEED)), _HANG_S, f"making {count} clips"
        )
    )


def _demand_equal(first: Sequence[Clip], second: Sequence[Clip], how: str) -> None:
    for earlier, later in zip(first, second, strict=True):
        same = (
            earlier.key == later.key
            and earlier.rate_hz == later.rate_hz
            and np.array_equal(earlier.samples, later.samples)
        )
        demand(same, f"clip {earlier.key} is another one when {how}")


GENERATOR_CHECKS = (
    Check("declares itself", _declares),
    Check("info is stable and honest", _info),
    Check("pickles", _pickles),
    Check("its hook imports no model library", no_heavy_import),
    Check("generates the clips that are requested", _clips),
    Check("generates none when none is requested", _none),
    Check("same seed, same clips", _same_seed),
    Check("a clip does not depend on the count", _prefix),
    Check("a range holds the clips of the whole", _ranges),
    Check("parts make the clips of the whole", _parts),
    Check("yields as it goes", _lazy),
    Check("names what it needs", _without_prompts),
    Check("leaves prompts alone", _hands_off),
)


def check_generator(generator: Subject) -> list[Bound]:
    """Return the checks that every generator must pass, each ready to be called.

    Args:
        generator: The generator's class, an instance, or a function without arguments that returns one.
    """
    return bind(GENERATOR_CHECKS, generator)
