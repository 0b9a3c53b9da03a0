"""The network of Distill-MOS: convolutions over a compressed complex spectrum, a transformer, attention pooling."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["SEGMENT", "DistillMos", "segments"]

SEGMENT = 122_880
"""Samples at 16 kHz that the network reads at a time, 7.68 s."""
_LARGEST_HOP = 16_000
_WINDOW, _HOP = 320, 160
_CHANNELS = (64, 64, 128, 256, 256, 256)
_WIDTH, _HEADS, _LAYERS, _FRAMES = 200, 8, 7, 384
_POWER = 0.3


def segments(samples: torch.Tensor) -> torch.Tensor:
    """Return the evenly spaced segments of a clip, `[segments, SEGMENT]`; a shorter clip ends in zeros.

    Args:
        samples: float32 `[samples]` at 16 kHz.
    """
    excess = len(samples) - SEGMENT
    if excess <= 0:
        return functional.pad(samples, (0, -excess))[None]
    count = -(-excess // _LARGEST_HOP) + 1
    starts = [int(position * excess) for position in torch.linspace(0, 1, count, dtype=torch.float64).tolist()]
    return torch.stack([samples[start : start + SEGMENT] for start in starts])


class _Spectrum(nn.Module):
    """Complex spectrum whose magnitudes are raised to 0.3, through six convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous, bins = 2, _WINDOW // 2 + 1
        for index, channels in enumerate(_CHANNELS):
            strides = (2 if index else 1, 2 if index == len(_CHANNELS) - 1 else 1)
            layers += [nn.Conv2d(previous, channels, 3, strides, padding=(0, 1)), nn.LeakyReLU(0.1)]
            previous, bins = channels, (bins - 3) // strides[0] + 1
        self.cnn = nn.Sequential(*layers)
        self.features = previous * bins

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return features `[batch, frames, features]` of `[batch, SEGMENT]`."""
        half = (_WINDOW - _HOP) // 2
        window = torch.hann_window(_WINDOW, device=samples.device)
        padded = functional.pad(samples, (half, half), mode="reflect")
        spectrum = torch.view_as_real(
            torch.stft(padded, _WINDOW, _HOP, _WINDOW, window, center=False, return_complex=True)
        )
        magnitude = spectrum.square().sum(-1, keepdim=True).sqrt().clamp(1e-12)
        compressed = magnitude**_POWER * spectrum / magnitude
        hidden: torch.Tensor = self.cnn(compressed.permute(0, 3, 1, 2))
        return hidden.flatten(1, 2).transpose(1, 2)


class _Transformer(nn.Module):
    """Normalized features, projected, with positions added, through the encoder layers."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.position_encoding = nn.Module()
        # its values are in the weights
        self.position_encoding.register_buffer("pe", torch.zeros(1, _FRAMES, _WIDTH))
        self.linear_proj = nn.Linear(features, _WIDTH)
        layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, _LAYERS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return `[batch, frames, width]` of `[batch, frames, features]`."""
        hidden = self.linear_proj(self.norm(features.transpose(1, 2)).transpose(1, 2))
        positions = self.position_encoding.get_buffer("pe")
        result: torch.Tensor = self.transformer_encoder(hidden + positions)
        return result


class _Pooling(nn.Module):
    """Attention over frames, and one number of the pooled frame."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(_WIDTH, 2 * _WIDTH)
        self.linear2 = nn.Linear(2 * _WIDTH, 1)
        self.linear3 = nn.Linear(_WIDTH, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return `[batch]` of `[batch, frames, width]`."""
        attention = self.linear2(functional.relu(self.linear1(hidden))).softmax(1)
        pooled: torch.Tensor = self.linear3((attention * hidden).sum(1))
        return pooled[:, 0]


class DistillMos(nn.Module):
    """Predicted quality, 1..5, of segments.

    Module names are those of the published weights.

    Source: Stahl and Gamper (2025), "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech
    Quality Assessment", ICASSP.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cnn = _Spectrum()
        self.transformer_pool_attn = nn.ModuleDict(
            {
                "norm_input": nn.BatchNorm1d(self.cnn.features),
                "transformer": _Transformer(self.cnn.features),
                "norm_trans": nn.BatchNorm1d(_WIDTH),
                "pool": _Pooling(),
            }
        )

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the quality of each segment, `[batch]`, of `[batch, SEGMENT]`; level does not matter."""
        head = self.transformer_pool_attn
        peak = samples.abs().amax(1, keepdim=True)
        features = self.cnn(samples / (peak + 1e-8))
        hidden = head["transformer"](head["norm_input"](features.transpose(1, 2)).transpose(1, 2))
        hidden = head["norm_trans"](hidden.transpose(1, 2)).transpose(1, 2)
        quality: torch.Tensor = 1 + 4 * head["pool"](hidden).sigmoid()
        return quality
