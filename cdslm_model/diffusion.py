"""The diffusion process in continuous time: schedules, prediction targets and loss weights, independent of networks.

A clean example x0 at time 0 becomes noise at time 1 by x_t = alpha(t) x0 + sigma(t) noise. A network predicts
another linear mix of the same two, y = a(t) x0 + b(t) noise, so that x_t and y together determine x0 and the noise: one
2 x 2 system serves every schedule and every target, flow matching among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from cdslm_model.errors import ModelError

__all__ = ["MIN_LOG_SNR", "SCHEDULES", "TARGETS", "Process"]

MIN_LOG_SNR = -20.0
"""Log of the SNR at which the cosine schedule ends when its terminal SNR is not zero (Kingma et al. 2021)."""
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
        anchor_frames: Frames over which the last context frame, as a first guess of x0, falls by e; 0 is no guess.
    """

    schedule: str = "cosine"
    target: str = "v"
    zero_terminal_snr: bool = True
    gamma: float = 5.0
    weight_floor: float = 0.05
    anchor_frames: float = 0.0

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
        if not 0 <= self.anchor_frames < math.inf:
            raise ModelError(f"anchor_frames = {self.anchor_frames} must be 0 or more")

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

    def anchored(self, output: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """Return a network's output as a prediction: with the context's last frame, decaying, added to x0.

        Speech changes slowly: the last frame predicts the first ones of a continuation nearly as well as a regression
        from many, and a network would spend most of a short training on learning to copy it. With the guess added, it
        learns the rest. A target without x0 in it stays as it is.

        Args:
            output: The network's `[batch, frames, mels]`.
            context: Normalised, `[batch, context frames, mels]`; one of 0 frames is no guess.
            time: `[batch]`.
        """
        guess = self.guess(context, output.shape[1])
        return output if guess is None else self.with_guess(output, guess, time)

    def guess(self, context: Tensor, frames: int) -> Tensor | None:
        """Return the first guess of x0 of `frames` frames; None where the process or the clips have none."""
        if not self.anchor_frames or not context.shape[1]:
            return None
        decay = torch.exp(-torch.arange(1, frames + 1, device=context.device) / self.anchor_frames)
        return context[:, -1:].float() * decay[:, None]

    def with_guess(self, output: Tensor, guess: Tensor, time: Tensor) -> Tensor:
        """Return a network's output with a guess added to its x0."""
        of_clean, _ = TARGETS[self.target](*self.scales(time))
        return output.float() + _like_examples(of_clean, guess) * guess

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


def _mixed(weights: Mix, first: Tensor, second: Tensor) -> Tensor:
    """Return weights[0] * first + weights[1] * second in the examples' own precision."""
    of_first, of_second = (_like_examples(weight, first) for weight in weights)
    return of_first * first + of_second * second


def _like_examples(weight: Tensor, examples: Tensor) -> Tensor:
    """Return weights `[batch]` or `[]` in the examples' precision, so that they broadcast against them."""
    # rounded only here: near the ends of time alpha or sigma is a difference that float32 would lose
    rounded = weight.to(examples.dtype)
    return rounded.reshape((-1,) + (1,) * (examples.ndim - 1)) if rounded.ndim else rounded
