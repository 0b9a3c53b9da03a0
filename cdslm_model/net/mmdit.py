"""The network: one transformer stream per source, each with weights of its own, joined in one bidirectional attention.

It knows no diffusion: it maps streams of frames and a time in 0..1 to frames of its last stream.

- adaLN-zero: the time sets shift, scale and gate of both branches of every stream (Peebles & Xie 2023, "DiT").
- Two streams as in Esser et al. 2024 (SD3, "MM-DiT"); a third is one more entry of the tuple.
- Per-head RMS norm of queries and keys; rotary positions on one time axis, the context at negative times.
- In the last block a conditioning stream is `context_pre_only`: it provides keys and values and has no output
  projection. As in SD3's block its queries are still computed and unused: the published parameter counts contain them,
  and so do the FLOPs.
- After the last block there is the output projection only, without adaLN.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cdslm_model.errors import ModelError
from cdslm_model.net.config import TIME_FEATURES, Config
from cdslm_model.net.layout import Dense, Layout, Packed, stream_times
from cdslm_model.net.parametrization import TABLE, Table

__all__ = ["Block", "MMDiT", "Projection", "RMSNormScale", "Stream", "time_features"]

_NORM_EPS = 1e-6
# the frequencies of time_features were made for steps of 0..1000, and time here is 0..1
_TIME_SCALE = 1000.0


class Projection(nn.Linear):
    """A linear layer that names the roles of its parameters.

    Attributes:
        roles: Name of each parameter -> its row in the table of the parametrization.
    """

    def __init__(self, inputs: int, outputs: int, weight: str, bias: str) -> None:
        super().__init__(inputs, outputs)
        self.roles: Mapping[str, str] = {"weight": weight, "bias": bias}


class RMSNormScale(nn.Module):
    """The learned scale per dimension of an RMS norm (Zhang & Sennrich 2019) of queries or keys."""

    roles: Mapping[str, str] = {"weight": "norm_scale"}

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Stream(nn.Module):
    """One stream's part of a block: adaLN, attention projections, perceptron.

    Args:
        config: The shape.
        context_pre_only: The stream provides keys and values in this block and is not updated by it.

    Attributes:
        vectors: adaLN vectors: shift, scale and, unless `context_pre_only`, gate, shift, scale, gate.
    """

    def __init__(self, config: Config, *, context_pre_only: bool) -> None:
        super().__init__()
        d = config.width
        self.context_pre_only = context_pre_only
        self._heads = (3, config.heads, config.head_dim)
        self.vectors = 2 if context_pre_only else 6
        self.modulation = Projection(d, self.vectors * d, "modulation", "bias")
        self.qkv = Projection(d, 3 * d, "hidden", "bias")
        self.query_norm, self.key_norm = RMSNormScale(config.head_dim), RMSNormScale(config.head_dim)
        if not context_pre_only:
            self.out = Projection(d, d, "hidden", "bias")
            self.up = Projection(d, 4 * d, "hidden", "bias")
            self.down = Projection(4 * d, d, "hidden", "bias")

    def adaln(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return the adaLN parameters: shift, scale and, unless `context_pre_only`, gate, shift, scale, gate."""
        return torch.chunk(self.modulation(condition), self.vectors, dim=-1)

    def project(self, tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return queries, keys and values, `[..., tokens, 3, heads, head_dim]`."""
        projected: Tensor = self.qkv(_modulated(tokens, shift, scale))
        return projected.view(*projected.shape[:-1], *self._heads)

    @property
    def norm_scales(self) -> tuple[Tensor, Tensor]:
        """RMSNorm scales of queries and keys, `[head_dim]` each."""
        return self.query_norm.weight, self.key_norm.weight

    def update(self, tokens: Tensor, attended: Tensor, adaln: Sequence[Tensor], residual: float) -> Tensor:
        """Return the tokens after the residual branches of attention and perceptron.

        Args:
            tokens: `[..., tokens, d]`.
            attended: Output of the attention, of the same shape.
            adaln: Gate of the attention, then shift, scale and gate of the perceptron.
            residual: Multiplier of both branches.
        """
        gate, shift, scale, last_gate = adaln
        # gate times multiplier first: a dense batch has one gate a clip, and the product no pass over all tokens
        tokens = torch.addcmul(tokens, gate * residual, self.out(attended))
        hidden = functional.gelu(self.up(_modulated(tokens, shift, scale)))
        return torch.addcmul(tokens, last_gate * residual, self.down(hidden))


class Block(nn.Module):
    """All streams attend to all tokens of a clip, then each goes through its own perceptron.

    Args:
        config: The shape.
        last: Every stream but the final one is `context_pre_only`.
        residual: Multiplier of each branch before it is added.

    Attributes:
        vectors: adaLN vectors of each stream.
    """

    def __init__(self, config: Config, *, last: bool, residual: float) -> None:
        super().__init__()
        self.residual = residual
        conditions = 1 + len(config.extra_streams)
        self.streams = nn.ModuleList(
            Stream(config, context_pre_only=last and index < conditions) for index in range(conditions + 1)
        )
        self.vectors = [stream.vectors for stream in self.each()]

    def forward(self, tokens: Sequence[Tensor], times: Sequence[Tensor], layout: Layout) -> list[Tensor]:
        """Return the tokens of each stream after the block.

        Args:
            tokens: Per stream, `[batch, tokens, d]`, or packed `[tokens, d]`.
            times: Per stream, embedding of its diffusion time, `[batch, d]`.
            layout: Positions of the tokens in time and in the batch.
        """
        return self.modulated(tokens, self.adaln(times), layout)

    def adaln(self, times: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """Return the adaLN parameters of each stream, `[batch, d]` each."""
        return [stream.adaln(time) for stream, time in zip(self.each(), times, strict=True)]

    def modulated(self, tokens: Sequence[Tensor], adaln: Sequence[Sequence[Tensor]], layout: Layout) -> list[Tensor]:
        """Return the tokens of each stream after the block, from adaLN parameters that are there already."""
        spread = [[layout.spread(vector, index) for vector in own] for index, own in enumerate(adaln)]
        projected = [
            stream.project(own, shift, scale)
            for stream, own, (shift, scale, *_) in zip(self.each(), tokens, spread, strict=True)
        ]
        attended = layout.attend(projected, [stream.norm_scales for stream in self.each()])
        return [
            own if stream.context_pre_only else stream.update(own, out, vectors[2:], self.residual)
            for stream, own, out, vectors in zip(self.each(), tokens, attended, spread, strict=True)
        ]

    def before(self, tokens: Sequence[Tensor], time: Tensor, layout: Dense) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the tokens of static conditions after the block, and the keys and values that it has of them."""
        streams = list(self.each())[:-1]
        spread = [[layout.spread(vector, index) for vector in own.adaln(time)] for index, own in enumerate(streams)]
        projected = [own.project(*rest, *adaln[:2]) for own, adaln, *rest in zip(streams, spread, tokens, strict=True)]
        attended, key, value = layout.attend_before(projected, [own.norm_scales for own in streams])
        updated = [
            own if stream.context_pre_only else stream.update(own, out, vectors[2:], self.residual)
            for stream, own, out, vectors in zip(streams, tokens, attended, spread, strict=True)
        ]
        return updated, key, value

    def after(self, tokens: Tensor, adaln: Sequence[Tensor], key: Tensor, value: Tensor, layout: Dense) -> Tensor:
        """Return the generated stream's tokens after the block, from keys and values of static conditions."""
        *_, stream = self.each()
        shift, scale, *rest = (layout.spread(vector, -1) for vector in adaln)
        attended = layout.attend_after(stream.project(tokens, shift, scale), stream.norm_scales, key, value)
        return stream.update(tokens, attended, rest, self.residual)

    def each(self) -> Iterator[Stream]:
        """Yield the streams, the generated one last."""
        for stream in self.streams:
            assert isinstance(stream, Stream)
            yield stream


class MMDiT(nn.Module):
    """The whole network.

    Its parameters hold torch's defaults until `parametrization.initialise` fills them.

    Args:
        config: Its shape.
        table: The parametrization, for the multipliers of branches and output.

    Attributes:
        recompute: The first blocks whose activations are computed again in the backward pass, and not kept.
    """

    def __init__(self, config: Config, table: Table = TABLE) -> None:
        super().__init__()
        self.recompute = 0
        d, patch = config.width, config.patch
        self.config = config
        self._output_multiplier = table.multiplier("output", config)
        self.embed = Projection(config.token_width, d, "input", "outer_bias")
        self.embed_extra = nn.ModuleList(
            Projection(patch * features, d, "input", "outer_bias") for features in config.extra_streams
        )
        self.time_in = Projection(TIME_FEATURES, 4 * d, "input", "outer_bias")
        self.time_out = Projection(4 * d, d, "time", "outer_bias")
        self.blocks = nn.ModuleList(
            Block(config, last=index == config.depth - 1, residual=table.multiplier("branch", config))
            for index in range(config.depth)
        )
        self.out = Projection(d, config.token_width, "output", "output_bias")

    def forward(
        self, streams: Sequence[Tensor], time: Tensor, lengths: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Return the network's output for the last stream.

        Args:
            streams: `[batch, frames, features]` each: context, further conditions, and last the stream that is
                generated. Any condition may have 0 frames. The generated stream begins at time 0 and the context ends
                there, whatever its length.
            time: `[batch]` in 0..1.
            lengths: Valid frames `[batch]` of each stream, counted from its beginning; None where all are. The rest
                is neither computed nor attended to, and is 0 in the output.

        Returns:
            `[batch, frames, mels]`.

        Raises:
            ModelError: The streams are not those of the config, or a length is longer than its stream.
        """
        self._check(streams)
        counts = _counts(streams, lengths)
        # the usual case, without index tensors: it compiles into one graph
        if all(set(own) == {stream.shape[1]} for own, stream in zip(counts, streams, strict=True)):
            return self._dense(streams, time)
        return self._packed(streams, time, counts)

    def modulations(self, time: Tensor) -> Tensor:
        """Return the adaLN parameters that change from step to step, for each time `[times]`, as `[times, values]`.

        They depend on the time only, and sampling uses the same times for every batch: a third of all parameters need
        not be read again in its steps. Those of static conditions do not change.
        """
        condition = self._condition(time)
        static = self._conditions if self.config.static_context else 0
        return torch.cat(
            [
                vector
                for block in self._blocks()
                for stream in list(block.each())[static:]
                for vector in stream.adaln(condition)
            ],
            -1,
        )

    def prepared(self, conditions: Sequence[Tensor], layout: Dense) -> list[Tensor]:
        """Return what all steps share of the streams before the generated one.

        Returns:
            Their tokens, `[batch, tokens, d]` each; where they are static, keys and values of each block in turn,
            `[batch, tokens, heads, head_dim]` each.
        """
        tokens = [self._embedded(self._patched(own, generated=False), index) for index, own in enumerate(conditions)]
        if not self.config.static_context:
            return tokens
        time = self._condition(torch.zeros(1, device=self.embed.weight.device))
        cached: list[Tensor] = []
        for block in self._blocks():
            tokens, *own = block.before(tokens, time, layout)
            cached += own
        return cached

    def layout(self, frames: Sequence[int], device: torch.device) -> Dense:
        """Return the dense layout of streams of these numbers of frames."""
        times = stream_times([self.config.tokens(own) for own in frames], self.config.patch, device)
        config, dtype = self.config, self.embed.weight.dtype
        return Dense(times, config.head_dim, dtype, config.rotary_base, config.static_context)

    def step(self, prepared: Sequence[Tensor], generated: Tensor, modulation: Tensor, layout: Dense) -> Tensor:
        """Return what `forward` returns, from parts that many steps share.

        Args:
            prepared: Of `prepared`.
            generated: The generated stream, `[batch, frames, mels]`.
            modulation: One row of `modulations`, `[values]`; all clips are at one time.
            layout: Of `layout`.
        """
        tokens = self._embedded(self._patched(generated, generated=True), -1)
        vectors = iter(modulation.view(1, -1, self.config.width).unbind(1))
        if self.config.static_context:
            for block, key, value in zip(self._blocks(), prepared[::2], prepared[1::2], strict=True):
                tokens = block.after(tokens, list(itertools.islice(vectors, block.vectors[-1])), key, value, layout)
        else:
            hidden: Sequence[Tensor] = [*prepared, tokens]
            for block in self._blocks():
                hidden = block.modulated(hidden, [list(itertools.islice(vectors, n)) for n in block.vectors], layout)
            tokens = hidden[-1]
        return self._frames(self._projected(tokens), generated.shape[1])

    def _dense(self, streams: Sequence[Tensor], time: Tensor) -> Tensor:
        """Return the output for clips of equal lengths."""
        last = len(streams) - 1
        tokens = [self._embedded(self._patched(own, index == last), index) for index, own in enumerate(streams)]
        layout = self.layout([own.shape[1] for own in streams], time.device)
        return self._frames(self._run(tokens, time, layout), streams[-1].shape[1])

    def _frames(self, out: Tensor, frames: int) -> Tensor:
        """Return tokens as frames, without those that fill the last token."""
        return out.reshape(len(out), -1, self.config.mels)[:, :frames]

    def _packed(self, streams: Sequence[Tensor], time: Tensor, counts: Sequence[Sequence[int]]) -> Tensor:
        """Return the output for clips of different lengths, without computing any padding."""
        config, last = self.config, len(streams) - 1
        cut = [
            [
                self._patched(stream[clip : clip + 1, :length], index == last)[0]
                for clip, length in enumerate(counts[index])
            ]
            for index, stream in enumerate(streams)
        ]
        tokens = [self._embedded(torch.cat(clips), index) for index, clips in enumerate(cut)]
        numbers = [[len(clip) for clip in clips] for clips in cut]
        per_clip = [stream_times(lengths, config.patch, time.device) for lengths in zip(*numbers, strict=True)]
        times = [torch.cat(stream) for stream in zip(*per_clip, strict=True)]
        layout = Packed(numbers, times, config.head_dim, tokens[0].dtype, config.rotary_base, config.static_context)
        out = self._run(tokens, time, layout)
        parts = torch.split(out, numbers[-1])
        frames = streams[-1].shape[1]
        clips = [part.reshape(-1, config.mels)[:length] for part, length in zip(parts, counts[-1], strict=True)]
        return torch.stack([functional.pad(clip, (0, 0, 0, frames - len(clip))) for clip in clips])

    def _run(self, tokens: Sequence[Tensor], time: Tensor, layout: Layout) -> Tensor:
        """Return the output projection of the last stream's tokens."""
        condition = self._condition(time)
        still = self._condition(torch.zeros_like(time)) if self.config.static_context else condition
        times = [*[still] * self._conditions, condition]
        hidden: Sequence[Tensor] = tokens
        for index, block in enumerate(self.blocks):
            if index < self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, times, layout, use_reentrant=False)
            else:
                hidden = block(hidden, times, layout)
        return self._projected(hidden[-1])

    def _condition(self, time: Tensor) -> Tensor:
        """Return the embedding of the diffusion time, `[batch, d]`."""
        # float32 until here: at the highest frequency bfloat16 would confuse near times
        features = time_features(time).to(self.time_in.weight.dtype)
        condition: Tensor = functional.silu(self.time_out(functional.silu(self.time_in(features))))
        return condition

    def _projected(self, hidden: Tensor) -> Tensor:
        """Return the output projection of tokens."""
        # muP's multiplier scales the input, as the bias must stay unscaled
        out: Tensor = self.out(
            functional.layer_norm(hidden, (self.config.width,), eps=_NORM_EPS) * self._output_multiplier
        )
        return out

    @property
    def _conditions(self) -> int:
        """Streams before the generated one."""
        return 1 + len(self.config.extra_streams)

    def _blocks(self) -> Iterator[Block]:
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def _embedded(self, patches: Tensor, stream: int) -> Tensor:
        """Return a stream's tokens; context and generated speech share one projection."""
        layers = [self.embed, *self.embed_extra, self.embed]
        embedded: Tensor = layers[stream](patches)
        return embedded

    def _patched(self, stream: Tensor, generated: bool) -> Tensor:
        """Return `[batch, tokens, patch * features]`, filled up with 0 at the far side of time 0."""
        batch, frames, features = stream.shape
        # at the join, tokens of both streams must meet without empty frames between them
        fill = -frames % self.config.patch
        padded = functional.pad(stream, (0, 0, 0, fill) if generated else (0, 0, fill, 0)) if fill else stream
        return padded.reshape(batch, (frames + fill) // self.config.patch, self.config.patch * features)

    def _check(self, streams: Sequence[Tensor]) -> None:
        expected = (self.config.mels, *self.config.extra_streams, self.config.mels)
        features = tuple(stream.shape[-1] for stream in streams)
        if features != expected:
            raise ModelError(f"streams of {features} features a frame for a network of {expected}")
        if not streams[-1].shape[1]:
            raise ModelError("the generated stream has 0 frames; at least 1 is needed")


def time_features(time: Tensor) -> Tensor:
    """Return cosines and sines of a time in 0..1 at geometric frequencies, float32 `[batch, 256]`."""
    half = TIME_FEATURES // 2
    steps = torch.arange(half, device=time.device, dtype=torch.float32)
    angles = _TIME_SCALE * time.float()[:, None] * torch.exp(-math.log(10_000.0) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return layer-normed tokens, scaled and shifted by the condition (adaLN)."""
    # 1 + scale: modulation starts at 0 and must then leave a plain layer norm
    return torch.addcmul(shift, functional.layer_norm(tokens, tokens.shape[-1:], eps=_NORM_EPS), 1 + scale)


def _counts(streams: Sequence[Tensor], lengths: Sequence[Tensor | None] | None) -> list[list[int]]:
    """Return the valid frames of each clip, per stream."""
    counts = []
    for stream, length in zip(streams, lengths or [None] * len(streams), strict=True):
        batch, frames = stream.shape[:2]
        own = [frames] * batch if length is None else [int(value) for value in length.tolist()]
        if len(own) != batch or any(not 0 <= value <= frames for value in own):
            raise ModelError(f"lengths {own} for a stream of {batch} clips of {frames} frames")
        counts.append(own)
    return counts
