"""The attention kernel of a GPU: which of those that torch offers is the fastest, by one timing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import attention, functional

__all__ = ["KERNELS", "Kernel", "fastest_kernel"]


def _flash(implementation: str | None) -> Callable[[], None]:
    """Return what makes torch's flash attention that of a version; None is its own, the second."""

    def activate() -> None:
        if not hasattr(attention, "activate_flash_attention_impl"):
            if implementation is not None:
                raise ImportError(f"torch {torch.__version__} has its own flash attention only")
        elif implementation is None:
            attention.restore_flash_attention_impl(_raise_warn=False)
        else:
            # raises where its package is absent or the GPU is of another kind
            attention.activate_flash_attention_impl(implementation)

    return activate


KERNELS: Mapping[str, tuple[attention.SDPBackend, Callable[[], None]]] = MappingProxyType(
    {
        "flash-3": (attention.SDPBackend.FLASH_ATTENTION, _flash("FA3")),
        "flash-4": (attention.SDPBackend.FLASH_ATTENTION, _flash("FA4")),
        "cudnn": (attention.SDPBackend.CUDNN_ATTENTION, _flash(None)),
        "flash-2": (attention.SDPBackend.FLASH_ATTENTION, _flash(None)),
        "efficient": (attention.SDPBackend.EFFICIENT_ATTENTION, _flash(None)),
    }
)
"""Name -> torch's backend, and what activates its implementation."""
_TURNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """An attention kernel.

    Attributes:
        name: Of `KERNELS`; None leaves the choice to torch.
        milliseconds: Name -> forward and backward pass of one layer, for each kernel that was timed.
        failures: Name -> why a kernel cannot be used here.
    """

    name: str | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Use the kernel, and no other, for the duration of a block."""
        if self.name is None:
            yield
            return
        with attention.sdpa_kernel(KERNELS[self.name][0]):
            yield

    def named(self, name: str) -> Kernel:
        """Return it with the choice of another process."""
        KERNELS[name][1]()
        return dataclasses.replace(self, name=name)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "kernel": self.name or "torch's choice",
            "milliseconds": dict(self.milliseconds),
            "failures": dict(self.failures),
        }


def fastest_kernel(
    shape: tuple[int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
    timed: Callable[[Callable[[], object]], float] | None = None,
) -> Kernel:
    """Return the kernel with the fastest forward and backward pass; torch's own choice on a CPU.

    Args:
        shape: Windows, tokens, heads and head dimension of one layer.
        device: Where it is computed.
        dtype: Of queries, keys and values.
        timed: Returns the milliseconds of a call; None times on the GPU.
    """
    if device.type == "cpu" and timed is None:
        return Kernel()
    windows, tokens, heads, head_dim = shape
    inputs = [
        torch.zeros(windows, tokens, heads, head_dim, device=device, dtype=dtype, requires_grad=True) for _ in range(3)
    ]
    milliseconds, failures = {}, {}
    for kernel, (backend, activate) in KERNELS.items():
        try:
            activate()
            with attention.sdpa_kernel(backend):
                milliseconds[kernel] = (timed or _timed)(lambda: _both_passes(inputs))
        # a kernel refuses a GPU, a shape or a type by any of these; the reasons are recorded
        except (RuntimeError, ImportError, ValueError, OSError) as error:
            failures[kernel] = str(error).strip().partition("\n")[0]
    name = min(milliseconds, key=lambda own: milliseconds[own], default=None)
    KERNELS[name or "flash-2"][1]()
    return Kernel(name=name, milliseconds=milliseconds, failures=failures)


def _both_passes(inputs: list[Tensor]) -> None:
    """Compute attention as the network does, and its gradients."""
    query, key, value = (heads.transpose(1, 2) for heads in inputs)
    attended = functional.scaled_dot_product_attention(query, key, value)
    torch.autograd.grad(attended.sum(), inputs)


def _timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of the fastest of some calls on the GPU."""
    call()
    best = math.inf
    for _ in range(_TURNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end))
    return best
