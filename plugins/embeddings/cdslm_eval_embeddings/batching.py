"""Clips of any length through a network in batches: windows, and norms that leave out the padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cdslm_eval.core.audio import Samples
from cdslm_eval.plugin.models import length_batches
from cdslm_eval_embeddings.encoder import RATE_HZ, Vectors

if TYPE_CHECKING:
    from torch import nn

__all__ = ["mask_group_norms", "over_windows", "windows"]

WINDOW_S = 30.0
BATCH_S = 240.0
"""Seconds of audio in one batch, padding included."""
_WASTE = 0.1
"""Largest share of a window that may be padding."""


def windows(samples: Samples, window_s: float = WINDOW_S) -> list[Samples]:
    """Return a clip in equal parts of at most `window_s`."""
    return list(np.array_split(samples, max(1, int(np.ceil(len(samples) / (window_s * RATE_HZ))))))


def over_windows(
    clips: Sequence[Samples], embed: Callable[[list[Samples]], Vectors], window_s: float = WINDOW_S
) -> Vectors:
    """Return one vector per clip: the mean over its windows, weighted by their length.

    Args:
        clips: float32 `[samples]` each.
        embed: Vectors of a batch of windows of like length.
        window_s: Longest window, in seconds.
    """
    parts = [(clip, part) for clip, samples in enumerate(clips) for part in windows(samples, window_s)]
    lengths = [len(part) for _, part in parts]
    sums: dict[int, Vectors] = {}
    for batch in length_batches(lengths, int(BATCH_S * RATE_HZ), _WASTE):
        for index, vector in zip(batch, embed([parts[index][1] for index in batch]), strict=True):
            clip = parts[index][0]
            share = vector * np.float32(lengths[index] / len(clips[clip]))
            sums[clip] = share if clip not in sums else sums[clip] + share
    return np.stack([sums[clip] for clip in range(len(clips))])


def mask_group_norms(convolutions: nn.ModuleList) -> Callable[[Sequence[int] | None], None]:
    """Let the group norms of a convolutional front end take their statistics over real samples only.

    The base models of the wav2vec 2.0 family normalise each channel over time, padding included, so a clip's features
    would depend on what it is batched with.

    Args:
        convolutions: The layers, each with `conv` and perhaps `layer_norm`; group norms are replaced in place.

    Returns:
        Sets the lengths of the next batch, in samples; None for a batch without padding.
    """
    import torch
    from torch import nn

    class MaskedGroupNorm(nn.Module):
        """Group norm whose mean and variance leave out frames at or after each row's length."""

        def __init__(self, norm: nn.GroupNorm, strides: list[tuple[int, int]]) -> None:
            super().__init__()
            self.norm, self.strides = norm, strides
            self.samples: Sequence[int] | None = None

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            """Normalise `[batch, channels, frames]`."""
            if self.samples is None:
                normal: torch.Tensor = self.norm(hidden)
                return normal
            lengths = torch.tensor(self.samples, device=hidden.device)
            for kernel, stride in self.strides:
                lengths = (lengths - kernel) // stride + 1
            real = torch.arange(hidden.shape[2], device=hidden.device) < lengths[:, None]
            mask = real[:, None, None, :]
            rows, channels, frames = hidden.shape
            grouped = hidden.reshape(rows, self.norm.num_groups, -1, frames)
            count = lengths[:, None, None, None] * grouped.shape[2]
            mean = (grouped * mask).sum(dim=(2, 3), keepdim=True) / count
            centred = grouped - mean
            variance = (centred.square() * mask).sum(dim=(2, 3), keepdim=True) / count
            scaled = (centred * torch.rsqrt(variance + self.norm.eps)).reshape(rows, channels, frames)
            return scaled * self.norm.weight[:, None] + self.norm.bias[:, None]

    masked: list[MaskedGroupNorm] = []
    strides: list[tuple[int, int]] = []
    for layer in convolutions:
        convolution: nn.Conv1d = layer.conv  # type: ignore[assignment]  # ModuleList knows modules only
        strides.append((convolution.kernel_size[0], convolution.stride[0]))
        group_norm = getattr(layer, "layer_norm", None)
        if isinstance(group_norm, nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(group_norm, list(strides))
            masked.append(layer.layer_norm)

    def expect(samples: Sequence[int] | None) -> None:
        for norm in masked:
            norm.samples = samples

    return expect
