"""One code path for CPU, one GPU and several processes: where tensors live, and how they are whole again."""

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

from cdslm_model.errors import ModelError

__all__ = ["World", "like", "local", "open_world", "pick_device", "precision", "spread", "whole"]


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
        """Spread a model's parameters over the processes (FSDP2), block by block; nothing where there is one."""
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        for block in model.get_submodule("blocks").children():
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Return whether any process says so; all must ask."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item()) if self.size > 1 else flag


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises:
        ModelError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"There is no device {name!r}; cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise ModelError(f"the device {name!r} is not one that is trained or generated on; cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"the device {name!r} was asked for, and torch finds no GPU here")
    return device


def precision(name: str, device: torch.device) -> torch.dtype:
    """Return in what matrix products and attention are computed in training.

    Args:
        name: "float32", "bfloat16", or "auto": bfloat16 on a GPU that has it, float32 elsewhere. Processors with matrix
            units for bfloat16 train nearly twice as fast with it, others more slowly, and so it must be asked for.
        device: Where it is computed.
    """
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    half = name == "bfloat16" or (name == "auto" and on_gpu)
    return torch.bfloat16 if half else torch.float32


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started, or be alone.

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
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()


def whole(value: Tensor) -> Tensor:
    """Return a parameter, or what belongs to it, whole and on the CPU; all processes must ask."""
    detached = value.detach()
    return (detached.full_tensor() if isinstance(detached, DTensor) else detached).cpu().contiguous()


def local(value: Any) -> Tensor:
    """Return the part of a parameter that lies in this process."""
    tensor: Tensor = value.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor spread as a parameter is."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def spread(part: Tensor, parameter: Tensor) -> Tensor:
    """Return the tensor of which this process has the part that it has of a parameter; `like` and `local` undone."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        size, stride = parameter.size(), parameter.stride()
        return DTensor.from_local(part, mesh, placements, run_check=False, shape=size, stride=stride)
    return part
