"""Memory of training by shape: state of the weights, kept activations, and how many blocks must be recomputed."""

from __future__ import annotations

import torch

from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config

__all__ = ["activation_bytes", "recomputed_blocks", "state_bytes"]

_STATE_BYTES = 4 + 4 + 8 + 4
"""Of a parameter in float32: weight, average, two moments, gradient."""
_KEPT_BYTES = {torch.float32: 96, torch.bfloat16: 80}
"""Kept for the backward pass by a block that is not compiled, by precision, for each token and unit of width.

Measured as the storages that autograd saves; a compiled block keeps less, as it computes norms and GELU again.
"""
_USABLE = 0.9
"""Share of the free memory that is planned with: the rest is for workspaces and fragmentation."""


def state_bytes(config: Config, dtype: torch.dtype, shards: int = 1) -> int:
    """Return the bytes of weights, averages, moments and gradients in one of `shards` processes.

    Args:
        config: The network.
        dtype: Of matrix products; the copy of the weights in it counts too.
        shards: Processes that share one copy.
    """
    copy = 0 if dtype == torch.float32 else dtype.itemsize
    return config.parameters() * (_STATE_BYTES + copy) // shards


def activation_bytes(config: Config, windows: int, dtype: torch.dtype, recomputed: int = 0) -> int:
    """Return the bytes that the blocks keep for the backward pass.

    Args:
        config: The network and the lengths of its window.
        windows: In one pass.
        dtype: Of matrix products.
        recomputed: Blocks that keep their inputs only; one of them is recomputed at a time.
    """
    tokens = config.tokens(config.context_frames) + config.tokens(config.continuation_frames)
    values = windows * tokens * config.width
    kept = config.depth - recomputed + min(1, recomputed)
    return values * (kept * _KEPT_BYTES[dtype] + recomputed * dtype.itemsize)


def recomputed_blocks(config: Config, windows: int, dtype: torch.dtype, free_bytes: float, shards: int = 1) -> int:
    """Return the least number of blocks to recompute so that a training step fits into memory.

    Args:
        config: The network and the lengths of its window.
        windows: In one pass.
        dtype: Of matrix products.
        free_bytes: Of the device, before the network is made.
        shards: Processes that share one copy of the weights.

    Raises:
        ModelError: It does not fit even if all are.
    """
    for count in range(config.depth + 1):
        needed = state_bytes(config, dtype, shards) + activation_bytes(config, windows, dtype, count)
        if needed <= _USABLE * free_bytes:
            return count
    raise ModelError(
        f"a step needs about {needed / 2**30:.0f} GiB with all activations recomputed, and "
        f"{free_bytes / 2**30:.0f} GiB are free; a smaller --batch-size or --depth, more --accumulate or --patch, or "
        f"more GPUs need less; --recompute {config.depth} tries it all the same"
    )
