"""Shape of the network: one dial, the depth, from which width and heads follow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cdslm_model.errors import ModelError

__all__ = ["PATCHES", "TIME_FEATURES", "WIDTH_PER_LAYER", "Config"]

WIDTH_PER_LAYER = 128
TIME_FEATURES = 256
"""Sinusoidal features of the diffusion time, before its two-layer perceptron."""
PATCHES = range(1, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Shape of the network.

    Attributes:
        depth: Blocks L.
        width: Model dimension d; 128 L in the family of the paper.
        head_dim: Dimension of an attention head.
        mels: Mel bands of a frame.
        patch: Frames that make one token, 1..6.
        context_frames: Longest context, in frames (80 a second).
        continuation_frames: Longest continuation, in frames.
        extra_streams: Features of a frame of each further conditioning stream (Whisper features, text embeddings), in
            `MMDiT.forward` between context and continuation; the models of the paper have none.
        rotary_base: Base of the rotary embedding, in frames.
        static_context: Whether the conditioning streams are modulated at time 0 and attend to themselves only: their
            keys and values are then the same in every sampling step. Not so in the models of the paper.

    Raises:
        ModelError: A value is out of range.
    """

    depth: int
    width: int
    head_dim: int = 64
    mels: int = 80
    patch: int = 1
    context_frames: int = 800
    continuation_frames: int = 2400
    extra_streams: tuple[int, ...] = ()
    rotary_base: float = 10_000.0
    static_context: bool = False

    def __post_init__(self) -> None:
        """Check all values."""
        for name in ("depth", "width", "head_dim", "mels", "patch", "continuation_frames", "context_frames"):
            value = getattr(self, name)
            if type(value) is not int:
                raise ModelError(f"{name} is {value!r}; a whole number is needed")
            if value < (name != "context_frames"):
                raise ModelError(f"{name} is {value}; at least {int(name != 'context_frames')} is needed")
        if self.width % self.head_dim or self.head_dim % 2:
            raise ModelError(f"width {self.width} does not divide into heads of {self.head_dim}; use a multiple")
        if not self.rotary_base > 1:
            raise ModelError(f"rotary_base is {self.rotary_base}; it must be above 1")
        if self.patch not in PATCHES:
            raise ModelError(f"patch is {self.patch}; {PATCHES[0]} to {PATCHES[-1]} frames make a token")
        if any(type(features) is not int or features < 1 for features in self.extra_streams):
            raise ModelError(
                f"extra_streams is {self.extra_streams!r}; use a positive count of features a frame for each"
            )

    @classmethod
    def from_depth(
        cls,
        depth: int,
        *,
        patch: int = 1,
        context_frames: int = 800,
        continuation_frames: int = 2400,
        rotary_base: float = 10_000.0,
        head_dim: int = 64,
        static_context: bool = False,
    ) -> Self:
        """Return the member of the paper's family with `depth` blocks: width 128 a block, heads of 64.

        Heads of 128, half as many, have the same FLOPs and nearly the same parameters, and suit the attention kernels
        of recent GPUs better.

        Example:
            >>> base = Config.from_depth(4)
            >>> base.width, base.heads, base.parameters()
            (512, 8, 36056144)
        """
        return cls(
            depth=depth,
            width=WIDTH_PER_LAYER * depth,
            head_dim=head_dim,
            patch=patch,
            context_frames=context_frames,
            continuation_frames=continuation_frames,
            rotary_base=rotary_base,
            static_context=static_context,
        )

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.width // self.head_dim

    @property
    def token_width(self) -> int:
        """Values of one mel token: `patch` frames of `mels` bands."""
        return self.patch * self.mels

    @property
    def bottleneck(self) -> bool:
        """Whether a token is more numbers than the network is wide.

        Speech fills few of a patch's dimensions and noise all of them. A network that is narrower than its patch cannot
        pass the noise from input to output, and leaves some of it in its samples, however long it is trained.
        """
        return self.token_width > self.width

    def tokens(self, frames: int) -> int:
        """Return the number of tokens of a number of frames; the last one may be padded."""
        return -(-frames // self.patch)

    def parameters(self) -> int:
        """Return N, the trainable parameters, in closed form.

        A stream of a block has 12 d^2 of attention and perceptron and 6 d^2 of modulation; in the last block a
        conditioning stream has its three projections and two modulation vectors only. Context and continuation share
        the projection of their mel frames. This is the design that gives the counts of the paper.
        """
        d, streams = self.width, 2 + len(self.extra_streams)
        full, pre_only = 18 * d**2 + 15 * d, 5 * d**2 + 5 * d
        blocks = (streams * (self.depth - 1) + 1) * full + (streams - 1) * pre_only
        norm_scales = 2 * self.head_dim * streams * self.depth
        time = TIME_FEATURES * 4 * d + 4 * d + 4 * d**2 + d
        inputs = sum((self.patch * features + 1) * d for features in (self.mels, *self.extra_streams))
        return blocks + norm_scales + time + inputs + (d + 1) * self.token_width

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**dataclasses.asdict(self), "extra_streams": list(self.extra_streams)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the config of the JSON values of `as_dict`.

        Raises:
            ModelError: A field is unknown, missing, or out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ModelError(f"unknown fields in a model's config: {', '.join(unknown)}; a newer version wrote it")
        try:
            return cls(**{**fields, "extra_streams": tuple(fields.get("extra_streams", ()))})
        except TypeError as error:
            raise ModelError(f"a model's config cannot be read: {error}") from error
