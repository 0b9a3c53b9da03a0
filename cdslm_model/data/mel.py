"""Log-mel filterbanks: 24 kHz, 50 ms windows, 12.5 ms hops, 80 Slaney mels; the recipe of public 80-band vocoders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cdslm_model.errors import ModelError

__all__ = ["LogMel", "LogMelStream", "MelSpec", "Normalizer", "mel_filters"]

_BLOCK_FRAMES = 2048


@dataclass(frozen=True, slots=True)
class MelSpec:
    """Recipe of log-mels.

    Attributes:
        rate_hz: Sampling rate.
        fft: Points of the Fourier transform; the window is centred in it.
        window: Samples of the Hann window.
        hop: Samples from one frame to the next.
        mels: Mel bands, Slaney's scale, each of area 1.
        low_hz: Lower edge of the first band.
        high_hz: Upper edge of the last band.
        floor: Least mel magnitude before the logarithm to base 10.

    Raises:
        ModelError: A value is out of range.
    """

    rate_hz: int = 24_000
    fft: int = 2048
    window: int = 1200
    hop: int = 300
    mels: int = 80
    low_hz: float = 80.0
    high_hz: float = 7600.0
    floor: float = 1e-10

    def __post_init__(self) -> None:
        """Check all values."""
        if not 0 < self.hop <= self.window <= self.fft:
            raise ModelError(f"hop {self.hop}, window {self.window}, fft {self.fft}: each must fit into the next")
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ModelError(f"mel bands from {self.low_hz} to {self.high_hz} Hz at a rate of {self.rate_hz} Hz")
        if self.mels < 1 or self.floor <= 0:
            raise ModelError(f"{self.mels} mels over a floor of {self.floor}; both must be above 0")

    @property
    def digest(self) -> str:
        """Identity of the recipe, 16 hex digits: log-mels may be mixed if and only if it is equal."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.rate_hz / self.hop

    @property
    def silence(self) -> float:
        """Log-mel of digital silence, in every band."""
        return math.log10(self.floor)

    def frames(self, samples: int) -> int:
        """Return the number of frames of a number of samples: one per whole hop."""
        return samples // self.hop

    def complete_frames(self, samples: int) -> int:
        """Return the number of frames whose whole window lies before the end of a number of samples."""
        return max(0, min(self.frames(samples), (samples - self.window // 2) // self.hop + 1))

    def samples(self, frames: int) -> int:
        """Return the number of samples of a number of frames."""
        return frames * self.hop


def mel_filters(spec: MelSpec) -> Tensor:
    """Return the triangular filters, float32 `[fft // 2 + 1, mels]`.

    Source:
        Slaney 1998, "Auditory Toolbox", as transformers computes it.
    """
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        spec.fft // 2 + 1,
        spec.mels,
        min_frequency=spec.low_hz,
        max_frequency=spec.high_hz,
        sampling_rate=spec.rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(np.ascontiguousarray(bank, dtype=np.float32))


class LogMel(nn.Module):
    """Samples -> log10 of mel magnitudes, not normalised.

    Args:
        spec: The recipe.
    """

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("_window", torch.hann_window(spec.window), persistent=False)
        self.register_buffer("_filters", mel_filters(spec), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return one frame per whole hop, the first centred on the first sample, zeros around the clip.

        Args:
            samples: `[batch, samples]` in -1..1, at the rate of the spec.

        Returns:
            `[batch, frames, mels]`; 0 frames where there is less than a hop.
        """
        spec, frames = self.spec, self.spec.frames(samples.shape[-1])
        if not frames:
            return samples.new_empty(len(samples), 0, spec.mels)
        padded = functional.pad(samples, (spec.fft // 2, spec.fft // 2))
        # The spectrum is a hundred times the samples: of an hour it would be gigabytes
        starts = range(0, frames, _BLOCK_FRAMES)
        return torch.cat([self._framed(padded, start, min(_BLOCK_FRAMES, frames - start)) for start in starts], 1)

    def stream(self) -> LogMelStream:
        """Return a stream that computes the same frames from pieces of one clip."""
        return LogMelStream(self)

    def _framed(self, padded: Tensor, start: int, frames: int) -> Tensor:
        """Return frames from number `start` on; frame n is frames_done of the `fft` samples from n * hop on."""
        spec = self.spec
        piece = padded[..., start * spec.hop : (start + frames - 1) * spec.hop + spec.fft]
        spectrum = torch.stft(
            piece, spec.fft, spec.hop, spec.window, self.get_buffer("_window"), center=False, return_complex=True
        )
        return (spectrum.abs().mT @ self.get_buffer("_filters")).clamp_(min=spec.floor).log10_()


class LogMelStream:
    """The frames that `LogMel` computes of a whole clip, from pieces of it, in constant memory.

    Args:
        log_mel: The recipe.
    """

    def __init__(self, log_mel: LogMel) -> None:
        self._log_mel = log_mel
        self._pending = torch.zeros(1, log_mel.spec.fft // 2)
        self._samples = self._emitted = 0

    def add(self, samples: Tensor) -> Tensor:
        """Add `[samples]` and return the frames that are complete now, `[frames, mels]`."""
        spec = self._log_mel.spec
        self._samples += len(samples)
        self._pending = torch.cat([self._pending, samples[None]], 1)
        whole = (self._pending.shape[1] - spec.fft) // spec.hop + 1
        return self._make(min(whole, spec.frames(self._samples) - self._emitted))

    def end(self) -> Tensor:
        """Return the remaining frames, `[frames, mels]`."""
        spec = self._log_mel.spec
        self._pending = functional.pad(self._pending, (0, spec.fft // 2))
        return self._make(spec.frames(self._samples) - self._emitted)

    def _make(self, frames: int) -> Tensor:
        if frames < 1:
            return torch.empty(0, self._log_mel.spec.mels)
        log_mel: Tensor = self._log_mel._framed(self._pending, 0, frames)[0]  # noqa: SLF001 - its own class's other half
        # cloned, as a view would keep the samples before it in memory
        self._pending = self._pending[:, frames * self._log_mel.spec.hop :].clone()
        self._emitted += frames
        return log_mel


class Normalizer:
    """Mean and standard deviation of each mel band, stored with a model: losses compare only under the same one.

    Args:
        mean: `[mels]`.
        std: `[mels]`, above 0.
        quiet: Log-mel of a quiet moment of the speech, `[mels]`; None where it is not known.

    Raises:
        ModelError: Shapes differ, or a value is not finite or not above 0.
    """

    def __init__(self, mean: Tensor, std: Tensor, quiet: Tensor | None = None) -> None:
        if quiet is not None and (quiet.shape != mean.shape or not quiet.isfinite().all()):
            raise ModelError(f"a quiet frame of shape {list(quiet.shape)}; give one finite value per band")
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ModelError(f"mean of shape {list(mean.shape)} and std of {list(std.shape)}; give one value per band")
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise ModelError(
                "mean and std of the mel bands must be finite, and std above 0: is the speech all silence?"
            )
        self.mean, self.std = mean.float(), std.float()
        self.quiet = None if quiet is None else quiet.float()

    @classmethod
    def fit(cls, log_mels: Iterable[Tensor]) -> Self:
        """Return the normalizer of speech, in one pass.

        Args:
            log_mels: `[frames, mels]` or `[batch, frames, mels]` each.

        Raises:
            ModelError: There is no speech, or a band never moves.
        """
        count, mean, squares = 0, torch.zeros(0), torch.zeros(0)
        for log_mel in log_mels:
            values = log_mel.double().flatten(0, -2)
            if not len(values):
                continue
            own = values.mean(dim=0)
            own_squares = (values - own).square().sum(dim=0)
            if not count:
                count, mean, squares = len(values), own, own_squares
                continue
            # Chan et al. 1983: pairwise update, exact where sums of squares would cancel
            both = count + len(values)
            squares = squares + own_squares + (own - mean).square() * count * len(values) / both
            mean = mean + (own - mean) * len(values) / both
            count = both
        if not count:
            raise ModelError("no frames to take mean and deviation of")
        return cls(mean.float(), (squares / count).sqrt().float())

    def to(self, device: torch.device | str) -> Normalizer:
        """Return it with its values on a device."""
        quiet = None if self.quiet is None else self.quiet.to(device)
        return Normalizer(self.mean.to(device), self.std.to(device), quiet)

    def normalize(self, log_mel: Tensor) -> Tensor:
        """Return `[..., mels]` with mean 0 and deviation 1 per band."""
        return (log_mel - self.mean.to(log_mel.device)) / self.std.to(log_mel.device)

    def denormalize(self, values: Tensor) -> Tensor:
        """Return the log-mels `[..., mels]` of normalised values."""
        return values * self.std.to(values.device) + self.mean.to(values.device)

    @property
    def digest(self) -> str:
        """Identity of the values, 16 hex digits: losses compare if and only if it is equal."""
        # without the quiet frame, which moves no loss
        scale = {"mean": self.mean.tolist(), "std": self.std.tolist()}
        return hashlib.sha256(json.dumps(scale, sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        quiet = {} if self.quiet is None else {"quiet": self.quiet.tolist()}
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), **quiet}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the normalizer of the JSON values of `as_dict`.

        Raises:
            ModelError: The values are not a normalizer.
        """
        try:
            # checkpoints of earlier versions have no quiet frame
            quiet = torch.tensor(values["quiet"]) if "quiet" in values else None
            return cls(torch.tensor(values["mean"]), torch.tensor(values["std"]), quiet)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"mean and std of the mel bands cannot be read: {error}") from error
