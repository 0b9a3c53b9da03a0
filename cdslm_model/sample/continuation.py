"""Continuations of speech by a checkpoint, as log-mels and as samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model import checkpoint
from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.devices import pick_device
from cdslm_model.diffusion import Process
from cdslm_model.errors import CheckpointError, ModelError
from cdslm_model.net.config import Config
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.sample.sampling import find_sampler, guided, times
from cdslm_model.sample.vocoder import find_vocoder
from cdslm_model.seeding import clip_noise

__all__ = ["Continuer", "SamplingConfig"]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Sampler, steps, guidance and seed.

    Attributes:
        sampler: "dpm-solver-2m", "heun", "ddim" or "euler".
        steps: Steps of the sampler.
        guidance: Weight of the context against silence; 1 is the model as trained.
        seed: The same seed gives the same continuations.
    """

    sampler: str = "dpm-solver-2m"
    steps: int = 32
    guidance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        find_sampler(self.sampler)
        if self.steps < 1 or not np.isfinite(self.guidance):
            raise ModelError(f"{self.steps} steps, guidance {self.guidance}: at least one step, a finite guidance")


class Continuer:
    """A trained model that continues speech.

    Args:
        path: A run of `cdslm train`, or a checkpoint in it.
        sampling: Sampler, steps, guidance and seed.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the run's own.

    Raises:
        ModelError: The checkpoint cannot be used, or the vocoder needs other log-mels.
    """

    def __init__(
        self,
        path: Path | str,
        sampling: SamplingConfig = SamplingConfig(),
        device: str = "auto",
        vocoder: str | None = None,
    ) -> None:
        saved = checkpoint.find_checkpoint(path)
        settings = saved.facts["settings"]
        self.sampling = sampling
        self.device = pick_device(device)
        self.config = Config.from_dict(settings["config"])
        self.process = Process(**settings["process"])
        self.spec = MelSpec(**saved.facts["mel_spec"])
        self.normalizer = Normalizer.from_dict(saved.facts["normalizer"])
        self.vocoder = find_vocoder(vocoder or settings["vocoder"], self.spec)
        # initial values would be overwritten at once, and for a moment take as much memory again
        with torch.device("meta"):
            self._model = MMDiT(self.config)
        try:
            # the averages: they are what the validation loss was measured on
            self._model.load_state_dict(saved.tensors("ema"), assign=True)
        except RuntimeError as error:
            raise CheckpointError(f"{saved.folder}: its weights are not those of its config: {error}") from error
        self._model.to(self.device).eval()
        self._log_mel = LogMel(self.spec)

    def log_mel(self, samples: npt.NDArray[np.float32]) -> Tensor:
        """Return the log-mel `[frames, mels]` of samples at the model's rate."""
        with torch.inference_mode():
            log_mel: Tensor = self._log_mel(torch.from_numpy(np.ascontiguousarray(samples))[None])[0]
        return log_mel

    def speak(self, log_mel: Tensor) -> npt.NDArray[np.float32]:
        """Return the samples of one log-mel `[frames, mels]`, by the vocoder."""
        with torch.inference_mode():
            return self.vocoder(log_mel[None])[0].cpu().numpy()

    @torch.inference_mode()
    def continuations(self, contexts: Sequence[Tensor], clips: Sequence[int | str], frames: int) -> list[Tensor]:
        """Return the continuation of each context; it does not depend on the rest of the batch, but for rounding.

        More frames than the model was trained on are generated in rounds, each continuing the one before.

        Args:
            contexts: Log-mels `[frames_i, mels]`; the last frames up to the trained length are used. A context
                of no frames means none: silence of the trained length.
            clips: Key of each continuation's noise.
            frames: Frames to generate.

        Returns:
            Log-mels `[frames, mels]`.
        """
        trimmed = [self._context(context) for context in contexts]
        # Whole windows are generated and cut: the model was trained on no shorter ones
        whole = -(-frames // self.config.continuation_frames) * self.config.continuation_frames
        noise = [clip_noise(self.sampling.seed, clip, whole, self.config.mels) for clip in clips]
        continuations: list[Tensor] = [torch.empty(0)] * len(trimmed)
        # Contexts of one length make a batch without padding
        for length in sorted({len(context) for context in trimmed}):
            rows = [row for row, context in enumerate(trimmed) if len(context) == length]
            batch = self._in_rounds(
                torch.stack([trimmed[row] for row in rows]), torch.stack([noise[row] for row in rows])
            )
            for row, generated in zip(rows, batch, strict=True):
                continuations[row] = self.normalizer.denormalize(generated[:frames])
        return continuations

    def _context(self, context: Tensor) -> Tensor:
        if not self.config.context_frames:
            return torch.empty(0, self.config.mels)
        if not len(context):
            return self._silence(self.config.context_frames)
        return self.normalizer.normalize(context[-self.config.context_frames :])

    def _silence(self, frames: int) -> Tensor:
        return self.normalizer.normalize(torch.full((frames, self.config.mels), self.spec.silence))

    @torch.inference_mode()
    def predict(self, contexts: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the network's prediction for normalised contexts and x_t, `[batch, frames, mels]` on the CPU."""
        streams = (contexts.to(self.device), noisy.to(self.device))
        predicted: Tensor = self._model(streams, time.to(self.device).float())
        return predicted.cpu()

    @torch.inference_mode()
    def sample(self, contexts: Tensor, noise: Tensor) -> Tensor:
        """Return normalised continuations `[batch, frames, mels]` of normalised contexts, in one round."""
        return self._round(contexts, noise)

    def _in_rounds(self, contexts: Tensor, noise: Tensor) -> Tensor:
        """Return continuations `[batch, frames, mels]`, round by round; the context grows up to the trained length."""
        past, rounds = contexts, []
        for piece in torch.split(noise, self.config.continuation_frames, dim=1):
            rounds.append(self._round(past, piece))
            past = torch.cat((past, rounds[-1]), 1)
            past = past[:, max(0, past.shape[1] - self.config.context_frames) :]
        return torch.cat(rounds, 1)

    def _round(self, contexts: Tensor, noise: Tensor) -> Tensor:
        silence = self._silence(contexts.shape[1]).expand_as(contexts)
        predict = guided(
            lambda streams, time: self._model(streams, time.float()),
            (contexts.to(self.device),),
            (silence.to(self.device),),
            self.sampling.guidance,
            one_batch=self.device.type != "cpu",
        )
        grid = times(self.process, self.sampling.steps)
        return find_sampler(self.sampling.sampler)(predict, noise.to(self.device), grid, self.process).cpu()
