"""Continuations of speech by a checkpoint, as log-mels and as samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model import checkpoint
from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.devices import pick_device, precision
from cdslm_model.diffusion import Process
from cdslm_model.errors import CheckpointError, ModelError
from cdslm_model.guess import FirstGuess
from cdslm_model.net.config import Config
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.noise import clip_noise
from cdslm_model.sample.denoiser import Denoiser
from cdslm_model.sample.pieces import SampleStream, sample_stream
from cdslm_model.sample.sampling import find_sampler, guided, held, times
from cdslm_model.sample.vocoder import find_vocoder

__all__ = ["GRID_POWER", "SILENCES", "Continuer", "SamplingConfig"]

SILENCES = ("quiet", "digital")
GRID_POWER = 2.0
"""Of the time grid: with it 16 steps have the spread of 64, with even angles 64 steps lack 4 % of it."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Sampler, steps, guidance and seed.

    Attributes:
        sampler: "dpm-solver-2m", "heun", "ddim" or "euler".
        steps: Steps of the sampler.
        guidance: Weight of the context against silence; 1 is the model as trained.
        seed: The same seed gives the same continuations.
        silence: What stands for an absent context: the "quiet" frame of the training speech, or "digital" silence.
        rescale: Share, in 0..1, by which guided speech returns to the level and spread that it has without guidance.
        overlap_frames: Last frames of what is continued that each round generates once more, as known speech. The
            context then lacks them, and the rounds of our small models join worse than with none.
    """

    sampler: str = "dpm-solver-2m"
    steps: int = 32
    guidance: float = 1.0
    seed: int = 0
    silence: str = "quiet"
    rescale: float = 0.7
    overlap_frames: int = 0

    def __post_init__(self) -> None:
        find_sampler(self.sampler)
        if self.steps < 1 or not np.isfinite(self.guidance):
            raise ModelError(f"{self.steps} steps, guidance {self.guidance}: at least one step, a finite guidance")
        if self.silence not in SILENCES:
            raise ModelError(f"There is no silence {self.silence!r}; use {' or '.join(SILENCES)}")
        if not 0 <= self.rescale <= 1 or self.overlap_frames < 0:
            raise ModelError(f"rescale {self.rescale}, overlap of {self.overlap_frames} frames: 0..1, and 0 or more")


class Continuer:
    """A trained model that continues speech.

    Args:
        path: A run of `cdslm train`, or a checkpoint in it.
        sampling: Sampler, steps, guidance and seed.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the run's own.
        dtype: Precision of the network: "float32", "bfloat16", or "auto", which is bfloat16 on a GPU. The sampler's own
            arithmetic is float32.
        compiles: Whether torch compiles the steps; None is on a GPU.

    Raises:
        ModelError: The checkpoint cannot be used, or the vocoder needs other log-mels.
    """

    def __init__(
        self,
        path: Path | str,
        sampling: SamplingConfig = SamplingConfig(),
        device: str = "auto",
        vocoder: str | None = None,
        dtype: str = "auto",
        compiles: bool | None = None,
    ) -> None:
        saved = checkpoint.find_checkpoint(path)
        settings = saved.facts["settings"]
        self.sampling, self.folder = sampling, saved.folder
        self.device = pick_device(device)
        self.config = Config.from_dict(settings["config"])
        self.process = Process.from_dict(settings["process"])
        self.spec = MelSpec(**saved.facts["mel_spec"])
        self.normalizer = Normalizer.from_dict(saved.facts["normalizer"])
        self.vocoder = find_vocoder(vocoder or settings["vocoder"], self.spec)
        # initial values would be overwritten at once, and for a moment take as much memory again
        with torch.device("meta"):
            model = MMDiT(self.config)
        try:
            # the averages: they are what the validation loss was measured on
            model.load_state_dict(saved.tensors("ema"), assign=True)
        except RuntimeError as error:
            raise CheckpointError(f"{saved.folder}: its weights are not those of its config: {error}") from error
        self.guess = FirstGuess.stored(saved)
        on_gpu = self.device.type == "cuda"
        self._denoiser = Denoiser(
            model,
            self.process,
            self.device,
            precision(dtype, self.device),
            guess=self.guess,
            compiles=on_gpu if compiles is None else compiles,
        )
        self._log_mel = LogMel(self.spec).to(self.device)

    def log_mel(self, samples: npt.NDArray[np.float32]) -> Tensor:
        """Return the log-mel `[frames, mels]` of samples at the model's rate, on the model's device."""
        with torch.inference_mode():
            own = torch.from_numpy(np.ascontiguousarray(samples)).to(self.device)
            log_mel: Tensor = self._log_mel(own[None])[0]
        return log_mel

    @torch.inference_mode()
    def speak(self, log_mels: Tensor) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the samples of each of some log-mels `[batch, frames, mels]`, by the vocoder."""
        # in one batch on a GPU; a processor is faster on one clip, whose spectra stay in its cache
        for part in torch.split(log_mels, 1 if log_mels.device.type == "cpu" else max(1, len(log_mels))):
            yield from self.vocoder(part).cpu().numpy()

    @torch.inference_mode()
    def continuations(self, contexts: Sequence[Tensor], clips: Sequence[int | str], frames: int) -> list[Tensor]:
        """Return the continuation of each context; it does not depend on the rest of the batch, but for rounding.

        Frames are generated in rounds of a whole window, each continuing the one before. On request a round's first
        frames are the last ones of what it continues, noised to each step's time (`SamplingConfig.overlap_frames`).

        Args:
            contexts: Log-mels `[frames_i, mels]`; the last frames up to the trained length and the overlap are used.
                A context of no frames means none: silence of the trained length.
            clips: Key of each continuation's noise.
            frames: Frames to generate.

        Returns:
            Log-mels `[frames, mels]`, on the model's device.
        """
        rounds: list[list[Tensor]] = [[] for _ in contexts]
        for rows, generated in self._in_rounds(contexts, clips, frames):
            for row, log_mel in zip(rows, generated, strict=True):
                rounds[row].append(log_mel)
        empty = torch.empty(0, self.config.mels, device=self.device)
        return [torch.cat([empty, *own]) for own in rounds]

    @torch.inference_mode()
    def spoken_rounds(
        self, contexts: Sequence[Tensor], clips: Sequence[int | str], frames: int, cut: int = 0
    ) -> Iterator[tuple[int, npt.NDArray[np.float32], bool]]:
        """Yield the samples of `continuations` as rounds complete them, those of several clips in turn.

        Neither log-mels nor samples of a whole clip are held, where the vocoder decodes in parts.

        Args:
            contexts: As for `continuations`.
            clips: As for `continuations`.
            frames: As for `continuations`.
            cut: First frames that are left out, fewer than a round has.

        Yields:
            (row of the clip, its next samples, whether they are its last).
        """
        streams: dict[tuple[int, ...], SampleStream] = {}
        done: dict[tuple[int, ...], int] = {}
        for rows, generated in self._in_rounds(contexts, clips, frames):
            # in one batch on a GPU; a processor is faster on one clip, whose spectra stay in its cache
            parts = [tuple(rows)] if self._one_batch else [(row,) for row in rows]
            for part, log_mel in zip(parts, torch.split(generated, len(parts[0])), strict=True):
                stream = streams.setdefault(part, sample_stream(self.vocoder))
                first = cut if part not in done else 0
                done[part] = done.get(part, 0) + log_mel.shape[1]
                last = done[part] >= frames
                samples = stream.push(log_mel[:, first:], last=last).cpu().numpy()
                if last:
                    del streams[part]
                if last or samples.shape[1]:
                    yield from ((row, own, last) for row, own in zip(part, samples, strict=True))

    def rounds(self, frames: int) -> int:
        """Return how many windows are generated for a number of frames."""
        return -(-frames // (self.config.continuation_frames - self._most_overlap))

    def _context(self, context: Tensor) -> Tensor:
        """Return what a clip continues: its own last frames, or silence."""
        if not self.config.context_frames:
            return torch.empty(0, self.config.mels, device=self.device)
        if not len(context):
            return self._silence(self.config.context_frames)
        return self.normalizer.normalize(context[-self._past_frames :].to(self.device))

    def _overlap(self, context: Tensor) -> int:
        """Return how many frames of a context the first round generates once more: none of silence."""
        if not self.config.context_frames or self.sampling.guidance == 0:
            return 0
        # at least one frame stays in the context itself
        return min(self._most_overlap, max(0, len(context) - 1))

    @property
    def _copies(self) -> int:
        """How often a step holds each clip: twice where guidance evaluates it with and without context at once."""
        return 2 if self._one_batch and self.sampling.guidance not in (0, 1) else 1

    @property
    def _one_batch(self) -> bool:
        return self.device.type != "cpu"

    @property
    def _most_overlap(self) -> int:
        """Frames that a round generates once more, less than all."""
        return min(self.sampling.overlap_frames, self.config.continuation_frames - 1)

    @property
    def _past_frames(self) -> int:
        """Frames that a round looks back: its context, and those that it generates once more."""
        return self.config.context_frames + self._most_overlap

    def _silence(self, frames: int) -> Tensor:
        """Return normalised silence, `[frames, mels]`."""
        if self.sampling.silence == "digital":
            digital = torch.full((frames, self.config.mels), self.spec.silence, device=self.device)
            return self.normalizer.normalize(digital)
        if self.normalizer.quiet is None:
            raise CheckpointError(
                f"{self.folder}: an earlier version trained it and did not keep a quiet frame of its speech; "
                "Use: silence=digital"
            )
        return self.normalizer.normalize(self.normalizer.quiet.to(self.device)).expand(frames, -1)

    @torch.inference_mode()
    def predict(self, contexts: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the network's prediction for normalised contexts and x_t, `[batch, frames, mels]` on the CPU."""
        streams = contexts.to(self.device), noisy.to(self.device)
        return self._denoiser.predict(streams, time.to(self.device)).cpu()

    @torch.inference_mode()
    def sample(self, contexts: Tensor, noise: Tensor) -> Tensor:
        """Return normalised continuations `[batch, frames, mels]` of normalised contexts, in one round."""
        contexts, noise = contexts.to(self.device), noise.to(self.device)
        return self._round(contexts, noise, noise[:, :0]).cpu()

    def _in_rounds(
        self, contexts: Sequence[Tensor], clips: Sequence[int | str], frames: int
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield the rows of contexts of one length with each round `[rows, frames, mels]`, one length after another."""
        trimmed = [self._context(context) for context in contexts]
        overlaps = [self._overlap(context) for context in contexts]
        lengths = list(zip(map(len, trimmed), overlaps, strict=True))
        # Contexts of one length make a batch without padding
        for length, overlap in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == (length, overlap)]
            frames_of = length - overlap, self.config.continuation_frames
            whole = self._denoiser.batch(len(rows), *frames_of, copies=self._copies)
            computed = [*rows, *[rows[-1]] * (whole - len(rows))]
            past = torch.stack([trimmed[row] for row in computed])
            for generated in self._batch_in_rounds(past, overlap, [clips[row] for row in computed], frames):
                yield rows, self.normalizer.denormalize(generated[: len(rows)])

    def _batch_in_rounds(self, past: Tensor, overlap: int, clips: Sequence[int | str], frames: int) -> Iterator[Tensor]:
        """Yield rounds `[batch, frames, mels]` of continuations; the context grows up to the trained length."""
        whole, mels = self.config.continuation_frames, self.config.mels
        done = number = 0
        while done < frames:
            # drawn anew: the noise that known frames were generated from is not independent of them
            lead = clip_noise(
                self.sampling.seed, [f"overlap {number} of {clip}" for clip in clips], overlap, mels, device=self.device
            )
            # Whole windows are generated and cut: the model was trained on no shorter ones
            noise = clip_noise(self.sampling.seed, clips, whole - overlap, mels, device=self.device, first=done)
            known = past[:, past.shape[1] - overlap :]
            context = past[:, max(0, past.shape[1] - overlap - self.config.context_frames) : past.shape[1] - overlap]
            generated = self._round(context, torch.cat((lead, noise), 1), known)[:, overlap:]
            yield generated[:, : frames - done]
            past = torch.cat((past, generated), 1)[:, -self._past_frames :]
            done, number, overlap = done + whole - overlap, number + 1, self._most_overlap

    def _round(self, contexts: Tensor, noise: Tensor, known: Tensor) -> Tensor:
        """Return one window `[batch, frames, mels]`, whose first frames stand for known ones."""
        silence = contexts
        if self.sampling.guidance != 1:
            silence = self._silence(contexts.shape[1]).expand_as(contexts)
        predict = guided(
            self._denoiser,
            (contexts,),
            (silence,),
            self.sampling.guidance,
            one_batch=self._one_batch,
            process=self.process,
            rescale=self.sampling.rescale,
        )
        predict = held(predict, known, noise[:, : known.shape[1]], self.process)
        grid = times(self.process, self.sampling.steps, GRID_POWER)
        # the last time of a grid is 0, which no sampler evaluates
        self._denoiser.tabulate(grid[:-1])
        return find_sampler(self.sampling.sampler)(predict, noise, grid, self.process)
