"""The generators `unit-lm:CHECKPOINT` and `unit-resynthesis:CHECKPOINT`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import GeneratorInfo
from cdslm_eval.plugin.scorer import Score, Scorer
from cdslm_model.plugin import (
    CheckpointGenerator,
    CheckpointOptions,
    ContinuationOptions,
    ContinuingGenerator,
    generated_clip,
    prompt_key,
    reraised,
    vocoder_weights,
)

if TYPE_CHECKING:
    from cdslm_eval_unit_lm.generate import UnitContinuer
    from cdslm_model import Checkpoint

__all__ = ["UnitLmGenerator", "UnitLmOptions", "UnitResynthesis"]

_REQUIRES = {
    "torch": "torch>=2.5",
    "transformers": "transformers>=4.50",
    "safetensors": "safetensors>=0.5",
    "sklearn": "scikit-learn>=1.4",
}


class UnitLmOptions(ContinuationOptions):
    """Options of `unit-lm`.

    Attributes:
        temperature: Divisor of the logits; 0 takes the most probable unit.
        top_k: Number of most probable units that are sampled from; 0 is all.
    """

    batch: int = Field(16, ge=1)
    temperature: float = Field(1.0, ge=0.0, le=100.0)
    top_k: int = Field(0, ge=0)


class _UnitGenerator(CheckpointGenerator):
    """Generates with the units of a checkpoint of a unit language model."""

    requires: ClassVar[Mapping[str, str]] = _REQUIRES

    def find(self, path: str) -> Checkpoint:
        """Return the checkpoint of a unit language model."""
        from cdslm_eval_unit_lm.codec import find_unit_checkpoint

        return find_unit_checkpoint(path)


class UnitResynthesis(_UnitGenerator):
    """Resynthesises its prompts from units, without a language model: the ceiling of what `unit-lm` can generate."""

    name = "unit-resynthesis"
    version = "1"
    prompts = frozenset({"audio"})
    Options = CheckpointOptions
    _device = ""  # of the worker, where the options leave it open

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Take the worker's device where the options name none."""
        self._device = device if self.options.device == "auto" else ""
        yield

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the units and of a trained vocoder."""
        facts = self.checkpoint().facts
        units = {"units": facts["files"]["units.safetensors"]}
        return units | vocoder_weights(self.vocoder())

    def info(self) -> GeneratorInfo:
        """Return the rate and the source of the units; N, D and C do not apply."""
        facts = self.checkpoint().facts
        return GeneratorInfo(
            rate_hz=facts["mel_spec"]["rate_hz"],
            conventions={**_unit_conventions(facts, self.options.vocoder), "seconds": "as long as each prompt is"},
        )

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield prompts resynthesised from their units, each as long as it is; they repeat where there are too few."""
        from cdslm_eval_unit_lm.codec import UnitCodec

        del seconds, seed  # a clip keeps its length, and nothing is random
        if not len(prompts):
            raise UsageError("unit-resynthesis resynthesises clips and has no prompts; name a set as prompts")
        with reraised():
            codec = UnitCodec(self.checkpoint(), self._device or self.options.device, self.vocoder())
            for number in numbers:
                prompt = prompts[number % len(prompts)]
                units = codec.encode(prompt)
                if not len(units):
                    raise UsageError(f"{prompt.key}: shorter than one unit ({1 / codec.units.rate_hz:g} s)")
                frames = codec.spec.frames(len(prompt.samples) * codec.spec.rate_hz // prompt.rate_hz)
                samples = codec.decode(units, frames)
                yield generated_clip(prompt_key(prompt, number, len(prompts)), samples, codec.spec.rate_hz)


class UnitLmGenerator(_UnitGenerator, ContinuingGenerator, Scorer):
    """Continues prompts with a discrete autoregressive language model over k-means units."""

    name = "unit-lm"
    version = "1"
    Options = UnitLmOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the weights, of the units and of a trained vocoder."""
        from cdslm_eval_unit_lm.codec import weights_file

        saved = self.checkpoint()
        facts, weights = saved.facts, f"{weights_file(saved)}.safetensors"
        files = {"weights": facts["files"][weights], "units": facts["files"]["units.safetensors"]}
        return files | vocoder_weights(self.vocoder())

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        options, latest = self.options, self.checkpoint()
        conventions = {
            **_unit_conventions(latest.facts, options.vocoder),
            "sampling": f"temperature {options.temperature:g}, top k {options.top_k or 'all'}, "
            f"context {options.context}",
        }
        return self.counted(latest.facts, latest.step, conventions)

    def load(self, seed: int) -> UnitContinuer:
        """Return the model of the checkpoint, with the sampling configuration of the options."""
        from cdslm_eval_unit_lm.generate import SamplingConfig, UnitContinuer

        options = self.options
        sampling = SamplingConfig(options.temperature, options.top_k, seed)
        return UnitContinuer(self.checkpoint().folder, sampling, self.device, self.vocoder())

    def generate_batch(
        self, model: UnitContinuer, prompts: Sequence[Clip | None], numbers: Sequence[int], seconds: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of one batch of continuations."""
        from_end = self.options.context == "end"
        contexts = [
            np.zeros(0, np.int64) if prompt is None else model.context(prompt, end=from_end) for prompt in prompts
        ]
        frames = max(1, round(seconds * model.codec.spec.frame_rate))
        for units in model.continuations(contexts, numbers, frames):
            yield model.codec.decode(units, frames)

    def scores(self, clips: Sequence[Clip], *, context_s: float = 0.0, seed: int = 0) -> Iterator[Score]:
        """Yield the exact log-probability of the units of each clip after its context, in nats."""
        with reraised():
            model = self.model(seed)
            for clip in clips:
                total, tokens = model.score(clip, context_s)
                seconds = clip.seconds - context_s
                yield Score(total=total, per_second=total / seconds, frames=tokens, std_error=0.0, kind="nats")


def _unit_conventions(facts: Mapping[str, Any], vocoder: str | None) -> dict[str, str]:
    """Return the conventions that belong to the units of a checkpoint."""
    settings = facts["settings"]
    source = f"{settings['encoder']}, layer {settings['layer']}" if settings["encoder"] else "log-mel frames"
    runs = ", runs as one token" if settings["run_length"] else ""
    return {
        "units": f"{settings['units']} of {source}, {facts['unit_rate_hz']:g} a second{runs}",
        "mel": ", ".join(f"{name} {value}" for name, value in facts["mel_spec"].items()),
        "vocoder": vocoder or settings["vocoder"],
    }
