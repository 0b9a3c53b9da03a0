"""Queries, keys and values of all streams on one time axis: RMS norm per head, then rotary position embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["NORM_EPS", "RotaryEmbedding", "joint_qkv", "joint_qkv_reference"]

NORM_EPS = 1e-6
_QUERY, _KEY, _VALUE = range(3)


class RotaryEmbedding:
    """Cosines and sines that encode each token's position in its queries and keys.

    Args:
        times: Time of every token in frames, `[tokens]`.
        head_dim: Dimension of a head.
        dtype: Of the cosines and sines.
        base: Ratio of the longest to the shortest wavelength.

    Attributes:
        cos, sin: `[tokens, 1, head_dim]`, the second half of a head as the first.

    Source:
        Su et al. 2021, "RoFormer" (rotary positions), in halves.
    """

    def __init__(self, times: Tensor, head_dim: int, dtype: torch.dtype, base: float = 10_000.0) -> None:
        steps = torch.arange(0, head_dim, 2, device=times.device, dtype=torch.float32)
        # float32, as bfloat16 counts in steps of 8 near frame 2000
        angles = (times.float()[:, None] * base ** (-steps / head_dim)).repeat(1, 2)[:, None]
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)


def joint_qkv(
    projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]], rotary: RotaryEmbedding
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of all streams joined along time, `[..., tokens, heads, head_dim]` each.

    A compiler fuses the reference formula into one kernel. In eager mode its dozen passes over memory, and as many in
    the backward pass, take more time than anything but matrix products, so a hand-written function needs fewer.

    Args:
        projected: Per stream, queries, keys and values, `[..., tokens, 3, heads, head_dim]`.
        norm_scales: Per stream, RMSNorm scales of queries and keys, `[head_dim]` each.
        rotary: Of the tokens of all streams, one after the other.
    """
    if torch.compiler.is_compiling():
        return joint_qkv_reference(projected, norm_scales, rotary)
    flat = [scale for pair in norm_scales for scale in pair]
    fused: Any = _FusedJointQkv  # torch gives `apply` no types
    query, key, value = fused.apply(rotary.cos, rotary.sin, *projected, *flat)
    return query, key, value


def joint_qkv_reference(
    projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]], rotary: RotaryEmbedding
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `joint_qkv` returns, computed by the plain formula: scaled RMS norm, then rotation."""
    exact = rotary.cos.dtype
    rotated = []
    for which in (_QUERY, _KEY):
        normed = torch.cat(
            [
                functional.rms_norm(qkv[..., which, :, :].to(exact), pair[which].shape, pair[which].to(exact), NORM_EPS)
                for qkv, pair in zip(projected, norm_scales, strict=True)
            ],
            dim=-3,
        )
        first, second = normed.chunk(2, dim=-1)
        across = torch.cat([-second, first], dim=-1)
        rotated.append(torch.addcmul(normed * rotary.cos, across, rotary.sin).to(projected[0].dtype))
    return rotated[0], rotated[1], torch.cat([qkv[..., _VALUE, :, :] for qkv in projected], dim=-3)


class _FusedJointQkv(torch.autograd.Function):
    """The formula in fewer passes; saves the projections and one inverse RMS a head for the backward pass."""

    @staticmethod
    def forward(ctx: Any, cos: Tensor, sin: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values from cosines, sines, each stream's projection, then all norm scales."""
        count = len(rest) // 3
        projected, norm_scales = rest[:count], rest[count:]
        like = projected[0]
        total = sum(qkv.shape[-4] for qkv in projected)
        joined = [like.new_empty(*like.shape[:-4], total, *like.shape[-2:], dtype=cos.dtype) for _ in range(2)]
        value = torch.cat([qkv[..., _VALUE, :, :] for qkv in projected], dim=-3)
        inverse_rms = []
        for stream, qkv, tokens in _spans(projected):
            for which in (_QUERY, _KEY):
                heads = qkv[..., which, :, :].to(cos.dtype)
                inverse = _inverse_rms(heads)
                out = joined[which][..., tokens, :, :]
                scale = norm_scales[2 * stream + which]
                # the norm's scale is multiplied into the small tables, which saves a pass over all heads
                _rotate(heads * inverse, cos[tokens] * scale, sin[tokens] * scale, out)
                inverse_rms.append(inverse)
        ctx.save_for_backward(cos, sin, *rest, *inverse_rms)
        ctx.count = count
        return joined[_QUERY].to(like.dtype), joined[_KEY].to(like.dtype), value

    @staticmethod
    def backward(ctx: Any, *out_grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of projections and norm scales."""
        cos, sin, *rest = ctx.saved_tensors
        count = ctx.count
        projected, norm_scales, inverse_rms = rest[:count], rest[count : 3 * count], rest[3 * count :]
        projected_grads, scale_grads = [], []
        for stream, qkv, tokens in _spans(projected):
            grad = torch.empty_like(qkv)
            for which in (_QUERY, _KEY):
                index = 2 * stream + which
                out_grad = out_grads[which][..., tokens, :, :].to(cos.dtype)
                unrotated = torch.empty_like(out_grad)
                # the transpose of a rotation is the rotation by the opposite angle
                _rotate(out_grad, cos[tokens], -sin[tokens], unrotated)
                normed = qkv[..., which, :, :].to(cos.dtype) * inverse_rms[index]
                both = (unrotated * normed).flatten(0, -2)
                scale_grads.append(both.sum(0).to(norm_scales[index].dtype))
                # gradient of RMS norm, r (g s - n mean(g s n)) with n the normed head; the sign is in the mean
                mean = (both @ norm_scales[index].to(cos.dtype)).view(inverse_rms[index].shape).div_(-qkv.shape[-1])
                unrotated.mul_(norm_scales[index]).addcmul_(normed, mean).mul_(inverse_rms[index])
                grad[..., which, :, :] = unrotated
            grad[..., _VALUE, :, :] = out_grads[_VALUE][..., tokens, :, :]
            projected_grads.append(grad)
        return (None, None, *projected_grads, *scale_grads)


def _spans(projected: Sequence[Tensor]) -> Iterator[tuple[int, Tensor, slice]]:
    """Yield number, projection and range on the common axis of each stream."""
    start = 0
    for stream, qkv in enumerate(projected):
        stop = start + qkv.shape[-4]
        yield stream, qkv, slice(start, stop)
        start = stop


def _inverse_rms(heads: Tensor) -> Tensor:
    """Return 1 / RMS over the last axis, which stays with size 1."""
    norm: Tensor = torch.linalg.vector_norm(heads, dim=-1, keepdim=True)
    return norm.square_().div_(heads.shape[-1]).add_(NORM_EPS).rsqrt_()


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Write (h1 cos1 - h2 sin2, h2 cos2 + h1 sin1) for the halves of each head.

    The sine that multiplies a half is that of the half which it comes from: a scale in it belongs to what is rotated.
    """
    half = heads.shape[-1] // 2
    torch.mul(heads, cos, out=out)
    out[..., :half].addcmul_(heads[..., half:], sin[..., half:], value=-1)
    out[..., half:].addcmul_(heads[..., :half], sin[..., :half])
