"""Token layouts: streams next to each other on one time axis, densely batched, or packed without padding."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cdslm_model.net.rotary import RotaryEmbedding, joint_qkv

__all__ = ["Dense", "Layout", "Packed", "stream_times"]


class Layout(ABC):
    """Carries tokens between the streams, each computed on its own, and the attention over all of them.

    Args:
        times: Time of every token in frames, streams one after the other, `[tokens]`.
        head_dim: Dimension of a head.
        dtype: Of the tokens; queries and keys are normed and rotated in float32 at least.
        base: Of the rotary embedding.
        static: Whether conditions attend to conditions only.
    """

    def __init__(self, times: Tensor, head_dim: int, dtype: torch.dtype, base: float, static: bool) -> None:
        self._rotary = RotaryEmbedding(times, head_dim, torch.promote_types(dtype, torch.float32), base)
        self._static = static

    @abstractmethod
    def spread(self, conditions: Tensor, stream: int) -> Tensor:
        """Return `[batch, width]` so that it broadcasts against the tokens of stream number `stream`."""

    @abstractmethod
    def attend(self, projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]]) -> Sequence[Tensor]:
        """Return attention of every token of a clip over all tokens of all streams of that clip, or see `static`.

        Args:
            projected: Per stream, queries, keys and values, `[..., tokens, 3, heads, head_dim]`.
            norm_scales: Per stream, RMSNorm scales of queries and keys, `[head_dim]` each.

        Returns:
            Per stream, `[..., tokens, width]`.
        """


class Dense(Layout):
    """Every clip of the batch has the same lengths: streams are `[batch, tokens, width]`.

    Args:
        times: Time of every token of each stream, in frames.
        head_dim, dtype, base, static: See `Layout`.

    Attributes:
        counts: Tokens of each stream.
    """

    def __init__(
        self,
        times: Sequence[Tensor],
        head_dim: int,
        dtype: torch.dtype,
        base: float = 10_000.0,
        static: bool = False,
    ) -> None:
        super().__init__(torch.cat(list(times)), head_dim, dtype, base, static)
        self.counts = [len(stream) for stream in times]
        if static:
            exact = torch.promote_types(dtype, torch.float32)
            before = torch.cat([*times[:-1], times[-1][:0]])
            self._before, self._after = (RotaryEmbedding(own, head_dim, exact, base) for own in (before, times[-1]))

    def spread(self, conditions: Tensor, stream: int) -> Tensor:
        """Return `[batch, 1, width]`."""
        del stream
        return conditions[:, None]

    def attend(self, projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]]) -> Sequence[Tensor]:
        """Attend over the streams joined along time."""
        qkv = joint_qkv(projected, norm_scales, self._rotary)
        attended = _static_attention(*qkv, sum(self.counts[:-1])) if self._static else _attention(*qkv)
        return torch.split(attended, self.counts, dim=1)

    def attend_before(
        self, projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Sequence[Tensor], Tensor, Tensor]:
        """Return attention of static conditions over themselves, and the keys and values that are attended to later."""
        query, key, value = joint_qkv(projected, norm_scales, self._before)
        return torch.split(_attention(query, key, value), self.counts[:-1], dim=1), key, value

    def attend_after(self, projected: Tensor, norm_scales: tuple[Tensor, Tensor], key: Tensor, value: Tensor) -> Tensor:
        """Return attention of the generated stream over keys and values of static conditions, and its own."""
        query, own_key, own_value = joint_qkv([projected], [norm_scales], self._after)
        return _attention(query, torch.cat((key, own_key), 1), torch.cat((value, own_value), 1))


class Packed(Layout):
    """Clips differ in length: a stream is the tokens of all clips one after the other, `[tokens, width]`.

    No token is padding. Attention runs once per group of clips with equal lengths, and needs no mask.

    Args:
        counts: Tokens of each clip, per stream: `[streams][batch]`.
        times: Time of each token in frames, per stream, clips one after the other.
        head_dim: Dimension of a head.
        dtype: Of the tokens; queries and keys are normed and rotated in float32 at least.
        base: Of the rotary embedding.
        static: Whether conditions attend to conditions only.
    """

    def __init__(
        self,
        counts: Sequence[Sequence[int]],
        times: Sequence[Tensor],
        head_dim: int,
        dtype: torch.dtype,
        base: float = 10_000.0,
        static: bool = False,
    ) -> None:
        super().__init__(torch.cat(list(times)), head_dim, dtype, base, static)
        device = times[0].device
        self._totals = [sum(lengths) for lengths in counts]
        clips = torch.arange(len(counts[0]), device=device)
        self._owners = [clips.repeat_interleave(torch.tensor(lengths, device=device)) for lengths in counts]
        starts = [list(itertools.accumulate(lengths, initial=0))[:-1] for lengths in counts]
        offsets = list(itertools.accumulate(self._totals, initial=0))
        groups: dict[tuple[int, ...], list[Tensor]] = {}
        for clip, lengths in enumerate(zip(*counts, strict=True)):
            if sum(lengths):
                parts = [
                    torch.arange(length, device=device) + offsets[stream] + starts[stream][clip]
                    for stream, length in enumerate(lengths)
                ]
                groups.setdefault(lengths, []).append(torch.cat(parts))
        self._groups = [torch.stack(members) for members in groups.values()]
        self._conditions = [sum(lengths[:-1]) for lengths in groups]
        order = torch.cat([group.flatten() for group in self._groups])
        # the inverse of the permutation by groups: indexing with it restores the order of the tokens
        self._back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))

    def spread(self, conditions: Tensor, stream: int) -> Tensor:
        """Return `[tokens, width]`: the condition of each token's clip."""
        return conditions[self._owners[stream]]

    def attend(self, projected: Sequence[Tensor], norm_scales: Sequence[tuple[Tensor, Tensor]]) -> Sequence[Tensor]:
        """Attend within each clip, clips of equal lengths together."""
        q, k, v = joint_qkv(projected, norm_scales, self._rotary)
        attended = [
            (
                _static_attention(q[group], k[group], v[group], conditions)
                if self._static
                else _attention(q[group], k[group], v[group])
            ).flatten(0, 1)
            for group, conditions in zip(self._groups, self._conditions, strict=True)
        ]
        return torch.split(torch.cat(attended)[self._back], self._totals)


def stream_times(counts: Sequence[int], patch: int, device: torch.device) -> list[Tensor]:
    """Return the time of each token of one clip's streams, in frames.

    The last stream begins at 0. The first, its context, ends just before; further conditions lie before the context.

    Args:
        counts: Tokens of each stream, the generated one last.
        patch: Frames from one token to the next.
        device: Of the times.

    Example:
        >>> [times.tolist() for times in stream_times([2, 3], 4, torch.device("cpu"))]
        [[-8, -4], [0, 4, 8]]
    """
    ends = itertools.accumulate(counts[:-1])
    before = [(torch.arange(count, device=device) - end) * patch for count, end in zip(counts[:-1], ends, strict=True)]
    return [*before, torch.arange(counts[-1], device=device) * patch]


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(head_dim)) v of `[batch, tokens, heads, head_dim]` as `[batch, tokens, width]`."""
    # without a mask, which would rule out the flash kernel
    if not query.shape[1]:
        return query.flatten(2)
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return attended.transpose(1, 2).flatten(2)


def _static_attention(query: Tensor, key: Tensor, value: Tensor, conditions: int) -> Tensor:
    """Return attention of the first tokens, those of conditions, over themselves, and of the others over all."""
    # two calls, as a mask would rule out the flash kernel and compute what it hides
    own = _attention(*(part[:, :conditions] for part in (query, key, value)))
    return torch.cat((own, _attention(query[:, conditions:], key, value)), 1)
