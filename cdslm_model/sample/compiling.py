"""A sampling step compiled for fixed shapes, on a GPU one CUDA graph a step; the reason is logged where it is not."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cdslm_model.net.layout import Dense

__all__ = ["CompiledStep", "Step"]

Step = Callable[[Sequence[Tensor], Tensor, Tensor, Dense], Tensor]
"""`MMDiT.step`."""
MOST_SHAPES = 4
"""Shapes that are compiled: each takes a minute, and prompts that are all of their own length have one each."""
# earlier versions share one limit of eight shapes among all models of a process
_ISOLATED = "isolate_recompiles" in inspect.signature(torch.compile).parameters

_log = logging.getLogger(__name__)


class CompiledStep:
    """Runs a step compiled where its shapes are few, and as it is elsewhere.

    Args:
        step: The plain step.
        backend: Of torch.compile; None is the default one, whose mode "reduce-overhead" replays a step as one CUDA
            graph: small networks are limited by the launches of their kernels.

    Attributes:
        shapes: Those that are compiled: batch, tokens of each condition, frames.
    """

    def __init__(self, step: Step, backend: Any = None) -> None:
        # here, as it takes a second that only those who compile should wait for
        from torch._dynamo.exc import TorchDynamoException

        self._step, self._refusal = step, TorchDynamoException
        how: dict[str, Any] = {"mode": "reduce-overhead"} if backend is None else {"backend": backend}
        if _ISOLATED:
            how["isolate_recompiles"] = True
        self._compiled: Step | None = torch.compile(step, fullgraph=True, dynamic=False, **how)
        self.shapes: set[tuple[int, ...]] = set()

    def __call__(self, prepared: Sequence[Tensor], generated: Tensor, modulation: Tensor, layout: Dense) -> Tensor:
        """Return the output of the step."""
        shape = (len(generated), *layout.counts[:-1], generated.shape[1])
        if self._compiled is None or not self._admitted(shape):
            return self._step(prepared, generated, modulation, layout)
        try:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            # a graph writes each step's output over the one before
            return self._compiled(prepared, generated, modulation, layout).clone()
        except self._refusal as error:
            reason = " ".join(str(error).split())[:300]
            _log.warning("sampling steps run uncompiled: torch cannot compile them here (%s)", reason)
            self._compiled, self.shapes = None, set()
            return self._step(prepared, generated, modulation, layout)

    def batch(self, rows: int, *lengths: int, copies: int = 1) -> int:
        """Return the batch in which some clips run compiled without a further shape: theirs, or a larger one.

        Args:
            rows: Clips.
            lengths: Tokens of each condition, and frames.
            copies: How often each clip is in a step: twice where both predictions of guidance are made in one batch.
        """
        batches = [shape[0] // copies for shape in self.shapes if shape[1:] == lengths and shape[0] % copies == 0]
        return min((batch for batch in batches if batch >= rows), default=rows)

    def _admitted(self, shape: tuple[int, ...]) -> bool:
        if shape in self.shapes:
            return True
        if len(self.shapes) < MOST_SHAPES:
            self.shapes.add(shape)
            return True
        _log.warning(
            "sampling steps of batch %d, %s tokens of context and %d frames run uncompiled: %d other shapes are "
            "compiled, and each takes long; prompts of at least the trained length have one shape",
            shape[0],
            shape[1:-1],
            shape[-1],
            MOST_SHAPES,
        )
        return False
