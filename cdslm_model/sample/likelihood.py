"""Lower bound of the log-density that a diffusion model gives speech, and how much a context adds to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_model.diffusion import Process
from cdslm_model.errors import CheckpointError, ModelError
from cdslm_model.noise import clip_noise
from cdslm_model.seeding import random_source

if TYPE_CHECKING:
    from cdslm_model.sample.continuation import Continuer

__all__ = [
    "Bound",
    "Draws",
    "Predict",
    "ScoringConfig",
    "Window",
    "bound",
    "clip_windows",
    "gain",
    "quiet_frame",
    "windows_of",
]

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(contexts, x_t, time `[batch]`) -> prediction `[batch, frames, mels]`."""


@dataclass(frozen=True, slots=True)
class ScoringConfig:
    """Noise levels of a score and how many are drawn.

    Attributes:
        low, high: Range of the log-SNR. The density is that of speech with noise of log-SNR `high` added to it.
        centre, scale: Of the logistic density that levels are drawn from within the range.
        levels: Strata of equal probability; each draw has one log-SNR in each.
        draws: Independent draws of all levels, whose spread is the standard error; at least 2.
        batch: Evaluations of the network at once; moves speed and memory only.

    Raises:
        ModelError: A value is out of range.
    """

    low: float = -10.0
    high: float = 6.0
    centre: float = 0.0
    scale: float = 4.0
    levels: int = 8
    draws: int = 4
    batch: int = 32

    def __post_init__(self) -> None:
        if not -20.0 <= self.low < self.high <= 20.0:
            raise ModelError(f"log-SNR from {self.low:g} to {self.high:g}: it must rise, within -20..20")
        if not self.scale > 0 or not math.isfinite(self.centre):
            raise ModelError(f"levels around {self.centre:g} with scale {self.scale:g}: the scale must be above 0")
        if self.draws < 2 or self.levels < 1 or self.batch < 1:
            raise ModelError(
                f"{self.draws} draws of {self.levels} levels in batches of {self.batch}: at least 2, 1 and 1"
            )

    @property
    def evaluations(self) -> int:
        """Evaluations of the network for a window in one context: two for each level of each draw."""
        return 2 * self.draws * self.levels

    @property
    def edges(self) -> tuple[float, ...]:
        """Log-SNR at the borders of the levels, `levels` + 1 rising values."""
        shares = torch.arange(self.levels + 1, dtype=torch.float64) / self.levels
        return tuple(self.log_snr(shares).tolist())

    def log_snr(self, shares: Tensor) -> Tensor:
        """Return the log-SNR below which a share of the density within the range lies."""
        below, above = self._shares()
        return self.centre + self.scale * torch.logit(below + shares * (above - below))

    def density(self, log_snr: Tensor) -> Tensor:
        """Return the density that log-SNRs are drawn from, within the range."""
        below, above = self._shares()
        cumulative = torch.sigmoid((log_snr - self.centre) / self.scale)
        return cumulative * (1 - cumulative) / (self.scale * (above - below))

    def _shares(self) -> tuple[float, float]:
        """Return the share of the whole logistic density below either end of the range."""
        return (
            1 / (1 + math.exp(-(self.low - self.centre) / self.scale)),
            1 / (1 + math.exp(-(self.high - self.centre) / self.scale)),
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """A score and its parts by noise level.

    Attributes:
        total: In nats.
        std_error: Standard error of `total`, from the spread of the draws.
        levels: Part of `total` that each noise level adds, the noisiest first.
        edges: Log-SNR at the borders of the levels.
    """

    total: float
    std_error: float
    levels: tuple[float, ...]
    edges: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Frames that are scored given those before.

    Attributes:
        context: Normalised, `[context frames, mels]`.
        clean: Normalised, `[frames, mels]`.
        first: Number of its first frame among all that are scored, which keys its noise.
        prefix: How many of the first frames of `context` belong to the prefix; the rest was scored before.
    """

    context: Tensor
    clean: Tensor
    first: int
    prefix: int


class Draws:
    """Log-SNRs and noise of a score, common to all clips that are compared.

    Noise belongs to the frame: clips of any length, right or wrong, have the same at the same place.

    Args:
        process: Turns log-SNR into time.
        config: Range, density and numbers.
        seed: Keys everything that is drawn.
    """

    def __init__(self, process: Process, config: ScoringConfig, seed: int) -> None:
        self.config, self._seed = config, seed
        offsets = [random_source(seed, "score", draw).random(config.levels) for draw in range(config.draws)]
        offset = torch.from_numpy(np.stack(offsets))
        # antithetic twice: e at the offset u of a level, -e at 1 - u. What is odd in the noise, and what is linear in
        # the log-SNR over a level, cancels
        shares = (torch.arange(config.levels) + torch.stack((offset, 1 - offset))) / config.levels
        self.log_snr = config.log_snr(shares)
        self.time = _time_of(process, self.log_snr.flatten())

    @property
    def shape(self) -> tuple[int, int]:
        """Draws and levels."""
        return self.config.draws, self.config.levels

    @cached_property
    def weight(self) -> Tensor:
        """Width in log-SNR that each evaluation stands for, float64 `[2, draws, levels]`."""
        return 1 / self.config.density(self.log_snr) / self.config.levels / 2

    def noise(self, first: int, frames: int, mels: int) -> Tensor:
        """Return the noise of frames from number `first` on, `[evaluations, frames, mels]`."""
        keys = [f"score {number}" for number in range(self.config.evaluations // 2)]
        noise = clip_noise(self._seed, keys, frames, mels, first=first)
        return torch.cat((noise, -noise))


def windows_of(log_mel: Tensor, prefix: int, context_frames: int, continuation_frames: int) -> list[Window]:
    """Return the windows whose scores given what lies before add up to that of a clip after its prefix.

    Args:
        log_mel: The normalised clip, `[frames, mels]`.
        prefix: Frames at its beginning that are not scored.
        context_frames, continuation_frames: Longest context and continuation of the model.
    """
    windows = []
    for start in range(prefix, len(log_mel), continuation_frames):
        past = max(0, start - context_frames)
        windows.append(
            Window(
                context=log_mel[past:start],
                clean=log_mel[start : start + continuation_frames],
                first=start - prefix,
                prefix=max(0, prefix - past),
            )
        )
    return windows


def clip_windows(model: Continuer, samples: npt.NDArray[np.float32], context_s: float, key: str) -> list[Window]:
    """Return the windows of a clip after its context; without a context, after quiet frames of the trained length.

    A frame is context where its whole window lies there, so that clips with one context have the same frames of it.

    Raises:
        ModelError: No frame follows the context, or one that a window needs is not known.
    """
    spec, config = model.spec, model.config
    log_mel = model.normalizer.normalize(model.log_mel(samples)[: spec.complete_frames(len(samples))].cpu())
    prefix = spec.complete_frames(round(context_s * spec.rate_hz))
    if len(log_mel) <= prefix:
        raise ModelError(f"{key}: no frame after its context of {context_s:g} s; use longer clips")
    windows = windows_of(log_mel, prefix, config.context_frames, config.continuation_frames)
    if config.context_frames and not prefix:
        absent = quiet_frame(model).expand(config.context_frames, -1)
        windows[0] = dataclasses.replace(windows[0], context=absent)
    return windows


def quiet_frame(model: Continuer) -> Tensor:
    """Return the normalised frame that stands for an absent context, `[mels]`.

    Raises:
        CheckpointError: An earlier version trained the model and kept none.
    """
    quiet = model.normalizer.quiet
    if quiet is None:
        raise CheckpointError(
            f"{model.folder}: an earlier version trained it and did not keep a quiet frame of its speech; "
            "Use: score=bound, and clips with a context"
        )
    return model.normalizer.normalize(quiet)


def bound(predict: Predict, process: Process, windows: Sequence[Window], draws: Draws) -> Bound:
    """Return a lower bound of the log-density of windows given their contexts, with noise at log-SNR `high` added.

    It is E[log p(x + s e)], s^2 = exp(-high), bounded from below: the entropy of that noise, the divergence of the
    noisiest level from pure noise, and the integral of |e - e_hat|^2 / 2 over the log-SNR, which is drawn by importance
    sampling. Antithetic: each noise e is used with -e. The mean over draws is unbiased for any number of them.

    Source:
        Kingma et al. 2021, "Variational Diffusion Models", equation 17; Kong et al. 2023, "Information-Theoretic
        Diffusion", equation 8, which makes it exact for the best denoiser.
    """
    low, high = draws.config.low, draws.config.high
    fixed, terms = 0.0, torch.zeros(draws.shape, dtype=torch.float64)
    for window in windows:
        size, power = window.clean.numel(), float(window.clean.double().square().mean())
        prior = math.log1p(math.exp(low)) + (1 + math.exp(low) * power) / (1 + math.exp(low)) - 1
        fixed -= 0.5 * size * (prior + math.log(2 * math.pi * math.e) - high)
        terms -= _errors(predict, process, window.context, window, draws)
    return _summed(fixed, terms, draws.config)


def gain(predict: Predict, process: Process, windows: Sequence[Window], quiet: Tensor, draws: Draws) -> Bound:
    """Return how much the prefix adds to the bound: with it as the context, less with quiet frames in its place.

    What is likely after any prefix cancels. Windows whose context holds no frame of the prefix add nothing, and are not
    evaluated.

    Args:
        predict, process, windows, draws: As for `bound`; all draws are common to both terms.
        quiet: Normalised frame that stands for an absent context, `[mels]`.
    """
    terms = torch.zeros(draws.shape, dtype=torch.float64)
    for window in windows:
        if window.prefix:
            absent = torch.cat((quiet.expand(window.prefix, -1), window.context[window.prefix :]))
            terms += _errors(predict, process, absent, window, draws)
            terms -= _errors(predict, process, window.context, window, draws)
    return _summed(0.0, terms, draws.config)


@torch.inference_mode()
def _errors(predict: Predict, process: Process, context: Tensor, window: Window, draws: Draws) -> Tensor:
    """Return the integral of |e - e_hat|^2 / 2 over each level as each draw estimates it, float64 `[draws, levels]`."""
    noise, time = draws.noise(window.first, *window.clean.shape), draws.time
    errors = []
    for start in range(0, len(noise), draws.config.batch):
        own, at = noise[start : start + draws.config.batch], time[start : start + draws.config.batch]
        noisy = process.noised(window.clean.expand_as(own), own, at)
        prediction = predict(context.expand(len(own), -1, -1), noisy, at)
        _, guess = process.denoised(noisy, prediction.to(noisy), at)
        errors.append(0.5 * (own - guess).double().square().sum((1, 2)))
    return (torch.cat(errors).view(draws.weight.shape) * draws.weight).sum(0)


def _summed(fixed: float, terms: Tensor, config: ScoringConfig) -> Bound:
    """Return the score of terms `[draws, levels]`."""
    totals = terms.sum(1)
    return Bound(
        total=fixed + float(totals.mean()),
        std_error=float(totals.std() / math.sqrt(len(totals))),
        levels=tuple(terms.mean(0).tolist()),
        edges=config.edges,
    )


def _time_of(process: Process, log_snr: Tensor) -> Tensor:
    """Return the time of each log-SNR, by bisection: the schedules share no closed inverse."""
    low, high = torch.zeros_like(log_snr), torch.full_like(log_snr, process.last_time)
    if float(process.log_snr(high[:1])) > float(log_snr.min()):
        raise ModelError(
            f"the schedule ends at a log-SNR of {float(process.log_snr(high[:1])):g}; begin the range of scores there"
        )
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = process.log_snr(middle) > log_snr
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return high
