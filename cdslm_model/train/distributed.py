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
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

from cdslm_model.devices import pick_device
from cdslm_model.errors import ModelError

__all__ = [
    "World",
    "gathered",
    "held_rows",
    "is_sharded",
    "is_writer",
    "like",
    "local",
    "open_world",
    "replicated",
    "spread",
]


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

    def shard(self, model: nn.Module, dtype: torch.dtype = torch.float32, group: int | None = None) -> None:
        """Shard a model's parameters over the processes (FSDP2), block by block; no effect in a single process.

        Args:
            model: Its `blocks` are gathered one at a time.
            dtype: In which parameters are gathered; gradients are summed in float32.
            group: Processes that share one copy; each group is a replica (HSDP). None is one copy over all.

        Raises:
            ModelError: The processes do not divide into such groups.
        """
        if group is not None and (group < 1 or self.size % group):
            raise ModelError(f"{self.size} processes do not divide into groups of {group}; use --shard-group")
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        replicas = 1 if group is None else self.size // group
        # the mesh of one dimension is that of plain FSDP2, the one of two that of HSDP
        shape = (self.size,) if replicas == 1 else (replicas, self.size // replicas)
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=("replicate", "shard")[-len(shape) :])
        # inputs stay as they are: the diffusion time would be rounded to 8 bits
        policy = MixedPrecisionPolicy(
            param_dtype=None if dtype == torch.float32 else dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        # blocks first: the root's group then takes only the parameters that no inner group holds
        for block in model.get_submodule("blocks").children():
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)

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


def gathered(value: Tensor) -> Tensor:
    """Return a parameter, a moment or a norm, gathered on its device; a collective call."""
    detached = value.detach()
    return detached.full_tensor() if isinstance(detached, DTensor) else detached


def replicated(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a value that all processes hold, in a form that can be used together with a parameter."""
    if isinstance(parameter, DTensor):
        mesh = parameter.device_mesh
        return DTensor.from_local(value, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return value


def local(value: Any) -> Tensor:
    """Return the part of a parameter that this process holds."""
    tensor: Tensor = value.detach()
    # shares memory with the parameter: what is written to it is written to the weights
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor, which every process has, sharded as a parameter is."""
    moved = value.to(parameter.device)
    if isinstance(parameter, DTensor):
        # without a source: each process takes its part of its own copy, and nothing is sent
        return distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return moved


def spread(part: Tensor, parameter: Tensor) -> Tensor:
    """Return the sharded tensor of a local part, laid out as a parameter is: the inverse of `local`."""
    if isinstance(parameter, DTensor):
        mesh, placements = parameter.device_mesh, parameter.placements
        # from_local would infer the shape from equal parts, and the last part may be shorter
        size, stride = parameter.size(), parameter.stride()
        return DTensor.from_local(part, mesh, placements, run_check=False, shape=size, stride=stride)
    return part


def held_rows(value: Tensor) -> tuple[int, int]:
    """Return the first row that this process holds of a tensor, and the one after its last; a scalar has one row."""
    total = value.shape[0] if value.ndim else 1
    for dimension, placement in enumerate(value.placements if isinstance(value, DTensor) else ()):
        if placement.is_shard():
            mesh = value.device_mesh  # type: ignore[attr-defined]
            # FSDP2 parts rows as torch.chunk does: all parts but the last are equal, and some may be empty
            each = -(-total // mesh.size(dimension))
            first = min(mesh.get_local_rank(dimension) * each, total)
            return first, first + local(value).shape[0]
    return 0, total


def is_sharded(value: Tensor) -> bool:
    """Return whether the rows of a tensor are spread over several processes."""
    if not isinstance(value, DTensor):
        return False
    sizes = zip(value.placements, value.device_mesh.shape, strict=True)
    return any(placement.is_shard() and size > 1 for placement, size in sizes)


def is_writer(value: Tensor) -> bool:
    """Return whether this process is the first of those that hold the same rows of a tensor."""
    if not isinstance(value, DTensor):
        return dist.get_rank() == 0
    mesh = value.device_mesh
    return all(mesh.get_local_rank(d) == 0 for d, placement in enumerate(value.placements) if not placement.is_shard())
