"""One code path for CPU, one GPU and several processes: sharding tensors and gathering them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from cdslm_model.devices import pick_device

__all__ = ["World", "like", "local", "open_world", "spread", "whole"]


@dataclass(frozen=True, slots=True)
class World:
    """The processes that train together.

    Attributes:
        rank: Number of this one.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    def shard(self, model: nn.Module) -> None:
        """Shard a model's parameters over the processes (FSDP2), block by block; no effect in a single process."""
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        # blocks first: the root's group then takes only the parameters that no inner group holds
        for block in model.get_submodule("blocks").children():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            # in place: callers pass a tensor that they do not read again
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; a collective call."""
        # decided together: a process that left alone would leave the others waiting in their next collective call
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item()) if self.size > 1 else flag

    def first_text(self, text: str) -> str:
        """Return the text that the first process passed; a collective call."""
        if self.size == 1:
            return text
        content = text.encode()
        size = torch.tensor(len(content), device=self.device)
        dist.broadcast(size, 0)
        # the others pass texts of other lengths, and a broadcast needs one shape
        values = list(content) if self.rank == 0 else [0] * int(size)
        codes = torch.tensor(values, dtype=torch.uint8, device=self.device)
        dist.broadcast(codes, 0)
        return bytes(codes.tolist()).decode()


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the process group that `torchrun` started, or form a world of one process.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N"; under torchrun each process takes the GPU of its local rank.
    """
    chosen = pick_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        # NCCL works on the current device: without this every process would use the first GPU
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()


def whole(value: Tensor) -> Tensor:
    """Return a parameter, its gradient or a moment of it, gathered on the CPU; a collective call."""
    detached = value.detach()
    # safetensors refuses tensors that are not contiguous
    return (detached.full_tensor() if isinstance(detached, DTensor) else detached).cpu().contiguous()


def local(value: Any) -> Tensor:
    """Return the part of a parameter that this process holds."""
    tensor: Tensor = value.detach()
    # shares memory with the parameter: what is written to it is written to the weights
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor sharded as a parameter is."""
    if isinstance(parameter, DTensor):
        # collective: the first process's values are scattered, so all processes must restore in one order
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def spread(part: Tensor, parameter: Tensor) -> Tensor:
    """Return the sharded tensor of a local part, laid out as a parameter is: the inverse of `local`."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        # from_local would infer the shape from equal parts, and the last part may be shorter
        size, stride = parameter.size(), parameter.stride()
        return DTensor.from_local(part, mesh, placements, run_check=False, shape=size, stride=stride)
    return part
