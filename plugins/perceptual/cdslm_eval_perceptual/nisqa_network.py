"""The network of NISQA v2.0: a CNN per 150 ms, self-attention over time, one attention pooling per dimension.

Written after the paper; the names of the layers are those of the published checkpoint.

Source: G. Mittag et al., "NISQA: A Deep CNN-Self-Attention Model for Multidimensional Speech Quality Prediction with
Crowdsourced Datasets", Interspeech 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DIMENSIONS", "Nisqa", "architecture_problem"]

DIMENSIONS = 5
_ARCHITECTURE = {
    "model": "NISQA_DIM",
    "cnn_model": "adapt",
    "cnn_fc_out_h": None,
    "td": "self_att",
    "td_sa_pos_enc": False,
    "td_2": "skip",
    "pool": "att",
}


def architecture_problem(args: Mapping[str, Any]) -> str:
    """Return how a checkpoint's settings differ from the one architecture that is built here, or ""."""
    odd = [f"{name}={args.get(name)!r}" for name, wanted in _ARCHITECTURE.items() if args.get(name) != wanted]
    return ", ".join(odd)


class Nisqa(nn.Module):
    """Scores of five dimensions from segments of a mel spectrogram.

    Args:
        args: The settings in the checkpoint.
    """

    def __init__(self, args: Mapping[str, Any]) -> None:
        super().__init__()
        self.cnn = nn.ModuleDict({"model": _SegmentCNN(args)})
        self.time_dependency = nn.ModuleDict({"model": _SelfAttention(args)})
        width, hidden = args["td_sa_d_model"], args["pool_att_h"]
        self.pool_layers = nn.ModuleList(
            nn.ModuleDict({"model": _AttentionPooling(width, hidden)}) for _ in range(DIMENSIONS)
        )

    def forward(self, segments: Sequence[Tensor]) -> Tensor:
        """Return the scores of several clips.

        Args:
            segments: Per clip float32 `[segments, mels, frames]`.

        Returns:
            float32 `[clips, 5]`: MOS, noisiness, discontinuity, coloration, loudness.
        """
        features = self.cnn["model"](torch.cat(list(segments))[:, None])
        padded = nn.utils.rnn.pad_sequence(features.split([len(segment) for segment in segments]), batch_first=True)
        lengths = torch.tensor([len(segment) for segment in segments], device=padded.device)
        absent = torch.arange(padded.shape[1], device=padded.device)[None] >= lengths[:, None]
        context = self.time_dependency["model"](padded, absent)
        return torch.cat([pool["model"](context, absent) for pool in self.pool_layers], dim=1)  # type: ignore[index]  # ModuleDict


class _SegmentCNN(nn.Module):
    """Six convolutions over one segment, `[segments, 1, mels, frames]` to `[segments, channels * bands]`."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        super().__init__()
        kernel = tuple(args["cnn_kernel_size"])
        first, second, third = (args[f"cnn_c_out_{n}"] for n in (1, 2, 3))
        self.pools = [tuple(args[f"cnn_pool_{n}"]) for n in (1, 2, 3)]
        edge = (0 if kernel[0] == 1 else 1, 0) if kernel[1] == 1 else (1, 0 if kernel[0] == 1 else 1)
        widths = ((1, first), (first, second), (second, third), (third, third), (third, third))
        for number, (inside, outside) in enumerate(widths, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inside, outside, kernel, padding=edge))
        self.conv6 = nn.Conv2d(third, third, (kernel[0], self.pools[2][1]), padding=(1, 0))
        for number, outside in enumerate((first, second, third, third, third, third), 1):
            self.add_module(f"bn{number}", nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of each segment."""
        pooled_after = {1: self.pools[0], 2: self.pools[1], 4: self.pools[2]}
        for number in range(1, 7):
            x = functional.relu(self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x)))
            if number in pooled_after:
                x = functional.adaptive_max_pool2d(x, pooled_after[number])
        return x.flatten(1)


class _SelfAttention(nn.Module):
    """Transformer layers over the segments of a clip, `[clips, segments, features]`."""

    def __init__(self, args: Mapping[str, Any]) -> None:
        super().__init__()
        width = args["td_sa_d_model"]
        self.linear = nn.Linear(args["cnn_c_out_3"] * args["cnn_pool_3"][0], width)
        self.norm1 = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            # eager layers only: the fused ones of torch take another path in eval mode, with other rounding
            _Layer(width, args["td_sa_nhead"], args["td_sa_h"])
            for _ in range(args["td_sa_num_layers"])
        )

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        x = self.norm1(self.linear(x))
        for layer in self.layers:
            x = layer(x, absent)
        return x


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x, x, x, key_padding_mask=absent, need_weights=False)[0])
        normal: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return normal


class _AttentionPooling(nn.Module):
    """Weighted mean over segments, `[clips, segments, features]` to `[clips, 1]`."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, 1)
        self.linear3 = nn.Linear(width, 1)

    def forward(self, x: Tensor, absent: Tensor) -> Tensor:
        attention = self.linear2(functional.relu(self.linear1(x))).masked_fill(absent[:, :, None], float("-inf"))
        pooled = (attention.softmax(dim=1) * x).sum(dim=1)
        score: Tensor = self.linear3(pooled)
        return score
