"""The diffusion process in continuous time: schedules, prediction targets and loss weights, independent of networks.

A clean example x0 at time 0 becomes noise at time 1 by x_t = alpha(t) x0 + sigma(t) noise. A network predicts
another linear mix of the same two, y = a(t) x0 + b(t) noise, so that x_t and y together determine x0 and the noise: one
2 x 2 system serves every schedule and every target, flow matching among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cdslm_model.errors import ModelError

__all__ = ["MIN_LOG_SNR", "SCHEDULES", "TARGETS", "Guess", "Process"]

MIN_LOG_SNR = -20.0
"""Log of the SNR at which the cosine schedule ends when its terminal SNR is not zero (Kingma et al. 2021)."""
_FORMER: Mapping[str, float] = MappingProxyType({"anchor_frames": 0.0})
"""Settings of earlier versions, and the value at which they changed nothing."""
_BETA_LINEAR = (0.1, 20.0)
# integral of the rate over [0, 1]: 64.9 / ln 650 = 10.02, near the linear schedule's 10.05
_BETA_EXPONENTIAL = (0.1, 65.0)
# the angle at which alpha / sigma = cos / sin has the square exp(MIN_LOG_SNR)
_MAX_ANGLE = math.atan(math.exp(-MIN_LOG_SNR / 2))

Mix = tuple[Tensor, Tensor]


def _log_alpha_linear(time: Tensor) -> Tensor:
    """Rate of noise that grows linearly (Ho et al. 2020; Song et al. 2021, eq. 32)."""
    low, high = _BETA_LINEAR
    return -0.5 * (low * time + 0.5 * (high - low) * time**2)


def _log_alpha_exponential(time: Tensor) -> Tensor:
    """Rate of noise that grows geometrically, to the same noise at the end as the linear one (ours)."""
    low, high = _BETA_EXPONENTIAL
    growth = math.log(high / low)
    return -0.5 * low * torch.expm1(growth * time) / growth


def _log_alpha_cosine(time: Tensor) -> Tensor:
    """Angle between example and noise that grows linearly (Nichol & Dhariwal 2021, without their offset at 0)."""
    return torch.log(torch.cos(_MAX_ANGLE * time))


_LOG_ALPHA: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"linear": _log_alpha_linear, "cosine": _log_alpha_cosine, "exponential": _log_alpha_exponential}
)


def _variance_preserving(name: str, time: Tensor, zero_terminal_snr: bool) -> Mix:
    """Return alpha and sigma with alpha^2 + sigma^2 = 1; zero terminal SNR rescales alpha (Lin et al. 2024, alg. 1)."""
    log_alpha = _LOG_ALPHA[name]
    # Near time 0 sigma is the root of 1 - alpha, which float64 must not lose to rounding
    short = -torch.expm1(log_alpha(time))
    if zero_terminal_snr:
        # in 1 - alpha, the affine rescaling of alpha that is 1 at time 0 and 0 at time 1 is one division
        short = short / -torch.expm1(log_alpha(torch.ones_like(time)))
    # sigma^2 = 1 - alpha^2 = (1 - alpha)(1 + alpha), without the cancellation of the middle form
    return 1.0 - short, torch.sqrt(short * (2.0 - short))


def _flow(name: str, time: Tensor, zero_terminal_snr: bool) -> Mix:
    """Return the straight line between example and noise (Lipman et al. 2023; Liu et al. 2023)."""
    del name, zero_terminal_snr
    return 1.0 - time, time


SCHEDULES: Mapping[str, Callable[[str, Tensor, bool], Mix]] = MappingProxyType(
    {**dict.fromkeys(_LOG_ALPHA, _variance_preserving), "flow": _flow}
)
"""Name -> function of (name, time, zero_terminal_snr) that returns alpha and sigma."""

TARGETS: Mapping[str, Callable[[Tensor, Tensor], Mix]] = MappingProxyType(
    {
        "v": lambda alpha, sigma: (-sigma, alpha),
        "epsilon": lambda alpha, sigma: (torch.zeros_like(alpha), torch.ones_like(sigma)),
        "x0": lambda alpha, sigma: (torch.ones_like(alpha), torch.zeros_like(sigma)),
        "flow": lambda alpha, sigma: (-torch.ones_like(alpha), torch.ones_like(sigma)),
    }
)
"""Name -> function of alpha and sigma that returns the weights of x0 and of the noise in the prediction target."""


class Guess(NamedTuple):
    """What is known of x0 before x_t is seen.

    Attributes:
        mean: `[batch, frames, mels]`.
        spread: Deviation of x0 about it, above 0 and at most 1, `[frames, mels]`.
    """

    mean: Tensor
    spread: Tensor


@dataclass(frozen=True, slots=True)
class Process:
    """One diffusion process: schedule, prediction target and loss weight.

    All methods take `time` as float `[batch]` in [0, 1], or `[]` for one time of all clips, and examples as
    `[batch, frames, mels]`. A single time may stay on the CPU: its weights reach a GPU as arguments of its kernels.

    Attributes:
        schedule: "linear", "cosine", "exponential" or "flow" (straight lines).
        target: "v" (velocity; Salimans & Ho 2022), "epsilon", "x0" or "flow" (noise - x0).
        zero_terminal_snr: Whether time 1 is pure noise; always so for "flow".
        gamma: Cap on the SNR in the loss weight (min-SNR; Hang et al. 2023).
        weight_floor: Least weight where the SNR is under 1, in [0, 0.25]. At zero terminal SNR the min-SNR weight of v
            is 0 at time 1, where sampling starts: without a floor nothing would be learned there.
    """

    schedule: str = "cosine"
    target: str = "v"
    zero_terminal_snr: bool = True
    gamma: float = 5.0
    weight_floor: float = 0.05

    def __post_init__(self) -> None:
        for field, value, known in (("schedule", self.schedule, SCHEDULES), ("target", self.target, TARGETS)):
            if value not in known:
                raise ModelError(f"There is no {field} {value!r}. Known: {', '.join(known)}.")
        if self.schedule == "flow" and not self.zero_terminal_snr:
            raise ModelError("flow matching ends at pure noise by construction: zero terminal SNR cannot be off")
        if not self.gamma > 0:
            raise ModelError(f"gamma = {self.gamma} caps the SNR in the loss weight and must be positive")
        if not 0 <= self.weight_floor <= 0.25:
            raise ModelError(f"weight_floor = {self.weight_floor} lies outside 0..0.25")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Process:
        """Return the process of a checkpoint's settings.

        Raises:
            ModelError: It has a setting that this version does not know.
        """
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in values.items() if _FORMER.get(name, math.nan) != value}
        if unknown := sorted(set(values) - known):
            raise ModelError(
                f"a model trained with the setting {unknown[0]}, which this version does not know; use the version "
                "that trained it, or train it again"
            )
        return cls(**values)

    def scales(self, time: Tensor) -> Mix:
        """Return alpha and sigma, each float64 of the shape of `time`."""
        return SCHEDULES[self.schedule](self.schedule, time.double(), self.zero_terminal_snr)

    def log_snr(self, time: Tensor) -> Tensor:
        """Return ln(alpha^2 / sigma^2), float64; +inf at time 0, -inf where the example is gone."""
        alpha, sigma = self.scales(time)
        return 2.0 * (torch.log(alpha) - torch.log(sigma))

    def noised(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Return x_t = alpha x0 + sigma noise, `[batch, frames, mels]`."""
        return _mixed(self.scales(time), clean, noise)

    def predicted(self, clean: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """Return the prediction target, `[batch, frames, mels]`."""
        return _mixed(TARGETS[self.target](*self.scales(time)), clean, noise)

    def network_input(self, noisy: Tensor, guess: Guess | None, time: Tensor) -> Tensor:
        """Return what a network reads of x_t: what a guess leaves of it, scaled to deviation 1, or x_t without one.

        Args:
            noisy: x_t `[batch, frames, mels]`.
            guess: Of x0.
            time: `[batch]`, or `[]` for one time of all clips.
        """
        if guess is None:
            return noisy
        alpha, sigma = (_like_examples(scale, guess.mean) for scale in self.scales(time))
        return (noisy - alpha * guess.mean) / _spread_of_noisy(alpha, sigma, guess.spread)

    def from_network(self, output: Tensor, noisy: Tensor, guess: Guess | None, time: Tensor) -> Tensor:
        """Return the prediction that a network's output stands for.

        With a guess it is the best linear estimate of the target from x_t, if x0 were normal about the guess, and the
        output, scaled to what that estimate leaves. At time 1 an error of the network then counts by the spread of the
        guess: little for the first frames, which the context determines. With mean 0 and spread 1 it is the output
        itself for v.

        Args:
            output: The network's `[batch, frames, mels]`.
            noisy: x_t, of its shape.
            guess: Of x0; None is none, and the output is the prediction.
            time: `[batch]`, or `[]` for one time of all clips.

        Source:
            Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", appendix B.6, with
            a mean and a deviation for each frame and band in place of 0 and sigma_data, and for any target.
        """
        if guess is None:
            return output
        scales = self.scales(time)
        of_clean, of_noise = TARGETS[self.target](*scales)
        alpha, sigma = (_like_examples(scale, guess.mean) for scale in scales)
        clean, noise = (_like_examples(weight, guess.mean) for weight in (of_clean, of_noise))
        spread = _spread_of_noisy(alpha, sigma, guess.spread)
        slope = (clean * alpha * guess.spread**2 + noise * sigma) / spread**2
        left = guess.spread / spread * (clean * sigma - noise * alpha).abs()
        return clean * guess.mean + slope * (noisy - alpha * guess.mean) + left * output.float()

    def weight(self, time: Tensor) -> Tensor:
        """Return the weight of the squared error of the prediction, float64 `[batch]`.

        It is min(SNR, gamma) on the error of x0, carried over to the target: min(SNR, gamma) / (SNR + 1) for v under a
        schedule that preserves variance, min(SNR, gamma) / SNR for epsilon.

        Source:
            Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", section 3.4.
        """
        alpha, sigma = self.scales(time)
        of_clean, of_noise = TARGETS[self.target](alpha, sigma)
        # The capped SNR times (sigma / determinant)^2, with sigma^2 drawn in: 0 / 0 at neither end of time.
        capped = torch.minimum(alpha**2, self.gamma * sigma**2)
        determinant = alpha * of_noise - sigma * of_clean
        # alpha = 0 makes epsilon's determinant 0 too; the limit of the quotient there is 1.
        weight = torch.where(determinant == 0, torch.ones_like(alpha), capped / determinant**2)
        # x0 at time 0: alpha = 1, sigma = 0, capped = determinant = 0; the limit is gamma.
        weight = torch.where((sigma == 0) & (determinant == 0), self.gamma * torch.ones_like(alpha), weight)
        return torch.where(alpha < sigma, torch.clamp(weight, min=self.weight_floor), weight)

    def denoised(self, noisy: Tensor, prediction: Tensor, time: Tensor) -> Mix:
        """Return the x0 and the noise that x_t and a prediction together determine.

        Args:
            noisy: x_t `[batch, frames, mels]`.
            prediction: The network's `[batch, frames, mels]`.
            time: In [0, `last_time`]; above 0 for the target "x0".
        """
        alpha, sigma = self.scales(time)
        of_clean, of_noise = TARGETS[self.target](alpha, sigma)
        determinant = alpha * of_noise - sigma * of_clean
        # Cramer's rule for x_t = alpha x0 + sigma noise, y = a x0 + b noise
        clean = _mixed((of_noise / determinant, -sigma / determinant), noisy, prediction)
        noise = _mixed((-of_clean / determinant, alpha / determinant), noisy, prediction)
        return clean, noise

    def prediction(self, noisy: Tensor, clean: Tensor, time: Tensor) -> Tensor:
        """Return the prediction that determines an x0 at x_t, for times above 0: the inverse of `denoised`."""
        alpha, sigma = self.scales(time)
        noise = _mixed((1.0 / sigma, -alpha / sigma), noisy, clean)
        return self.predicted(clean, noise, time)

    @property
    def last_time(self) -> float:
        """The time at which sampling starts: 1, or a little less where the target does not determine x0 at 1.

        A prediction of the noise does not determine x0 once x_t is all noise; sampling then starts at a log-SNR of -20.
        """
        if self.target != "epsilon" or self.log_snr(torch.ones(1)).item() > -math.inf:
            return 1.0
        low, high = 0.5, 1.0
        # bisection needs of a schedule only that its SNR falls with time
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.log_snr(torch.tensor(middle)).item() > MIN_LOG_SNR else (low, middle)
        return low


def _spread_of_noisy(alpha: Tensor, sigma: Tensor, spread: Tensor) -> Tensor:
    """Return the deviation of x_t about alpha times a guess of x0."""
    return torch.sqrt(alpha**2 * spread**2 + sigma**2)


def _mixed(weights: Mix, first: Tensor, second: Tensor) -> Tensor:
    """Return weights[0] * first + weights[1] * second in the examples' own precision."""
    of_first, of_second = (_like_examples(weight, first) for weight in weights)
    return of_first * first + of_second * second


def _like_examples(weight: Tensor, examples: Tensor) -> Tensor:
    """Return weights `[batch]` or `[]` in the examples' precision, so that they broadcast against them."""
    # rounded only here: near the ends of time alpha or sigma is a difference that float32 would lose
    rounded = weight.to(examples.dtype)
    return rounded.reshape((-1,) + (1,) * (examples.ndim - 1)) if rounded.ndim else rounded
