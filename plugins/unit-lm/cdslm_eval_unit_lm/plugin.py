"""The generator `unit-lm:CHECKPOINT`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from cdslm_eval.audio import Clip, content_digest
from cdslm_eval.contract import Generator, GeneratorInfo, Options
from cdslm_eval.errors import EvalError, UsageError
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from cdslm_eval_unit_lm.generate import Manner, Speaker
    from cdslm_model.checkpoint import Checkpoint

__all__ = ["UnitLmGenerator", "UnitLmOptions"]


class UnitLmOptions(Options):
    """Options of `unit-lm`.

    Attributes:
        checkpoint: Folder of a run of `unit-lm train` or `unit-lm import`, or a checkpoint in it.
        context: What of each prompt is continued: its "end", its "start", or "none" of it (then no prompts are needed).
        temperature: Logits are divided by it; 0 takes the likeliest unit.
        top_k: Only so many of the likeliest units count; 0 is all.
        vocoder: Turns log-mels into samples; the run's own where none is named.
        batch: Clips that are made at once; changes nothing but speed and memory.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    context: Literal["end", "start", "none"] = "end"
    temperature: float = Field(1.0, ge=0.0, le=100.0)
    top_k: int = Field(0, ge=0)
    vocoder: str | None = None
    batch: int = Field(16, ge=1)
    device: str = "auto"


class UnitLmGenerator(Generator):
    """Continues prompts with a discrete autoregressive language model over k-means units."""

    name = "unit-lm"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {
        "torch": "torch>=2.5",
        "transformers": "transformers>=4.50",
        "safetensors": "safetensors>=0.5",
        "sklearn": "scikit-learn>=1.4",
    }
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
        files = self._found().facts["files"]
        return {"weights": files["weights.safetensors"], "units": files["units.safetensors"]}

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        found = self._found()
        facts, settings, options = found.facts, found.facts["settings"], self.options
        per_step = facts["per_step"]
        source = f"{settings['encoder']}, layer {settings['layer']}" if settings["encoder"] else "log-mel frames"
        drawn = f"temperature {options.temperature:g}, top k {options.top_k or 'all'}, context {options.context}"
        conventions = {
            **facts["conventions"],
            "units": f"{settings['units']} of {source}, {facts['unit_rate_hz']:g} a second"
            + (", runs as one token" if settings["run_length"] else ""),
            "mel": ", ".join(f"{name} {value}" for name, value in facts["mel_spec"].items()),
            "vocoder": options.vocoder or settings["vocoder"],
            "sampling": drawn,
        }
        if per_step is None:
            return GeneratorInfo(
                parameters=facts["parameters"], rate_hz=facts["mel_spec"]["rate_hz"], conventions=conventions
            )
        return GeneratorInfo(
            parameters=facts["parameters"],
            tokens=found.step * per_step["tokens"],
            flops=found.step * per_step["flops"],
            rate_hz=facts["mel_spec"]["rate_hz"],
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
            frames = max(1, round(seconds * model.spec.frame_rate))
            for start in range(0, count, options.batch):
                yield from self._batch(model, manner, prompts, range(start, min(start + options.batch, count)), frames)

    def _batch(
        self, model: Speaker, manner: Manner, prompts: Sequence[Clip], places: range, frames: int
    ) -> Iterator[Clip]:
        from cdslm_eval_unit_lm.corpus import Prompt

        keys, contexts = [], []
        for place in places:
            if self.options.context == "none":
                keys.append(f"{place:05d}")
                contexts.append(np.zeros(0, np.int64))
                continue
            prompt = prompts[place % len(prompts)]
            turn = place // len(prompts)
            keys.append(prompt.key if turn == 0 else f"{prompt.key}-{turn}")
            contexts.append(model.context(Prompt(prompt, model.log_mel), end=self.options.context == "end"))
        for key, units in zip(keys, model.continuations(contexts, list(places), frames, manner), strict=True):
            samples, rate_hz = model.speak(units, frames), model.spec.rate_hz
            yield Clip(key=key, samples=samples, rate_hz=rate_hz, digest=content_digest(samples, rate_hz))

    def _found(self) -> Checkpoint:
        from cdslm_eval_unit_lm.generate import find

        with _told():
            return find(self.options.checkpoint)


@contextmanager
def _told() -> Iterator[None]:
    """Hand on what the model says as an error of the evaluation package."""
    try:
        yield
    except ModelError as error:
        raise (UsageError if error.exit_code == 2 else EvalError)(str(error)) from error
