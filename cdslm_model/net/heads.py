"""Queries, keys and values of all streams on one time axis: normed per head, and turned by their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["NORM_EPS", "Rotary", "joined_heads", "joined_heads_by_formula"]

NORM_EPS = 1e-6
_ROTARY_BASE = 10_000.0
_QUERY, _KEY, _VALUE = range(3)


class Rotary:
    """By how much each token's queries and keys are turned.

    Args:
        times: Time of every token in frames, `[tokens]`.
        head_dim: Dimension of a head.
        dtype: Of the cosines and sines.

    Attributes:
        cos, sin: `[tokens, 1, head_dim]`, the second half of a head as the first.

    Source:
        Su et al. 2021, "RoFormer" (rotary positions), in halves.
    """

    def __init__(self, times: Tensor, head_dim: int, dtype: torch.dtype) -> None:
        steps = torch.arange(0, head_dim, 2, device=times.device, dtype=torch.float32)
        angles = (times.float()[:, None] * _ROTARY_BASE ** (-steps / head_dim)).repeat(1, 2)[:, None]
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)


def joined_heads(
    projected: Sequence[Tensor], gains: Sequence[tuple[Tensor, Tensor]], rotary: Rotary
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of all streams joined along time, `[..., tokens, heads, head_dim]` each.

    A compiler makes one kernel of the formula. Where nothing is compiled, its dozen passes over memory and as many on
    the way back take more time than anything but matrix products, and it is computed in fewer.

    Args:
        projected: Per stream, queries, keys and values, `[..., tokens, 3, heads, head_dim]`.
        gains: Per stream, of the norms of queries and keys, `[head_dim]` each.
        rotary: Of the tokens of all streams, one after the other.
    """
    if torch.compiler.is_compiling():
        return joined_heads_by_formula(projected, gains, rotary)
    flat = [gain for pair in gains for gain in pair]
    made: Any = _JoinedHeads  # torch gives `apply` no types
    query, key, value = made.apply(rotary.cos, rotary.sin, *projected, *flat)
    return query, key, value


def joined_heads_by_formula(
    projected: Sequence[Tensor], gains: Sequence[tuple[Tensor, Tensor]], rotary: Rotary
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `joined_heads` returns, written as what it is: RMS norm with gain, then rotation."""
    exact = rotary.cos.dtype
    turned = []
    for which in (_QUERY, _KEY):
        normed = torch.cat(
            [
                functional.rms_norm(one[..., which, :, :].to(exact), pair[which].shape, pair[which], NORM_EPS)
                for one, pair in zip(projected, gains, strict=True)
            ],
            dim=-3,
        )
        first, second = normed.chunk(2, dim=-1)
        across = torch.cat([-second, first], dim=-1)
        turned.append(torch.addcmul(normed * rotary.cos, across, rotary.sin).to(projected[0].dtype))
    return turned[0], turned[1], torch.cat([one[..., _VALUE, :, :] for one in projected], dim=-3)


class _JoinedHeads(torch.autograd.Function):
    """The formula in fewer passes; what it keeps for the way back is what the projections made, and one RMS a head."""

    @staticmethod
    def forward(ctx: Any, cos: Tensor, sin: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values of cosines, sines, then the projection of each stream, then their gains."""
        count = len(rest) // 3
        projected, gains = rest[:count], rest[count:]
        like = projected[0]
        total = sum(one.shape[-4] for one in projected)
        joined = [like.new_empty(*like.shape[:-4], total, *like.shape[-2:], dtype=cos.dtype) for _ in range(2)]
        value = torch.cat([one[..., _VALUE, :, :] for one in projected], dim=-3)
        scales = []
        for stream, one, tokens in _placed(projected):
            for which in (_QUERY, _KEY):
                heads = one[..., which, :, :].to(cos.dtype)
                scale = _inverse_rms(heads)
                out = joined[which][..., tokens, :, :]
                gain = gains[2 * stream + which]
                _turn(heads * scale, cos[tokens] * gain, sin[tokens] * gain, out)
                scales.append(scale)
        ctx.save_for_backward(cos, sin, *rest, *scales)
        ctx.count = count
        return joined[_QUERY].to(like.dtype), joined[_KEY].to(like.dtype), value

    @staticmethod
    def backward(ctx: Any, *wanted: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of projections and gains."""
        cos, sin, *rest = ctx.saved_tensors
        count = ctx.count
        projected, gains, scales = rest[:count], rest[count : 3 * count], rest[3 * count :]
        of_projected, of_gains = [], []
        for stream, one, tokens in _placed(projected):
            made = torch.empty_like(one)
            for which in (_QUERY, _KEY):
                place = 2 * stream + which
                back = wanted[which][..., tokens, :, :].to(cos.dtype)
                unturned = torch.empty_like(back)
                _turn(back, cos[tokens], -sin[tokens], unturned)
                normed = one[..., which, :, :].to(cos.dtype) * scales[place]
                both = (unturned * normed).flatten(0, -2)
                of_gains.append(both.sum(0).to(gains[place].dtype))
                mean = (both @ gains[place].to(cos.dtype)).view(scales[place].shape).div_(-one.shape[-1])
                unturned.mul_(gains[place]).addcmul_(normed, mean).mul_(scales[place])
                made[..., which, :, :] = unturned
            made[..., _VALUE, :, :] = wanted[_VALUE][..., tokens, :, :]
            of_projected.append(made)
        return (None, None, *of_projected, *of_gains)


def _placed(projected: Sequence[Tensor]) -> Iterator[tuple[int, Tensor, slice]]:
    """Yield number, projection and place on the common axis of each stream."""
    start = 0
    for stream, one in enumerate(projected):
        stop = start + one.shape[-4]
        yield stream, one, slice(start, stop)
        start = stop


def _inverse_rms(heads: Tensor) -> Tensor:
    """Return 1 / RMS over the last axis, which stays with size 1."""
    norm: Tensor = torch.linalg.vector_norm(heads, dim=-1, keepdim=True)
    return norm.square_().div_(heads.shape[-1]).add_(NORM_EPS).rsqrt_()


def _turn(heads: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write (h1 cos1 - h2 sin2, h2 cos2 + h1 sin1) for the halves of each head.

    The sine that meets a half is that of the half which it comes from: a gain in it belongs to what is turned.
    """
    half = heads.shape[-1] // 2
    torch.mul(heads, cos, out=out)
    out[..., :half].addcmul_(heads[..., half:], sin[..., half:], value=-1)
    out[..., half:].addcmul_(heads[..., :half], sin[..., :half])
