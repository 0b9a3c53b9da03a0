"""The generator `cdslm`: a trained diffusion model that continues prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.clip_parts import ClipPart, PartialGenerator
from cdslm_eval.plugin.contract import GeneratorInfo
from cdslm_eval.plugin.scorer import Score, Scorer
from cdslm_model.plugin.continuing import (
    ContinuationOptions,
    ContinuingGenerator,
    generated_clip,
    reraised,
    vocoder_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cdslm_model.sample.continuation import Continuer

__all__ = ["CdslmGenerator", "CdslmOptions"]


class CdslmOptions(ContinuationOptions):
    """Options of `cdslm`.

    Attributes:
        guidance: Weight of the context against silence; 1 is the model as trained, 0 ignores the context.
        steps: Steps of the sampler.
        sampler: "dpm-solver-2m", "heun", "ddim", or "euler" for flow matching.
        silence: What stands for an absent context: the "quiet" frame of the training speech, or "digital" silence.
        rescale: Share by which guided speech returns to the level and spread that it has without guidance.
        overlap: Last frames of what is continued that each round generates once more, as known speech.
        precision: Of the network, "float32" or "bfloat16"; "auto" becomes bfloat16 where this process has a GPU to
            generate on, and float32 elsewhere. Workers take what the calling process has chosen.
        compile: Whether torch compiles the steps; None is on a GPU. Moves speed and rounding only.
        score: Of given speech after a context: "gain" is how much the context adds to its bound, against a quiet one;
            "bound" is the bound itself, as it is without a context.
        draws: Of all noise levels in a score, 16 evaluations of the network each; their spread is its standard error.
    """

    guidance: float = Field(1.0, ge=0.0, le=100.0)
    steps: int = Field(32, ge=1, le=10_000)
    sampler: str = "dpm-solver-2m"
    silence: Literal["quiet", "digital"] = "quiet"
    rescale: float = Field(0.7, ge=0.0, le=1.0)
    overlap: int = Field(0, ge=0, le=10_000)
    score: Literal["gain", "bound"] = "gain"
    draws: int = Field(4, ge=2, le=10_000)
    # the fingerprint has the precision, and compiling moves no more than the batch does
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", exclude=True)
    compile: bool | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _choose_precision(self) -> Self:
        """Replace "auto" by what it means here: samples differ by it, and workers may have other devices."""
        if self.precision == "auto":
            # frozen options are set this way by pydantic itself
            object.__setattr__(self, "precision", "bfloat16" if _has_gpu(self.device) else "float32")
        return self


class CdslmGenerator(ContinuingGenerator, PartialGenerator, Scorer):
    """Continues prompts with a continuous diffusion spoken language model."""

    name = "cdslm"
    version = "4"
    Options = CdslmOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the weights that generate, a trained vocoder's too, and a precision below float32."""
        rounded = {} if self.options.precision == "float32" else {"precision": self.options.precision}
        latest = self.checkpoint()
        guess = {"guess": latest.digest("guess")} if latest.has("guess") else {}
        weights = {"weights": latest.digest("ema"), **guess, **rounded}
        return weights | vocoder_weights(self.vocoder())

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        latest, options = self.checkpoint(), self.options
        settings, spec = latest.facts["settings"], latest.facts["mel_spec"]
        conventions = {
            "mel": ", ".join(f"{name} {value}" for name, value in spec.items()),
            "vocoder": options.vocoder or settings["vocoder"],
            "diffusion": ", ".join(f"{name} {value}" for name, value in settings["process"].items()),
            "sampling": f"{options.sampler}, {options.steps} steps, guidance {options.guidance:g} against "
            f"{options.silence} silence, rescale {options.rescale:g}, overlap {options.overlap}, "
            f"context {options.context}, {options.precision}",
        }
        return self.counted(latest.facts, latest.step, conventions)

    def evaluations(self) -> int:
        """Return the evaluations of the network for each window: by step, and by guidance once more without context."""
        options = self.options
        # the second evaluation of heun's last step is left out, as its end is x0 itself
        once: int = 2 * options.steps - 1 if options.sampler == "heun" else options.steps
        return once if options.guidance in (0, 1) else 2 * once

    def load(self, seed: int) -> Continuer:
        """Return the model of the checkpoint, with the sampling configuration of the options."""
        from cdslm_model.sample.continuation import Continuer, SamplingConfig

        options = self.options
        sampling = SamplingConfig(
            options.sampler,
            options.steps,
            options.guidance,
            seed,
            silence=options.silence,
            rescale=options.rescale,
            overlap_frames=options.overlap,
        )
        return Continuer(
            self.checkpoint().folder,
            sampling,
            self.device,
            self.vocoder(),
            dtype=options.precision,
            compiles=options.compile,
        )

    def context_seconds(self, model: Continuer) -> float:
        """Return how much of a prompt the model reads: its context, what rounds generate once more, a cut frame."""
        frames: int = model.config.context_frames + self.options.overlap + 1
        return frames / model.spec.frame_rate

    def generate_batch(
        self, model: Continuer, prompts: Sequence[Clip | None], numbers: Sequence[int], seconds: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of one batch of continuations."""
        parts: list[list[npt.NDArray[np.float32]]] = [[] for _ in numbers]
        for row, samples, _ in self._spoken(model, prompts, numbers, seconds):
            parts[row].append(samples)
        yield from map(np.concatenate, parts)

    def clip_parts(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[ClipPart]:
        """Yield the clips of `clip_range` in parts, as rounds complete them: the same samples."""
        rate_hz = self.info().rate_hz
        with reraised():
            for model, batch, own in self._batches(prompts, numbers, seed):
                for row, samples, last in self._spoken(model, batch, own, seconds):
                    key = self._key(batch[row], own[row], prompts)
                    yield ClipPart(own[row], generated_clip(key, samples, rate_hz), last)

    def _spoken(
        self, model: Continuer, prompts: Sequence[Clip | None], numbers: Sequence[int], seconds: float
    ) -> Iterator[tuple[int, npt.NDArray[np.float32], bool]]:
        """Yield the row of a clip of a batch, its next samples, and whether they are its last."""
        frames = round(seconds * model.spec.frame_rate)
        # The last frame of a prompt has zeros in its window, where speech went on: it is generated and cut off
        cut = 1 if self.options.context == "end" else 0
        # a further window for one frame would double the time of a clip as long as a window
        if model.rounds(cut + frames) > model.rounds(frames):
            frames -= cut
        contexts = [self._context(model, prompt) for prompt in prompts]
        yield from model.spoken_rounds(contexts, numbers, cut + frames, cut)

    def scores(self, clips: Sequence[Clip], *, context_s: float = 0.0, seed: int = 0) -> Iterator[Score]:
        """Yield a lower bound of the log-density of each clip after its context, or what the context adds to it.

        All clips share noise levels and noise, so that differences are far more certain than scores.
        """
        from cdslm_model.sample import likelihood

        with reraised():
            model = self.model(seed)
            config = likelihood.ScoringConfig(draws=self.options.draws, batch=4 * self.options.batch)
            draws = likelihood.Draws(model.process, config, seed)
            for clip in clips:
                windows = likelihood.clip_windows(model, clip.at_rate(model.spec.rate_hz).samples, context_s, clip.key)
                with_gain = self.options.score == "gain" and any(window.prefix for window in windows)
                if with_gain:
                    score = likelihood.gain(model.predict, model.process, windows, likelihood.quiet_frame(model), draws)
                else:
                    score = likelihood.bound(model.predict, model.process, windows, draws)
                yield Score(
                    total=score.total,
                    per_second=score.total / (clip.seconds - context_s),
                    frames=sum(len(window.clean) for window in windows),
                    std_error=score.std_error,
                    kind="gain" if with_gain else "bound",
                    levels=score.levels,
                    edges=score.edges,
                )

    def _context(self, model: Continuer, prompt: Clip | None) -> Tensor:
        """Return the log-mel of the part of a prompt that is continued."""
        import torch

        if prompt is None:
            return torch.empty(0, model.config.mels, device=model.device)
        samples = prompt.at_rate(model.spec.rate_hz).samples
        log_mel = model.log_mel(samples)
        if self.options.context == "start":
            return log_mel[: model.config.context_frames]
        # at least one frame: none would stand for no prompt at all
        return log_mel[: max(1, model.spec.complete_frames(len(samples)))]


def _has_gpu(device: str) -> bool:
    """Return whether a device is a GPU that computes in bfloat16, without torch where the name says that it is none."""
    if device != "auto" and not device.startswith("cuda"):
        return False
    try:
        import torch
    except ModuleNotFoundError:
        return False  # what needs torch states that it is missing
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
