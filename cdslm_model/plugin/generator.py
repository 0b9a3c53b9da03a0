"""The generator `cdslm`: a trained model that continues prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cdslm_eval.core.audio import Clip, content_digest
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Generator, GeneratorInfo, Options
from cdslm_model.errors import ModelError

if TYPE_CHECKING:
    from cdslm_model.sample.continuation import Continuer, Manner
    from cdslm_model.train.checkpoint import Checkpoint

__all__ = ["CdslmGenerator", "CdslmOptions"]


class CdslmOptions(Options):
    """Options of `cdslm`.

    Attributes:
        checkpoint: Folder of a run of `cdslm train`, or a checkpoint in it.
        context: What of each prompt is continued: its "end", its "start", or "none" of it (then no prompts are needed).
        guidance: Weight of the context against silence; 1 is the model as trained, 0 ignores the context.
        steps: Steps of the sampler.
        sampler: "dpm-solver-2m", "heun", "ddim", or "euler" for flow matching.
        vocoder: Turns log-mels into samples; the run's own where none is named.
        batch: Clips that are made at once; changes nothing but speed and memory.
        device: "auto", "cpu", "cuda" or "cuda:N".
    """

    checkpoint: str
    context: Literal["end", "start", "none"] = "end"
    guidance: float = Field(1.0, ge=0.0, le=100.0)
    steps: int = Field(32, ge=1, le=10_000)
    sampler: str = "dpm-solver-2m"
    vocoder: str | None = None
    batch: int = Field(8, ge=1)
    device: str = "auto"


class CdslmGenerator(Generator):
    """Continues prompts with a continuous diffusion spoken language model."""

    name = "cdslm"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.5", "safetensors": "safetensors>=0.5"}
    positional = "checkpoint"
    prompts = frozenset({"audio"})
    Options = CdslmOptions

    def __init__(self, options: CdslmOptions | None = None) -> None:
        super().__init__(options)
        if self.options.context == "none":
            # Without a context it needs no prompts; the host reads this from the instance.
            self.prompts = frozenset()  # type: ignore[misc]  # narrows the class's value for this instance

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the weights that generate."""
        return {"weights": self._found().facts["files"]["ema.safetensors"]}

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        found = self._found()
        facts, step = found.facts, found.step
        per_step, settings = facts["per_step"], facts["settings"]
        spec, options = facts["mel_spec"], self.options
        process = settings["process"]
        return GeneratorInfo(
            parameters=facts["parameters"],
            tokens=step * per_step["tokens"],
            flops=step * per_step["flops"],
            rate_hz=spec["rate_hz"],
            conventions={
                **facts["conventions"],
                "6ND": f"{step * per_step['six_nd']:.6g} FLOPs",
                "steps": f"{step} of {settings['batch_size']} windows, seed {settings['seed']}",
                "mel": ", ".join(f"{name} {value}" for name, value in spec.items()),
                "vocoder": options.vocoder or settings["vocoder"],
                "diffusion": ", ".join(f"{name} {value}" for name, value in process.items()),
                "sampling": f"{options.sampler}, {options.steps} steps, guidance {options.guidance:g}, "
                f"context {options.context}",
            },
        )

    def clips(self, prompts: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield continuations of about the wanted duration; prompts start over when there are too few."""
        from cdslm_model.sample.continuation import Continuer, Manner, in_batches

        options = self.options
        if options.context != "none" and not len(prompts):
            raise UsageError("cdslm continues clips and was given none; name a set as prompts, or say context=none")
        with _told():
            manner = Manner(options.sampler, options.steps, options.guidance, seed)
            model = Continuer(options.checkpoint, options.device, options.vocoder)
            for places in in_batches(count, options.batch):
                yield from self._batch(model, manner, prompts, places, round(seconds * model.spec.frame_rate))

    def _batch(
        self, model: Continuer, manner: Manner, prompts: Sequence[Clip], places: range, frames: int
    ) -> Iterator[Clip]:
        import torch

        keys, contexts = [], []
        for place in places:
            if self.options.context == "none":
                keys.append(f"{place:05d}")
                contexts.append(torch.empty(0, model.config.mels))
                continue
            prompt = prompts[place % len(prompts)]
            turn = place // len(prompts)
            keys.append(prompt.key if turn == 0 else f"{prompt.key}-{turn}")
            heard = model.log_mel(prompt.at_rate(model.spec.rate_hz).samples)
            wanted = model.config.context_frames
            contexts.append(heard[:wanted] if self.options.context == "start" else heard[-wanted:])
        for key, log_mel in zip(keys, model.continuations(contexts, list(places), frames, manner), strict=True):
            samples = model.speak(log_mel)
            rate_hz = model.spec.rate_hz
            yield Clip(key=key, samples=samples, rate_hz=rate_hz, digest=content_digest(samples, rate_hz))

    def _found(self) -> Checkpoint:
        from cdslm_model.train import checkpoint

        with _told():
            return checkpoint.find(self.options.checkpoint)


@contextmanager
def _told() -> Iterator[None]:
    """Hand on what the model says as an error of the evaluation package."""
    try:
        yield
    except ModelError as error:
        raise (UsageError if error.exit_code == 2 else EvalError)(str(error)) from error
