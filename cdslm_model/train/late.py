"""Values of a training step that are read some steps later, so that the CPU never waits for the step it launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["LateValues"]


class LateValues(Mapping[str, float]):
    """Named numbers of one step, whose copy to the CPU is under way; reading one waits for that step only.

    Args:
        names: Of the values.
        values: On the device, `[values]`.
        known: Further numbers, which the CPU has.
    """

    def __init__(self, names: Sequence[str], values: Tensor, known: Mapping[str, float]) -> None:
        self._names, self._known = tuple(names), known
        self._event: torch.cuda.Event | None = None
        self._values = values
        if values.device.type == "cuda":
            # into page-locked memory: a copy to other memory waits for everything that was launched before it
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def __getitem__(self, name: str) -> float:
        if name in self._known:
            return self._known[name]
        if self._event is not None:
            self._event.synchronize()
        return float(self._values[self._names.index(name)])

    def __iter__(self) -> Iterator[str]:
        return iter((*self._names, *self._known))

    def __len__(self) -> int:
        return len(self._names) + len(self._known)
