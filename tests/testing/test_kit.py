"""The built-ins keep the contract, and each check catches the fault that it is named for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from cdslm_eval import Clip, Generator, GeneratorInfo, Mean, Metric, Skipped
from cdslm_eval.builtin.generators.babble import BabbleGenerator
from cdslm_eval.builtin.generators.controls import NoiseGenerator, ReversedGenerator, SilenceGenerator
from cdslm_eval.builtin.metrics.pjsd import PJSD
from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.builtin.recognizers.pocketsphinx import PocketsphinxRecognizer
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.plugin.clip_parts import ClipPart, PartialGenerator
from cdslm_eval.plugin.contract import Options, located
from cdslm_eval.plugin.identity import identify
from cdslm_eval.testing import (
    GENERATOR_CHECKS,
    METRIC_CHECKS,
    ConformanceError,
    check_generator,
    check_metric,
    check_recognizer,
)


@pytest.mark.parametrize("check", check_metric(Signal), ids=str)
def test_signal(check):
    check()


@pytest.mark.parametrize("check", check_metric(PJSD), ids=str)
def test_pjsd(check):
    check()


@pytest.mark.parametrize("recognizer", [PocketsphinxRecognizer, SidecarRecognizer])
def test_recognizers(recognizer):
    for check in check_recognizer(recognizer):
        check()


@pytest.mark.parametrize("generator", [BabbleGenerator, NoiseGenerator, ReversedGenerator, SilenceGenerator])
def test_generators(generator):
    for check in check_generator(generator):
        check()


class Level(Metric):
    """Mean square, the sound base of the unsound ones."""

    name = "level"
    unit = "1"
    statistics: ClassVar = {"level": Mean("level")}

    def measure(self, clips):
        for clip in clips:
            yield {"level": float(np.mean(clip.samples**2))} if len(clip.samples) else Skipped("empty")


class Hangs(Level):
    def measure(self, clips):
        if any(len(clip.samples) == 0 for clip in clips):
            time.sleep(5)
        return super().measure(clips)


class NotANumber(Level):
    def measure(self, clips):
        for clip in clips:
            yield {"level": float("nan") if not clip.samples.any() else 1.0}


class BatchDependent(Level):
    def measure(self, clips):
        loudest = max((float(np.max(np.abs(clip.samples), initial=0)) for clip in clips), default=1.0)
        for clip in clips:
            yield {"level": float(np.mean(np.abs(clip.samples))) / loudest} if len(clip.samples) else Skipped("empty")


class Unseeded(Level):
    def measure(self, clips):
        for _ in clips:
            yield {"level": float(np.random.default_rng().random())}


class Undeclared(Level):
    def measure(self, clips):
        for _ in clips:
            yield {"loudness": 1.0}


class Prints(Level):
    def measure(self, clips):
        for clip in clips:
            os.write(1, b"as a C library does")
            yield {"level": float(np.mean(clip.samples**2))} if len(clip.samples) else Skipped("empty")


class Meddles(Level):
    def measure(self, clips):
        for clip in clips:
            np.multiply(clip.samples, 0.5, out=clip.samples)
            yield {"level": 1.0}


class OldValues(Level):
    """Remembers what it saw first."""

    seen: ClassVar[list[float]] = []

    def measure(self, clips):
        for clip in clips:
            self.seen.append(float(np.mean(clip.samples**2)) if len(clip.samples) else 0.0)
            yield {"level": self.seen[0] + len(self.seen)}


class Drifting(Level):
    def fingerprint(self):
        return {"time": str(time.perf_counter_ns())}


class Closure(Level):
    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.scale: Callable[[float], float] = lambda x: x


FAULTS = {
    "empty clip": Hangs,
    "silence": NotANumber,
    "a batch equals one by one": BatchDependent,
    "same clips, same numbers": Unseeded,
    "measures speech, with its declared columns": Undeclared,
    "leaves samples alone": Meddles,
    "writes nothing to standard output": Prints,
    "order does not matter": OldValues,
    "identity is stable": Drifting,
    "pickles": Closure,
}


@pytest.mark.parametrize(("name", "metric"), FAULTS.items(), ids=str)
def test_a_check_catches_its_fault(name, metric, monkeypatch):
    monkeypatch.setattr("cdslm_eval.testing.measurers._HANG_S", 1.0)
    (check,) = [one for one in METRIC_CHECKS if one.name == name]
    check(Level)
    with pytest.raises((ConformanceError, AttributeError, TypeError) if name == "pickles" else ConformanceError):
        check(metric)


class InIdentity(Options):
    weights: str = __file__


class Declared(Options):
    weights: str = located(__file__)


def test_a_path_in_the_identity_is_told_with_the_way_to_declare_it():
    (check,) = [one for one in METRIC_CHECKS if one.name == "identity is stable"]
    with pytest.raises(ConformanceError, match=r"option 'weights' puts the path .*located"):
        check(type("Placed", (Level,), {"__doc__": "Placed.", "Options": InIdentity}))
    check(type("Placed", (Level,), {"__doc__": "Placed.", "Options": Declared}))


def test_what_is_located_is_named_in_the_identity_but_decides_nothing():
    placed = type("Placed", (Level,), {"Options": Declared})
    here, hub = identify(placed()), identify(placed(Declared(weights="owner/model")))
    assert here.ident == hub.ident
    assert "located" not in here.parts
    assert hub.parts["located"] == {"weights": "owner/model"}


class Tones(Generator):
    """Tones, the sound base of the unsound ones."""

    name = "tones"

    def info(self):
        return GeneratorInfo(rate_hz=8000)

    def clips(self, prompts, count, seconds, seed):
        rng = np.random.default_rng(seed)
        for number in range(count):
            samples = (0.1 * rng.standard_normal(int(seconds * 8000))).astype(np.float32).clip(-1, 1)
            yield Clip(key=str(number), samples=samples, rate_hz=8000)


class Forgetful(Tones):
    def clips(self, prompts, count, seconds, seed):
        return super().clips(prompts, count, seconds, time.perf_counter_ns())


class CountsOn(Tones):
    def clips(self, prompts, count, seconds, seed):
        return super().clips(prompts, count, seconds, seed + count)


class TooLoud(Tones):
    def clips(self, prompts, count, seconds, seed):
        for clip in super().clips(prompts, count, seconds, seed):
            yield Clip(key=clip.key, samples=clip.samples * 100, rate_hz=8000)


class Boasts(Tones):
    def info(self):
        return GeneratorInfo(parameters=0, rate_hz=8000)


class Halves(Tones, PartialGenerator):
    """Sound: the clips of the whole in two parts."""

    def clip_parts(self, prompts, numbers, seconds, seed):
        for number, clip in enumerate(self.clips(prompts, numbers.stop, seconds, seed)):
            half = len(clip.samples) // 2
            yield ClipPart(number, Clip(key=clip.key, samples=clip.samples[:half], rate_hz=8000), False)
            yield ClipPart(number, Clip(key=clip.key, samples=clip.samples[half:], rate_hz=8000), True)


class Drops(Halves):
    def clip_parts(self, prompts, numbers, seconds, seed):
        parts = super().clip_parts(prompts, numbers, seconds, seed)
        return (part for part in parts if part.number != 1 or part.last)


class NeverEnds(Halves):
    def clip_parts(self, prompts, numbers, seconds, seed):
        for part in super().clip_parts(prompts, numbers, seconds, seed):
            yield ClipPart(part.number, part.clip, False)


def test_sound_parts_pass():
    for check in check_generator(Halves):
        check()


@pytest.mark.parametrize(
    ("name", "generator"),
    {
        "parts make the clips of the whole": Drops,
        "parts make the clips of the whole ": NeverEnds,
        "same seed, same clips": Forgetful,
        "a clip does not depend on the count": CountsOn,
        "generates the clips that are requested": TooLoud,
        "info is stable and honest": Boasts,
    }.items(),
    ids=str,
)
def test_a_generator_check_catches_its_fault(name, generator):
    (check,) = [one for one in GENERATOR_CHECKS if one.name == name.strip()]
    check(Tones)
    with pytest.raises(ConformanceError):
        check(generator)


def test_a_hook_module_that_imports_a_model_library_is_told(tmp_path, monkeypatch):
    (tmp_path / "heavy_hook.py").write_text(
        "import onnxruntime\nfrom cdslm_eval import Mean, Metric\n"
        "class Heavy(Metric):\n    name = 'heavy'\n    statistics = {'heavy': Mean('x')}\n"
        "    def measure(self, clips):\n        yield from ({'x': 1.0} for _ in clips)\n"
    )
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    import heavy_hook

    (check,) = [one for one in METRIC_CHECKS if "hook" in one.name]
    with pytest.raises(ConformanceError, match="imports onnxruntime"):
        check(heavy_hook.Heavy)
