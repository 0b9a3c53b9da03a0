"""The generator `cdslm`: a trained diffusion model that continues prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import GeneratorInfo
from cdslm_model.plugin.continuing import ContinuationOptions, ContinuingGenerator, reraised

if TYPE_CHECKING:
    from cdslm_model.checkpoint import Checkpoint
    from cdslm_model.sample.continuation import Continuer

__all__ = ["CdslmGenerator", "CdslmOptions"]


class CdslmOptions(ContinuationOptions):
    """Options of `cdslm`.

    Attributes:
        guidance: Weight of the context against silence; 1 is the model as trained, 0 ignores the context.
        steps: Steps of the sampler.
        sampler: "dpm-solver-2m", "heun", "ddim", or "euler" for flow matching.
    """

    guidance: float = Field(1.0, ge=0.0, le=100.0)
    steps: int = Field(32, ge=1, le=10_000)
    sampler: str = "dpm-solver-2m"


class CdslmGenerator(ContinuingGenerator):
    """Continues prompts with a continuous diffusion spoken language model."""

    name = "cdslm"
    version = "2"
    Options = CdslmOptions

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the weights that generate."""
        return {"weights": self._checkpoint().facts["files"]["ema.safetensors"]}

    def info(self) -> GeneratorInfo:
        """Return N, D and C of the checkpoint, and how each is counted; reads no weights."""
        latest, options = self._checkpoint(), self.options
        settings, spec = latest.facts["settings"], latest.facts["mel_spec"]
        conventions = {
            "mel": ", ".join(f"{name} {value}" for name, value in spec.items()),
            "vocoder": options.vocoder or settings["vocoder"],
            "diffusion": ", ".join(f"{name} {value}" for name, value in settings["process"].items()),
            "sampling": f"{options.sampler}, {options.steps} steps, guidance {options.guidance:g}, "
            f"context {options.context}",
        }
        return self.counted(latest.facts, latest.step, conventions)

    def load(self, seed: int) -> Continuer:
        """Return the model of the checkpoint, with the sampling configuration of the options."""
        from cdslm_model.sample.continuation import Continuer, SamplingConfig

        options = self.options
        sampling = SamplingConfig(options.sampler, options.steps, options.guidance, seed)
        return Continuer(options.checkpoint, sampling, options.device, options.vocoder)

    def generate_batch(
        self, model: Continuer, prompts: Sequence[Clip | None], numbers: Sequence[int], seconds: float
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of one batch of continuations."""
        import torch

        contexts = []
        for prompt in prompts:
            if prompt is None:
                contexts.append(torch.empty(0, model.config.mels))
                continue
            log_mel = model.log_mel(prompt.at_rate(model.spec.rate_hz).samples)
            frames = model.config.context_frames
            contexts.append(log_mel[:frames] if self.options.context == "start" else log_mel[-frames:])
        for log_mel in model.continuations(contexts, numbers, round(seconds * model.spec.frame_rate)):
            yield model.speak(log_mel)

    def _checkpoint(self) -> Checkpoint:
        from cdslm_model import checkpoint

        with reraised():
            return checkpoint.find_checkpoint(self.options.checkpoint)
