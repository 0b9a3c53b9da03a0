"""The network of the trained vocoder: log-mels to a complex spectrum, frame by frame, and its inverse transform."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cdslm_model.errors import CheckpointError, ModelError

__all__ = ["IstftConfig", "IstftNetwork"]

_KERNEL = 7
_LOUDEST = 5.0
"""Natural logarithm of the largest magnitude of a bin; a full-scale sine has about 5.7 under a window of 1200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IstftConfig:
    """Sizes of the network.

    Attributes:
        mels: Bands of its input.
        fft: Points of the inverse transform, and samples of its Hann window.
        hop: Samples from one frame to the next.
        width: Channels.
        hidden: Channels between the two projections of a block.
        blocks: Number of blocks.

    Raises:
        ModelError: A value is out of range.
    """

    mels: int = 80
    fft: int = 1200
    hop: int = 300
    width: int = 256
    hidden: int = 768
    blocks: int = 7

    def __post_init__(self) -> None:
        """Check all values."""
        for name, value in dataclasses.asdict(self).items():
            if not 1 <= value <= 1 << 16:
                raise ModelError(f"{name} = {value} lies outside 1..65536")
        if 2 * self.hop > self.fft:
            raise ModelError(f"hop = {self.hop} is more than half of fft = {self.fft}: windows would leave gaps")

    @property
    def reach(self) -> int:
        """Frames on either side that a sample of the output depends on, at most."""
        return (1 + self.blocks) * (_KERNEL // 2) + -(-self.fft // (2 * self.hop))

    def flops(self, frames: int) -> float:
        """Return the FLOPs of one forward pass over a number of frames: convolutions and projections."""
        block = _KERNEL * self.width + 2 * self.width * self.hidden
        ends = _KERNEL * self.mels * self.width + self.width * (self.fft + 2)
        return 2.0 * frames * (self.blocks * block + ends)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IstftConfig:
        """Return the sizes of a checkpoint.

        Raises:
            CheckpointError: They are of another network.
        """
        try:
            return cls(**values)
        except (TypeError, ModelError) as error:
            raise CheckpointError(f"sizes of a vocoder that this version cannot read: {error}") from error


class IstftNetwork(nn.Module):
    """Blocks of depthwise convolutions at the frame rate, and an inverse short-time Fourier transform.

    Args:
        config: Sizes.

    Source:
        Siuzdak 2023, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders", section 3.
    """

    def __init__(self, config: IstftConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv1d(config.mels, config.width, _KERNEL, padding=_KERNEL // 2)
        self.norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(_Block(config.width, config.hidden, config.blocks) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.fft + 2)
        self.register_buffer("_window", torch.hann_window(config.fft), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all of them have biases

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return samples `[batch, frames * hop]` of normalised log-mels `[batch, frames, mels]`; at least one frame."""
        # a centred transform has one frame more than hops, and log-mels are without it
        extended = torch.cat((log_mel, log_mel[:, -1:]), dim=1)
        values = self.norm(self.embed(extended.mT).mT)
        for block in self.blocks:
            values = block(values)
        # the transform in float32: autocast has no complex numbers, and bfloat16 no phase worth the name
        log_magnitude, phase = self.head(self.last_norm(values)).float().chunk(2, dim=-1)
        spectrum = torch.polar(log_magnitude.clamp(max=_LOUDEST).exp(), phase).mT
        config, length = self.config, log_mel.shape[1] * self.config.hop
        samples: Tensor = torch.istft(
            spectrum, config.fft, config.hop, window=self.get_buffer("_window"), length=length
        )
        return samples


class _Block(nn.Module):
    """Depthwise convolution over time, two projections, and a scaled residual."""

    def __init__(self, width: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, hidden)
        self.fall = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 1.0 / blocks))

    def forward(self, values: Tensor) -> Tensor:
        """Return `[batch, frames, width]`."""
        mixed = self.norm(self.depthwise(values.mT).mT)
        changed: Tensor = self.fall(functional.gelu(self.rise(mixed)))
        return values + self.scale * changed
