"""Cost of the network: exact floating-point operations of its matrix products, and tokens by each convention."""

from __future__ import annotations

from dataclasses import dataclass

from cdslm_model.net.config import TIME_FEATURES, Config

__all__ = ["BACKWARD", "Flops", "forward", "sampling", "six_nd", "tokens", "training"]

BACKWARD = 2
"""Cost of the backward pass in forward passes: each product has two gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flops:
    """Operations of one sample, a multiply-add counting as two.

    Attributes:
        dense: Projections and perceptrons of the blocks.
        attention: Scores and weighted sums.
        modulation: adaLN projections and the time perceptron.
        io: Input and output projections.
    """

    dense: int
    attention: int
    modulation: int
    io: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.dense + self.attention + self.modulation + self.io

    def times(self, factor: int) -> Flops:
        """Return the cost of `factor` repetitions."""
        return Flops(
            dense=factor * self.dense,
            attention=factor * self.attention,
            modulation=factor * self.modulation,
            io=factor * self.io,
        )

    def plus(self, other: Flops) -> Flops:
        """Return the cost of both."""
        return Flops(
            dense=self.dense + other.dense,
            attention=self.attention + other.attention,
            modulation=self.modulation + other.modulation,
            io=self.io + other.io,
        )


def forward(config: Config, context_frames: int, continuation_frames: int) -> Flops:
    """Return the cost of one forward pass of one sample of a network without extra streams.

    For patch 1, with n = Tc + Tg tokens: 24 d^2 [L Tg + (L-1) Tc] + 6 d^2 Tc + 4 d n^2 L + 2 (12 L - 4) d^2
    + 160 d (n + Tg), and 2 (256 * 4 d + 4 d^2) for the time perceptron.

    Args:
        config: The network.
        context_frames: Frames of the context, Tc.
        continuation_frames: Frames of the continuation, Tg.

    Example:
        >>> round(forward(Config.from_depth(4), 800, 2400).total / 1e9, 1)
        161.4
    """
    d, depth = config.width, config.depth
    context, generated = config.tokens(context_frames), config.tokens(continuation_frames)
    both = context + generated
    pairs = both**2 * depth
    if config.static_context:
        pairs = (both * generated + context**2) * depth
    return Flops(
        # in the last block the context has queries, keys and values only: 6 d^2 of 24 a token
        dense=24 * d**2 * (depth * generated + (depth - 1) * context) + 6 * d**2 * context,
        # all pairs, the unused queries of the last context among them: they are computed
        attention=4 * d * pairs,
        # once a sample and not a token; 6 vectors a stream, but 2 of the last block's context
        modulation=2 * (12 * depth - 4) * d**2 + (1 + config.static_context) * _time_flops(d),
        io=2 * config.token_width * d * (both + generated),
    )


def sampling(config: Config, context_frames: int, continuation_frames: int, evaluations: int) -> Flops:
    """Return the cost of one sample whose steps share what does not change, of a network without extra streams.

    The modulations of all times, which serve every sample alike, are left out.

    Args:
        config: The network.
        context_frames: Frames of the context.
        continuation_frames: Frames of the continuation.
        evaluations: Of the network, one a step with "dpm-solver-2m" and "ddim".
    """
    d, depth = config.width, config.depth
    context, generated = config.tokens(context_frames), config.tokens(continuation_frames)
    whole = forward(config, context_frames, continuation_frames)
    embedding = 2 * config.token_width * d * context
    if not config.static_context:
        steps = Flops(dense=whole.dense, attention=whole.attention, modulation=0, io=whole.io - embedding)
        once = Flops(dense=0, attention=0, modulation=0, io=embedding)
    else:
        attention = 4 * d * generated * (context + generated) * depth
        steps = Flops(dense=24 * d**2 * depth * generated, attention=attention, modulation=0, io=whole.io - embedding)
        once = Flops(
            dense=whole.dense - steps.dense,
            attention=whole.attention - attention,
            # the context's share, at time 0
            modulation=2 * (6 * depth - 4) * d**2 + _time_flops(d),
            io=embedding,
        )
    return steps.times(evaluations).plus(once)


def _time_flops(width: int) -> int:
    """Return the cost of one embedded time."""
    return 2 * (TIME_FEATURES * 4 * width + 4 * width**2)


def training(config: Config, context_frames: int, continuation_frames: int) -> Flops:
    """Return the cost of one training step of one sample: forward once, backward at twice the cost."""
    return forward(config, context_frames, continuation_frames).times(1 + BACKWARD)


def six_nd(config: Config, context_frames: int, continuation_frames: int) -> int:
    """Return 6 N D of one sample, D counted as all tokens that enter the network.

    It is a rule of thumb for one-stream transformers. Here a token meets the weights of its own stream only and the
    modulation not at all, about N / 3, while attention is left out: the rule is off by a factor that drifts with size.
    """
    return 6 * config.parameters() * tokens(config, context_frames, continuation_frames)["network"]


def tokens(config: Config, context_frames: int, continuation_frames: int) -> dict[str, int]:
    """Return the tokens of one sample by each convention.

    Returns:
        "network": tokens that enter the network, both streams; "generated": those of the continuation alone;
        "frames": mel frames of both, whatever the patch.
    """
    generated = config.tokens(continuation_frames)
    return {
        "network": config.tokens(context_frames) + generated,
        "generated": generated,
        "frames": context_frames + continuation_frames,
    }
