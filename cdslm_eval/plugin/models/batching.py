"""Clips on their way into a model: which cannot be used, and batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.levels import is_silent

if TYPE_CHECKING:
    import torch

__all__ = ["length_batches", "padded_batch", "unusable_reason"]


def unusable_reason(clip: Clip, min_seconds: float = 0.0, *, accepts_silence: bool = False) -> str:
    """Return why a model cannot use a clip, or "".

    Args:
        clip: The clip.
        min_seconds: Shortest clip that the model takes, in seconds.
        accepts_silence: Whether a silent clip has a meaningful result.
    """
    if len(clip.samples) == 0:
        return "no samples"
    if not np.isfinite(clip.samples).all():
        return "samples that are not finite"
    if clip.seconds < min_seconds:
        return f"under {min_seconds:g} s"
    return "silent" if not accepts_silence and is_silent(clip.samples) else ""


def length_batches(lengths: Sequence[int], most: int, waste: float = 0.2) -> Iterator[list[int]]:
    """Yield the indices of `lengths` in batches of like length, shortest first.

    Args:
        lengths: Length of each item.
        most: Largest padded size of a batch (items times the longest of them); a longer item forms its own batch.
        waste: Largest share of an item's padded length that may be padding, 0..1.

    Example:
        >>> list(length_batches([10, 99, 9, 100, 8], most=200))
        [[4, 2, 0], [1, 3]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda at: lengths[at]):
        longest = lengths[index]
        if batch and (longest * (len(batch) + 1) > most or lengths[batch[0]] < (1 - waste) * longest):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded_batch(
    batch: Sequence[Samples], device: torch.device, *, normalize: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples `[batch, longest]` padded with zeros, and a mask that is 1 where they are real.

    Args:
        batch: float32 `[samples]` each.
        device: Where both tensors go.
        normalize: Bring each clip to mean 0 and variance 1, as the feature extractor of transformers does.
    """
    import torch

    longest = max(len(samples) for samples in batch)
    values, mask = np.zeros((len(batch), longest), np.float32), np.zeros((len(batch), longest), np.int64)
    for row, samples in enumerate(batch):
        values[row, : len(samples)] = _normalized(samples) if normalize else samples
        mask[row, : len(samples)] = 1
    return torch.from_numpy(values).to(device), torch.from_numpy(mask).to(device)


def _normalized(samples: Samples) -> Samples:
    """Return samples of mean 0 and variance 1; the constant is that of transformers' feature extractor."""
    spread = np.sqrt(np.var(samples, dtype=np.float64) + 1e-7)
    normal: Samples = ((samples - np.mean(samples, dtype=np.float64)) / spread).astype(np.float32)
    return normal
