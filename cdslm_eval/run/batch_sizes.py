"""Batch sizes that fit the memory of a worker: halved where a measurer runs out of it, and remembered."""

from __future__ import annotations

import logging
import sys
from typing import Any

from cdslm_eval.plugin.contract import Measurer

__all__ = ["BatchSizes", "is_out_of_memory"]

_logger = logging.getLogger("cdslm_eval")


class BatchSizes:
    """The largest batch of each measurer in one worker, from its declared one downwards."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}

    def largest(self, measurer: Measurer) -> int:
        """Return how many clips the measurer may get at once, 1 or more."""
        return self._sizes.get(id(measurer), max(1, measurer.batch_clips))

    def halve(self, measurer: Measurer, size: int) -> None:
        """Remember that a batch of `size` clips did not fit, and free what the model library keeps for later."""
        self._sizes[id(measurer)] = max(1, size // 2)
        _logger.info("%s: out of memory with %d clips; batches of %d", measurer.name, size, max(1, size // 2))
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is short, of the machine or of a device.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")), is_out_of_memory(KeyError(1))
        (True, False)
    """
    # torch's class is not imported here, and cuDNN, onnxruntime and CTranslate2 raise a RuntimeError of their own
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "failed to allocate memory" in text)
