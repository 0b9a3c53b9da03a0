"""The generators `unit-lm:CHECKPOINT` and `unit-resynthesis:CHECKPOINT`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cdslm_eval.core.audio import Clip, content_digest
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Generator, GeneratorInfo, Options
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from cdslm_eval_unit_lm.generate import Manner, Speaker
    from cdslm_model.train.checkpoint import Checkpoint

__all__ = ["UnitLmGenerator", "UnitLmOptions", "UnitResynthesis", "UnitResynthesisOptions"]

_REQUIRES = {
    "torch": "torch>=2.5",
    "transformers": "transformers>=4.50",
    "safetensors": "safetensors>=0.5",
    "sklearn": "scikit-learn>=1.4",
}


class UnitResynthesisOptions(Options):
    """Options of `unit-resynthesis`.

    Attributes:
        checkpoint: Folder of a run of `unit-lm train` or `unit-lm import`, or a checkpoint in it.
        vocoder: Turns log-mels into samples; the run's own where none is named.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    vocoder: str | None = None
    device: str = "auto"


class UnitLmOptions(UnitResynthesisOptions):
    """Options of `unit-lm`.

    Attributes:
        context: What of each prompt is continued: its "end", its "start", or "none" of it (then no prompts are needed).
        temperature: Logits are divided by it; 0 takes the likeliest unit.
        top_k: Only so many of the likeliest units count; 0 is all.
        batch: Clips that are made at once; changes nothing but speed and memory.
    """

    context: Literal["end", "start", "none"] = "end"
    temperature: float = Field(1.0, ge=0.0, le=100.0)
    top_k: int = Field(0, ge=0)
    batch: int = Field(16, ge=1)


class UnitResynthesis(Generator):
    """Says its prompts again through units alone, without a language model: the ceiling of what `unit-lm` can say."""

    name = "unit-resynthesis"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = _REQUIRES
    positional = "checkpoint"
    prompts = frozenset({"audio"})
    Options = UnitResynthesisOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the units."""
        return {"units": _found(self.options.checkpoint).facts["files"]["units.safetensors"]}

    def info(self) -> GeneratorInfo:
        """Return the rate and how the units are made; there is nothing that has N, D or C."""
        facts = _found(self.options.checkpoint).facts
        return GeneratorInfo(
            rate_hz=facts["mel_spec"]["rate_hz"],
            conventions={**_of_units(facts, self.options.vocoder), "seconds": "as long as each prompt is"},
        )

    def clips(self, prompts: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield prompts as their units say them, each as long as it is; they start over when there are too few."""
        from cdslm_eval_unit_lm.voice import Voice

        del seconds, seed  # a clip says again what is in it, and nothing is drawn
        if not len(prompts):
            raise UsageError("unit-resynthesis says clips again and was given none; name a set as prompts")
        with _told():
            options = self.options
            voice = Voice(_found(options.checkpoint), options.device, options.vocoder)
            for place in range(count):
                prompt = prompts[place % len(prompts)]
                units = voice.hear(prompt)
                if not len(units):
                    raise UsageError(f"{prompt.key}: shorter than one unit ({1 / voice.units.rate_hz:g} s)")
                frames = voice.spec.frames(len(prompt.samples) * voice.spec.rate_hz // prompt.rate_hz)
                yield _clip(_key(prompt, place, len(prompts)), voice.speak(units, frames), voice.spec.rate_hz)


class UnitLmGenerator(Generator):
    """Continues prompts with a discrete autoregressive language model over k-means units."""

    name = "unit-lm"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = _REQUIRES
    positional = "checkpoint"
    prompts = frozenset({"audio"})
    Options = UnitLmOptions

    def __init__(self, options: UnitLmOptions | None = None) -> None:
        super().__init__(options)
        if self.options.context == "none":
            # Without a context it needs no prompts; the host reads this from the instance.
            self.prompts = frozenset()  # type: ignore[misc]  # narrows the class's value for this instance

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the weights and of the units."""
        files = _found(self.options.checkpoint).facts["files"]
        return {"weights": files["weights.safetensors"], "units": files["units.safetensors"]}

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        options, found = self.options, _found(self.options.checkpoint)
        facts, settings = found.facts, found.facts["settings"]
        rate_hz, parameters, per_step = facts["mel_spec"]["rate_hz"], facts["parameters"], facts["per_step"]
        conventions = {
            **facts["conventions"],
            **_of_units(facts, options.vocoder),
            "sampling": f"temperature {options.temperature:g}, top k {options.top_k or 'all'}, "
            f"context {options.context}",
        }
        if per_step is None or not found.step:
            return GeneratorInfo(parameters=parameters, rate_hz=rate_hz, conventions=conventions)
        return GeneratorInfo(
            parameters=parameters,
            tokens=found.step * per_step["tokens"],
            flops=found.step * per_step["flops"],
            rate_hz=rate_hz,
            conventions={
                **conventions,
                "6ND": f"{found.step * per_step['six_nd']:.6g} FLOPs",
                "steps": f"{found.step} of {settings['batch_size']} windows, seed {settings['seed']}",
            },
        )

    def clips(self, prompts: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield continuations of the wanted duration; prompts start over when there are too few."""
        from cdslm_eval_unit_lm.generate import Manner, Speaker

        options = self.options
        if options.context != "none" and not len(prompts):
            raise UsageError("unit-lm continues clips and was given none; name a set as prompts, or say context=none")
        with _told():
            manner = Manner(options.temperature, options.top_k, seed)
            model = Speaker(options.checkpoint, options.device, options.vocoder)
            frames = max(1, round(seconds * model.voice.spec.frame_rate))
            for start in range(0, count, options.batch):
                yield from self._batch(model, manner, prompts, range(start, min(start + options.batch, count)), frames)

    def _batch(
        self, model: Speaker, manner: Manner, prompts: Sequence[Clip], places: range, frames: int
    ) -> Iterator[Clip]:
        keys, contexts = [], []
        for place in places:
            if self.options.context == "none":
                keys.append(f"{place:05d}")
                contexts.append(np.zeros(0, np.int64))
                continue
            prompt = prompts[place % len(prompts)]
            keys.append(_key(prompt, place, len(prompts)))
            contexts.append(model.context(prompt, end=self.options.context == "end"))
        voice = model.voice
        for key, units in zip(keys, model.continuations(contexts, list(places), frames, manner), strict=True):
            yield _clip(key, voice.speak(units, frames), voice.spec.rate_hz)


def _found(path: str) -> Checkpoint:
    from cdslm_eval_unit_lm.voice import find

    with _told():
        return find(path)


def _of_units(facts: Mapping[str, Any], vocoder: str | None) -> dict[str, str]:
    """Return the conventions that belong to the units of a checkpoint."""
    settings = facts["settings"]
    source = f"{settings['encoder']}, layer {settings['layer']}" if settings["encoder"] else "log-mel frames"
    runs = ", runs as one token" if settings["run_length"] else ""
    return {
        "units": f"{settings['units']} of {source}, {facts['unit_rate_hz']:g} a second{runs}",
        "mel": ", ".join(f"{name} {value}" for name, value in facts["mel_spec"].items()),
        "vocoder": vocoder or settings["vocoder"],
    }


def _key(prompt: Clip, place: int, prompts: int) -> str:
    """Return the key of the clip made of a prompt, of its own when the prompts start over."""
    turn = place // prompts
    return prompt.key if turn == 0 else f"{prompt.key}-{turn}"


def _clip(key: str, samples: Any, rate_hz: int) -> Clip:
    return Clip(key=key, samples=samples, rate_hz=rate_hz, digest=content_digest(samples, rate_hz))


@contextmanager
def _told() -> Iterator[None]:
    """Hand on what the model says as an error of the evaluation package."""
    try:
        yield
    except ModelError as error:
        raise (UsageError if error.exit_code == 2 else EvalError)(str(error)) from error
