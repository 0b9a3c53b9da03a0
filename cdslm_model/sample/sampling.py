"""Samplers as pure functions of one signature, their time grid, guidance by silence, and known first frames.

Every sampler is `sampler(predict, noise, times, process) -> x0`, where `predict(x_t, time)` is a network's prediction
at `time` `[]`, a float64 on the CPU, and `times` falls from the process's last time to 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from cdslm_model.diffusion import Process
from cdslm_model.errors import ModelError

__all__ = [
    "SAMPLERS",
    "Network",
    "Predict",
    "Sampler",
    "ddim",
    "dpm_solver_2m",
    "euler",
    "find_sampler",
    "guided",
    "held",
    "heun",
    "times",
]

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x_t `[batch, frames, mels]`, time `[]`) -> prediction `[batch, frames, mels]`."""
Network = Callable[[tuple[Tensor, ...]], Predict]
"""Streams `[batch, frames_i, mels]` to condition on -> prediction; what all steps share is computed here."""
Sampler = Callable[[Predict, Tensor, Sequence[float], Process], Tensor]


def times(process: Process, steps: int, power: float = 1.0) -> list[float]:
    """Return `steps` + 1 times from the process's last time to 0, spaced in the angle between example and noise.

    The path from noise to speech depends on a schedule only through that angle, atan(sigma / alpha): steps that are
    even in it take every schedule along the same points, and keep second order where sigma grows as a root of time.
    Sampling starts where the example is gone, as zero terminal SNR wants it (Lin et al. 2024, section 3.3).

    Args:
        process: Its schedule and last time.
        steps: At least 1.
        power: 1 makes the angles even. Above 1 step i ends at the share 1 - (i / steps)^power of the largest angle: the
            steps are finer near time 1, where the first one can only be of first order.
    """
    if steps < 1:
        raise ModelError(f"{steps} sampling steps: at least 1 is needed")
    shares = 1.0 - (torch.arange(steps, dtype=torch.float64) / steps) ** power
    angles = _angle(process, torch.tensor([process.last_time])) * shares
    low, high = torch.zeros(steps, dtype=torch.float64), torch.full((steps,), process.last_time, dtype=torch.float64)
    # bisection to the precision of float64: the schedules share no closed inverse
    for _ in range(60):
        middle = 0.5 * (low + high)
        under = _angle(process, middle) < angles
        low, high = torch.where(under, middle, low), torch.where(under, high, middle)
    # both ends are exact: a last time just above 0 would leave noise in every sample
    return [process.last_time, *high[1:].tolist(), 0.0]


def ddim(predict: Predict, noise: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Return x0 by deterministic steps that hold x0 and the noise fixed: first order, one evaluation a step.

    Source:
        Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12 with sigma = 0.
    """
    x = noise
    for now, then in itertools.pairwise(times):
        clean, noise = process.denoised(x, predict(x, _at(now)), _at(now))
        x = process.noised(clean, noise, _at(then))
    return x


def euler(predict: Predict, noise: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Return x0 by Euler steps along noise - x0, the straight lines of flow matching: first order.

    Source:
        Liu et al. 2023, "Flow Straight and Fast", section 2.1.
    """
    if process.schedule != "flow":
        raise ModelError(f"the sampler 'euler' follows straight lines; for the schedule {process.schedule!r} use ddim")
    x = noise
    for now, then in itertools.pairwise(times):
        clean, end = process.denoised(x, predict(x, _at(now)), _at(now))
        x = x + (then - now) * (end - clean)
    return x


def heun(predict: Predict, noise: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Return x0 by steps that average x0 over both their ends: second order, two evaluations a step but the last.

    The trapezoidal rule on d(x / sigma) / d(alpha / sigma) = x0, which stays finite where the example is gone; Karras
    et al. apply the same rule to d(x / alpha) / d(sigma / alpha) = noise, which does not.

    Source:
        Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 1.
    """
    x = noise
    for now, then in itertools.pairwise(times):
        clean, drawn = process.denoised(x, predict(x, _at(now)), _at(now))
        ahead = process.noised(clean, drawn, _at(then))
        # at time 0 the first half of the step is x0 itself, and x / sigma is not defined
        if then > 0:
            corrected, _ = process.denoised(ahead, predict(ahead, _at(then)), _at(then))
            ahead = _step(process, x, 0.5 * (clean + corrected), now, then)
        x = ahead
    return x


def dpm_solver_2m(predict: Predict, noise: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Return x0 by DPM-Solver++(2M): second order with one evaluation a step.

    Steps that begin or end at an infinite log-SNR are first order, as there is nothing finite to extrapolate over.

    Source:
        Lu et al. 2022, "DPM-Solver++", algorithm 2.
    """
    half_log_snr = (0.5 * process.log_snr(torch.tensor(times, dtype=torch.float64))).tolist()
    x = noise
    before: Tensor | None = None
    for step, (now, then) in enumerate(itertools.pairwise(times)):
        clean, _ = process.denoised(x, predict(x, _at(now)), _at(now))
        share = 0.0
        if before is not None and np.isfinite(half_log_snr[step - 1]) and np.isfinite(half_log_snr[step + 1]):
            ahead = half_log_snr[step + 1] - half_log_snr[step]
            # 1 / (2 r) of the paper, r being the previous step over this one in half log-SNR
            share = 0.5 * ahead / (half_log_snr[step] - half_log_snr[step - 1])
        guess = clean if before is None else clean + share * (clean - before)
        x = _step(process, x, guess, now, then)
        before = clean
    return x


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {"ddim": ddim, "heun": heun, "dpm-solver-2m": dpm_solver_2m, "euler": euler}
)


def find_sampler(name: str) -> Sampler:
    """Return a sampler by name.

    Raises:
        ModelError: There is none of that name.
    """
    if name not in SAMPLERS:
        raise ModelError(f"There is no sampler {name!r}. Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def guided(
    network: Network,
    conditions: tuple[Tensor, ...],
    silence: tuple[Tensor, ...],
    guidance: float,
    *,
    one_batch: bool = True,
    process: Process | None = None,
    rescale: float = 0.0,
) -> Predict:
    """Return a prediction guided towards its conditions: p(silence) + guidance (p(conditions) - p(silence)).

    At a guidance of 1 (or 0) the other prediction is not computed at all.

    Args:
        network: Prediction under conditions.
        conditions: Streams `[batch, frames_i, mels]` to condition on.
        silence: The same streams with silence in the place of speech.
        guidance: 0 ignores the conditions, 1 is the model as trained, more exaggerates them.
        one_batch: Whether both predictions are made in one batch, which fills a GPU. A processor is as fast on two
            batches, whose buffers are half the size, and faster where the large ones are given back to the system.
        process: Needed to rescale.
        rescale: Share, in 0..1, by which mean and deviation of each clip's x0 return to those without guidance, which
            would otherwise make speech louder.

    Source:
        Ho & Salimans 2022; silence at inference without dropout in training: Ramapuram et al. 2026; rescaling: Lin et
        al. 2024, section 3.4, here of x0 and with its mean, as the mean of a log-mel is its level.
    """
    alone = {0.0: silence, 1.0: conditions}.get(guidance)
    if alone is not None:
        return network(alone)

    def mixed(x: Tensor, time: Tensor, towards: Tensor, without: Tensor) -> Tensor:
        """Return the guided prediction, rescaled."""
        prediction = torch.lerp(without, towards, guidance)
        if process is None or not rescale:
            return prediction
        clean, plain = (process.denoised(x, own, time)[0] for own in (prediction, towards))
        return process.prediction(x, _like(clean, plain, rescale), time)

    if not one_batch:
        each = network(conditions), network(silence)

        def in_turn(x: Tensor, time: Tensor) -> Tensor:
            """Evaluate one after the other and mix them."""
            return mixed(x, time, *(predict(x, time) for predict in each))

        return in_turn
    both = network(tuple(torch.cat(pair) for pair in zip(conditions, silence, strict=True)))

    def at_once(x: Tensor, time: Tensor) -> Tensor:
        """Evaluate both in one batch and mix them."""
        return mixed(x, time, *both(torch.cat((x, x)), time).chunk(2))

    return at_once


def held(predict: Predict, known: Tensor, noise: Tensor, process: Process) -> Predict:
    """Return a prediction for x_t whose first frames are known speech, noised to each time.

    The frames after them are then generated as their continuation within the same stream. What the sampler makes of
    the known frames themselves has no effect and is to be cut off.

    Args:
        predict: The prediction.
        known: x0 of the first frames, `[batch, known frames, mels]`.
        noise: Theirs, independent of `known`.
        process: Noises them.

    Source:
        Song et al. 2021, "Score-Based Generative Modeling through SDEs", appendix I.2 (imputation).
    """

    def replaced(x: Tensor, time: Tensor) -> Tensor:
        """Evaluate with the known frames in place."""
        return predict(torch.cat((process.noised(known, noise, time), x[:, known.shape[1] :]), 1), time)

    return replaced if known.shape[1] else predict


def _like(clean: Tensor, plain: Tensor, share: float) -> Tensor:
    """Return x0 with each clip's mean and deviation moved towards those of another x0."""
    mean, deviation = clean.mean((1, 2), keepdim=True), clean.std((1, 2), keepdim=True)
    matched = (clean - mean) * (plain.std((1, 2), keepdim=True) / deviation) + plain.mean((1, 2), keepdim=True)
    return torch.lerp(clean, matched, share)


def _angle(process: Process, time: Tensor) -> Tensor:
    alpha, sigma = process.scales(time)
    return torch.atan2(sigma, alpha)


def _at(time: float) -> Tensor:
    # one time for all clips, on the CPU whatever the device: reading it waits for nothing
    return torch.tensor(time, dtype=torch.float64)


def _step(process: Process, x: Tensor, clean: Tensor, now: float, then: float) -> Tensor:
    """Return x at `then` from x at `now`, with x0 held at `clean` in between (exact in the linear part)."""
    (alpha, sigma), (alpha_then, sigma_then) = (
        process.scales(torch.tensor(time, dtype=torch.float64)) for time in (now, then)
    )
    shrink = float(sigma_then / sigma)
    return shrink * x + (float(alpha_then) - shrink * float(alpha)) * clean
