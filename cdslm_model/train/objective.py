"""The training objective: batches determined by seed and step, their loss, and validation on fixed noise and times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cdslm_model.data.mel import Normalizer
from cdslm_model.data.stored import Decoder, StoredWindows
from cdslm_model.data.windows import Windows
from cdslm_model.diffusion import TARGETS, Process
from cdslm_model.guess import FirstGuess
from cdslm_model.noise import Noise, noise_keys
from cdslm_model.seeding import random_source

__all__ = ["Batch", "Collator", "StoredBatch", "Validation", "losses", "training_batch"]

Network = Callable[[tuple[Tensor, ...], Tensor], Tensor]
ONSET_FRAMES = 8.0
_VALIDATION_SEED = 0
_GOLDEN = 0.6180339887498949
_PIECE = 16
"""Windows that are decoded at once for the loss of the best constant."""


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

    def cut(self, context_frames: int, continuation_frames: int) -> Batch:
        """Return the frames around the join of context and continuation."""
        start = self.context.shape[1] - context_frames
        clean, noise = (own[:, :continuation_frames] for own in (self.clean, self.noise))
        return Batch(self.context[:, start:], clean, noise, self.time)


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What a batch is made from on the device: 2 bytes a value with float16, and no noise.

    Attributes:
        windows: Context and continuation as they are stored.
        keys: Of the noise, int64 `[batch, 4]`.
        time: float64 `[batch]` in [0, 1].
    """

    windows: StoredWindows
    keys: Tensor
    time: Tensor

    def pinned(self) -> StoredBatch:
        """Return a copy in page-locked memory."""
        return StoredBatch(self.windows.pinned(), self.keys.pin_memory(), self.time.pin_memory())

    def to(self, device: torch.device) -> StoredBatch:
        """Return the batch on a device; the copy may still be under way."""
        keys, time = (value.to(device, non_blocking=True) for value in (self.keys, self.time))
        return StoredBatch(self.windows.to(device), keys, time)

    def split(self, size: int) -> Iterator[StoredBatch]:
        """Yield batches of at most `size` windows."""
        keys, times = torch.split(self.keys, size), torch.split(self.time, size)
        for piece in zip(self.windows.split(size), keys, times, strict=True):
            yield StoredBatch(*piece)


class Collator:
    """Makes batches on one device from what is stored.

    Args:
        decoder: Of the windows.
        context_frames: Frames of a window that are context.
        noise: Source of the noise.
    """

    def __init__(self, decoder: Decoder, context_frames: int, noise: Noise) -> None:
        self._decoder, self._context_frames, self._noise = decoder, context_frames, noise

    @classmethod
    def of(cls, windows: Windows, normalizer: Normalizer, device: torch.device | str) -> Collator:
        """Return the collator of some windows."""
        decoder = windows.shards.decoder(normalizer, device)
        return cls(decoder, windows.context_frames, Noise(windows.frames, device))

    def __call__(self, stored: StoredBatch) -> Batch:
        """Return decoded, normalised windows with their noise and times."""
        mels = self._decoder(stored.windows)
        context, clean = mels[:, : self._context_frames], mels[:, self._context_frames :]
        return Batch(context, clean, self._noise(stored.keys, *clean.shape[1:]), stored.time)


def losses(
    network: Network, process: Process, batch: Batch, onset_weight: float = 0.0, guess: FirstGuess | None = None
) -> Tensor:
    """Return the weighted squared error of each window, averaged over frames and mels, float32 `[batch]`.

    Args:
        network: Prediction from streams and time.
        process: Target and weights.
        batch: Windows with noise and times.
        onset_weight: Additional weight of frame 0, which falls by e over 8 frames. The context predicts the first
            frames best, and in the mean over a whole continuation they hardly count.
        guess: First guess of x0, which the network corrects.
    """
    noisy = process.noised(batch.clean, batch.noise, batch.time)
    guessed = None if guess is None else guess(batch.context, noisy.shape[1])
    output = network((batch.context, process.network_input(noisy, guessed, batch.time)), batch.time)
    prediction = process.from_network(output, noisy, guessed, batch.time)
    target = process.predicted(batch.clean, batch.noise, batch.time)
    # float32: with 8 significant bits the squares of small errors would be mostly rounding
    squares = (prediction.float() - target).square()
    if onset_weight:
        frames = torch.arange(squares.shape[1], device=squares.device)
        squares = squares * (1.0 + onset_weight * torch.exp(-frames / ONSET_FRAMES))[:, None]
    errors = squares.mean((1, 2))
    return process.weight(batch.time).float() * errors


def training_batch(
    windows: Windows, seed: int, step: int, rows: Sequence[int], size: int, end_share: float = 0.0
) -> StoredBatch:
    """Return some rows of a step's batch; the rows do not depend on which process computes which.

    Times are stratified over the whole batch: the step draws an offset, each row adds its share of [0, 1).

    Args:
        windows: Training speech.
        seed: The run's.
        step: Counts from 0.
        rows: Of 0 .. size - 1.
        size: Windows in the whole batch.
        end_share: Share of the times that are 1, pure noise; the others are even over [0, 1).
    """
    # keyed by the row in the whole batch, so that the number of processes does not change it
    keys = noise_keys(seed, [f"step {step} place {row}" for row in rows])
    # Kingma et al. 2021: evenly spread times under one random offset lower the variance of the loss
    offset = random_source(seed, "time", step).random()
    # stretched beyond 1 and cut there: a share of end_share falls on exactly 1, pure noise
    time = torch.tensor(
        [min(1.0, (offset + row / size) % 1.0 / (1.0 - end_share)) for row in rows], dtype=torch.float64
    )
    return StoredBatch(windows.batch(seed, step, rows, size), keys, time)


class Validation:
    """Held-out windows with noise and times that never change, so that two losses differ by the model only.

    Windows lie evenly over the data, and times evenly over [0, 1] (golden-ratio sequence); neither depends on the
    run's seed, so that the values of different runs can be compared.

    Args:
        windows: Held-out speech.
        normalizer: The model's.
        count: How many windows.

    Attributes:
        stored: All windows, with the keys of their noise and their times.
    """

    def __init__(self, windows: Windows, normalizer: Normalizer, count: int) -> None:
        self._windows, self._normalizer, self.count = windows, normalizer, count
        keys = noise_keys(_VALIDATION_SEED, [f"valid {number}" for number in range(count)])
        # windows follow the order of the data: rising times would tie each noise level to a part of it
        time = torch.tensor([(0.5 + index * _GOLDEN) % 1.0 for index in range(count)], dtype=torch.float64)
        self.stored = StoredBatch(windows.spread(count), keys, time)

    def collator(self, device: torch.device | str) -> Collator:
        """Return what makes batches of these windows on a device."""
        return Collator.of(self._windows, self._normalizer, device)

    def constant_loss(self, process: Process) -> float:
        """Return the loss of the best constant prediction: the mean target of each time and mel band.

        The mean is that of these very windows, so that no constant has a lower loss.
        """
        collate, mean, loss = self.collator("cpu"), torch.zeros(()), 0.0
        # in pieces: all windows in float32, with their noise, would be four times what is stored
        for piece in self.stored.split(_PIECE):
            mean = mean + collate(piece).clean.double().mean(1).sum(0) / self.count
        for piece in self.stored.split(_PIECE):
            batch = collate(piece)
            of_clean, _ = TARGETS[process.target](*process.scales(batch.time))
            # the noise has mean 0: only the part of x0 in the target has a mean to predict
            errors = process.predicted(batch.clean, batch.noise, batch.time) - of_clean[:, None, None] * mean
            loss += float((process.weight(batch.time) * errors.square().mean((1, 2))).sum())
        return loss / self.count

    def share(self, rank: int, world: int) -> StoredBatch:
        """Return every `world`-th window from `rank` on."""
        stored = self.stored
        # interleaved, so that shares differ by one window at most
        return StoredBatch(stored.windows.every(world, rank), stored.keys[rank::world], stored.time[rank::world])
