"""How a run is computed: compilation, recomputed activations, sharding and the attention kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cdslm_model.net.attention import Kernel
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.train.distributed import World

__all__ = ["Execution"]

_MOST_GRAPHS = 256
"""Of one compiled function; torch's own limit of 8 ends a run with a few buckets of lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the steps of a run are computed; it moves no number but by rounding.

    Attributes:
        compile: Whether torch compiles the loss and the network.
        recompute: The first blocks of the network whose activations are computed again in the backward pass, which
            saves the memory of keeping them.
        shard_group: Processes that share one copy of the weights; groups are replicas. None is all processes.
        kernel: Of the attention.
        backend: Of torch.compile.
    """

    compile: bool = False
    recompute: int = 0
    shard_group: int | None = None
    kernel: Kernel = field(default_factory=Kernel)
    backend: str | Callable[..., Any] = "inductor"

    def as_dict(self, world: World) -> dict[str, Any]:
        """Return it as JSON values, with the processes and the device."""
        device = world.device
        return {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "processes": world.size,
            "compile": self.compile,
            "recompute": self.recompute,
            "shard_group": self.shard_group or world.size,
            "attention": self.kernel.as_dict(),
        }

    def prepare(self, model: MMDiT, world: World, dtype: torch.dtype) -> None:
        """Compile the blocks of a model that is sharded, and shard it."""
        model.recompute = self.recompute
        if world.size == 1:
            return
        if self.compile:
            # each block by itself, before its hooks exist: they gather and free its weights, which no graph can hold
            for block in model.blocks:
                block.forward = self._compiled(block.forward, fullgraph=True)
        world.shard(model, dtype, self.shard_group)

    def network(self, model: nn.Module, world: World) -> Callable[..., Tensor]:
        """Return the model as the compiled loss calls it: in its graph, or between two of them where it is sharded."""
        if world.size == 1 or not self.compile:
            return model
        outside: Callable[..., Tensor] = torch.compiler.disable(model.__call__)  # type: ignore[no-untyped-call]
        return outside

    def compiled(self, function: Callable[..., Tensor], world: World) -> Callable[..., Tensor]:
        """Return a function of batches compiled for each of their shapes: in one graph in a single process."""
        if not self.compile:
            return function
        return self._compiled(function, fullgraph=world.size == 1)

    def _compiled(self, function: Callable[..., Any], fullgraph: bool) -> Callable[..., Any]:
        # imported here, as it takes seconds
        from torch._dynamo import config

        # a graph for each shape: of lengths, of the last piece of a validation, with and without gradients
        config.recompile_limit = max(_MOST_GRAPHS, config.recompile_limit)
        return torch.compile(function, fullgraph=fullgraph, dynamic=False, backend=self.backend)
