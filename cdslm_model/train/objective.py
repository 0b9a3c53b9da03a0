"""The training objective: batches determined by seed and step, their loss, and validation on fixed noise and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cdslm_model.data.mel import Normalizer
from cdslm_model.data.windows import Windows
from cdslm_model.diffusion import TARGETS, Process
from cdslm_model.seeding import clip_noise, random_source

__all__ = ["Batch", "Validation", "losses", "training_batch"]

Network = Callable[[tuple[Tensor, ...], Tensor], Tensor]
ONSET_FRAMES = 8.0
_VALIDATION_SEED = 0
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class Batch:
    """Normalised windows with their noise and times.

    Attributes:
        context: `[batch, context frames, mels]`.
        clean: `[batch, continuation frames, mels]`.
        noise: Of the shape of `clean`.
        time: float64 `[batch]` in [0, 1].
    """

    context: Tensor
    clean: Tensor
    noise: Tensor
    time: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved = (value.to(device, non_blocking=True) for value in (self.context, self.clean, self.noise, self.time))
        return Batch(*moved)

    def split(self, size: int) -> Iterator[Batch]:
        """Yield batches of at most `size` windows."""
        pieces = (torch.split(value, size) for value in (self.context, self.clean, self.noise, self.time))
        for piece in zip(*pieces, strict=True):
            yield Batch(*piece)


def losses(network: Network, process: Process, batch: Batch, onset_weight: float = 0.0) -> Tensor:
    """Return the weighted squared error of each window, averaged over frames and mels, float32 `[batch]`.

    Args:
        network: Prediction from streams and time.
        process: Target and weights.
        batch: Windows with noise and times.
        onset_weight: Additional weight of frame 0, which falls by e over 8 frames. The context predicts the first
            frames best, and in the mean over a whole continuation they hardly count.
    """
    noisy = process.noised(batch.clean, batch.noise, batch.time)
    prediction = process.anchored(network((batch.context, noisy), batch.time), batch.context, batch.time)
    target = process.predicted(batch.clean, batch.noise, batch.time)
    # float32: with 8 significant bits the squares of small errors would be mostly rounding
    squares = (prediction.float() - target).square()
    if onset_weight:
        frames = torch.arange(squares.shape[1], device=squares.device)
        squares = squares * (1.0 + onset_weight * torch.exp(-frames / ONSET_FRAMES))[:, None]
    errors = squares.mean((1, 2))
    return process.weight(batch.time).float() * errors


def training_batch(
    windows: Windows,
    normalizer: Normalizer,
    seed: int,
    step: int,
    rows: Sequence[int],
    size: int,
    end_share: float = 0.0,
) -> Batch:
    """Return some rows of a step's batch; the rows do not depend on which process computes which.

    Times are stratified over the whole batch: the step draws an offset, each row adds its share of [0, 1).

    Args:
        windows: Training speech.
        normalizer: Scales log-mels to mean 0 and deviation 1.
        seed: The run's.
        step: Counts from 0.
        rows: Of 0 .. size - 1.
        size: Windows in the whole batch.
        end_share: Share of the times that are 1, pure noise; the others are even over [0, 1).
    """
    context, clean = windows.batch(seed, step, rows, size)
    # keyed by the row in the whole batch, so that the number of processes does not change it
    noise = torch.stack([clip_noise(seed, f"step {step} place {row}", *clean.shape[1:]) for row in rows])
    # Kingma et al. 2021: evenly spread times under one random offset lower the variance of the loss
    offset = random_source(seed, "time", step).random()
    # stretched beyond 1 and cut there: a share of end_share falls on exactly 1, pure noise
    time = torch.tensor(
        [min(1.0, (offset + row / size) % 1.0 / (1.0 - end_share)) for row in rows], dtype=torch.float64
    )
    return Batch(normalizer.normalize(context), normalizer.normalize(clean), noise, time)


class Validation:
    """Held-out windows with noise and times that never change, so that two losses differ by the model only.

    Windows lie evenly over the data, and times evenly over [0, 1] (golden-ratio sequence); neither depends on the
    run's seed, so that the values of different runs can be compared.

    Args:
        windows: Held-out speech.
        normalizer: The model's.
        count: How many windows.
    """

    def __init__(self, windows: Windows, normalizer: Normalizer, count: int) -> None:
        spread = [windows.window((index + 0.5) / count) for index in range(count)]
        context, clean = (normalizer.normalize(torch.stack(part)) for part in zip(*spread, strict=True))
        noise = torch.stack([clip_noise(_VALIDATION_SEED, f"valid {n}", *clean.shape[1:]) for n in range(count)])
        # windows follow the order of the data: rising times would tie each noise level to a part of it
        time = torch.tensor([(0.5 + index * _GOLDEN) % 1.0 for index in range(count)], dtype=torch.float64)
        self.batch = Batch(context, clean, noise, time)

    def constant_loss(self, process: Process) -> float:
        """Return the loss of the best constant prediction: the mean target of each time and mel band.

        The mean is that of these very windows, so that no constant has a lower loss.
        """
        batch = self.batch
        of_clean, _ = TARGETS[process.target](*process.scales(batch.time))
        # the noise has mean 0: only the part of x0 in the target has a mean to predict
        constant = of_clean[:, None, None] * batch.clean.double().mean((0, 1))
        target = process.predicted(batch.clean, batch.noise, batch.time)
        return float((process.weight(batch.time) * (target - constant).square().mean((1, 2))).mean())

    def share(self, rank: int, world: int) -> Batch:
        """Return every `world`-th window from `rank` on."""
        batch = self.batch
        # interleaved, so that shares differ by one window at most
        return Batch(*(value[rank::world] for value in (batch.context, batch.clean, batch.noise, batch.time)))
