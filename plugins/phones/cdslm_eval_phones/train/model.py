"""The network: log-mels of 16 kHz samples, dilated convolutions with skips, one score per symbol and 30 ms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

__all__ = ["HOP", "STRIDE", "WINDOW", "PhoneNet", "mel_basis"]

WINDOW, HOP = 400, 160
"""Analysis window and hop in samples: 25 and 10 ms at 16 kHz."""
STRIDE = 3
"""Log-mel frames per output frame."""
MELS = 64
FLOOR = 1e-6
_DILATIONS = (1, 2, 4, 8)


class PhoneNet(nn.Module):
    """A CTC network over phones.

    Args:
        symbols: Number of outputs, the blank at 0.
        width: Channels of its convolutions; 240 with 12 blocks has 2.2 M parameters.
        blocks: Number of dilated convolutions; 12 see 1.4 s to either side.
        dropout: Share of channels dropped within a block while training.
    """

    def __init__(self, symbols: int, width: int = 240, blocks: int = 12, dropout: float = 0.1) -> None:
        super().__init__()
        fourier, mels = mel_basis()
        self.register_buffer("fourier", torch.from_numpy(fourier))
        self.register_buffer("mels", torch.from_numpy(mels))
        self.front = nn.Conv1d(MELS, width, 5, stride=STRIDE, padding=2)
        self.front_norm = nn.BatchNorm1d(width)
        self.dilations: Sequence[int] = [_DILATIONS[number % len(_DILATIONS)] for number in range(blocks)]
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in self.dilations)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in self.dilations)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv1d(width, symbols, 1)

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Return log-probabilities.

        Args:
            samples: `[batch, samples]` at one level.
            lengths: Samples of each clip before padding, int64 `[batch]`; None where none is padded.

        Returns:
            `[batch, frames, symbols]`.
        """
        frames = self.log_mels(samples, lengths)
        if self.training:
            frames = _masked(frames)
        x = torch.relu(self.front_norm(self.front(frames)))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + self.dropout(torch.relu(norm(convolution(x))))
        return F.log_softmax(self.head(x).transpose(1, 2), -1)

    @torch.no_grad()
    def log_mels(self, samples: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Return log-mels less their mean over time, `[batch, mels, frames]`; padding is 0."""
        spectrum = F.conv1d(samples[:, None], self.fourier, stride=HOP)  # type: ignore[arg-type]  # buffers are untyped
        logs = torch.log(F.conv1d(spectrum.square(), self.mels) + FLOOR)  # type: ignore[arg-type]
        if lengths is None:
            return logs - logs.mean(-1, keepdim=True)
        counts = ((lengths - WINDOW) // HOP + 1).clamp(min=1)
        inside = (torch.arange(logs.shape[-1], device=logs.device)[None] < counts[:, None])[:, None]
        mean = (logs * inside).sum(-1, keepdim=True) / counts[:, None, None]
        return (logs - mean) * inside

    @staticmethod
    def frames(lengths: torch.Tensor) -> torch.Tensor:
        """Return how many output frames clips of `lengths` samples have."""
        return torch.div((lengths - WINDOW) // HOP, STRIDE, rounding_mode="floor") + 1


def mel_basis() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the windowed Fourier basis `[2 bins, 1, WINDOW]` and the mel filters over its squares `[MELS, 2 bins, 1]`.

    Filters are triangles, evenly spaced on the mel scale from 60 to 7600 Hz. As convolutions both are part of the
    exported network, which so takes samples.

    Source: S. S. Stevens, J. Volkmann, E. B. Newman, 1937; mel = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987).
    """
    bins = np.arange(WINDOW // 2 + 1)
    angles = 2 * np.pi * bins[:, None] * np.arange(WINDOW) / WINDOW
    basis = np.concatenate([np.cos(angles), np.sin(angles)]) * np.hanning(WINDOW + 1)[:-1]
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (60.0, 7600.0))
    points = 700 * (10 ** (np.linspace(low, high, MELS + 2) / 2595) - 1)
    left, centre, right = points[:-2, None], points[1:-1, None], points[2:, None]
    hertz = bins * 16_000 / WINDOW
    filters = np.clip(np.minimum((hertz - left) / (centre - left), (right - hertz) / (right - centre)), 0, None)
    both = np.concatenate([filters, filters], 1)[..., None]
    return basis[:, None].astype(np.float32), both.astype(np.float32)


def _masked(frames: torch.Tensor) -> torch.Tensor:
    """Return log-mels with two bands and two stretches of time set to the mean (SpecAugment, Park et al. 2019)."""
    batch, mels, count = frames.shape
    keep = torch.ones_like(frames)
    for length, widest, axis in ((mels, 12, 1), (count, 20, 2)) * 2:
        width = torch.randint(0, widest + 1, (batch, 1), device=frames.device)
        start = (torch.rand(batch, 1, device=frames.device) * max(1, length - widest)).long()
        at = torch.arange(length, device=frames.device)[None]
        outside = (at < start) | (at >= start + width)
        keep = keep * (outside[:, :, None] if axis == 1 else outside[:, None])
    return frames * keep
