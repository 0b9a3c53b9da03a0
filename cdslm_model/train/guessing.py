"""Fitting the first guess of a run on its training speech."""

from __future__ import annotations

import torch

from cdslm_model.data.mel import Normalizer
from cdslm_model.data.mixture import windows_of
from cdslm_model.data.windows import Shards
from cdslm_model.guess import CONTEXT_FRAMES, RANK, FirstGuess, Moments
from cdslm_model.train.distributed import World
from cdslm_model.train.settings import Settings

__all__ = ["fitted_guess", "guess_bytes"]

_WINDOWS = 16_384
"""Most windows that are read; 4 hours of speech have three times as many."""
_PER_PASS = 1024


def fitted_guess(settings: Settings, shards: Shards, normalizer: Normalizer, world: World) -> FirstGuess | None:
    """Return the first guess of a run, which all processes share; None where there is none. A collective call.

    It is fitted on windows of its own, the few frames around a join, drawn as those of the run are: by its seed,
    without replacement, in the shares of its mix.

    Raises:
        DataError: No clip is as long as such a window.
    """
    past, frames = _shape(settings)
    if not past or not frames:
        return None
    windows = windows_of(shards, past, frames, settings.join_speakers, settings.mix)
    decode = shards.decoder(normalizer, "cpu")
    count = min(_WINDOWS, windows.per_epoch)
    moments = Moments(frames)
    for start in range(0, count, _PER_PASS):
        rows = range(start, min(count, start + _PER_PASS))
        mels = decode(windows.batch(settings.seed, 0, rows, count))
        moments.add(mels[:, :past], mels[:, past:])
    guess = moments.fit()
    if world.size == 1:
        return guess
    # that of the first: processors differ in how they round
    shared = [
        world.sum(tensor.to(world.device) if world.rank == 0 else torch.zeros_like(tensor, device=world.device)).cpu()
        for tensor in guess.tensors().values()
    ]
    return FirstGuess(*shared)


def guess_bytes(settings: Settings) -> int:
    """Return the bytes of a run's first guess in each checkpoint; 0 where there is none."""
    (past, frames), mels = _shape(settings), settings.config.mels
    rank = min(RANK, past * mels, frames * mels)
    return 4 * mels * (rank * (past + frames) + 2 * frames) if rank else 0


def _shape(settings: Settings) -> tuple[int, int]:
    """Return the frames of context that a guess reads, and those that it predicts."""
    config = settings.config
    return min(CONTEXT_FRAMES, config.context_frames), min(settings.guess_frames, config.continuation_frames)
