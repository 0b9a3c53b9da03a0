"""Checkpoints of sharded runs: every process writes its own rows, and the first one completes the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cdslm_model import checkpoint
from cdslm_model.errors import TrainingError

__all__ = ["Shard", "save_sharded"]


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows of a tensor that this process writes.

    Attributes:
        rows: Their values, on the CPU.
        first: The first of them in the whole tensor.
        shape: Of the whole tensor.
    """

    rows: Tensor
    first: int
    shape: tuple[int, ...]


def save_sharded(
    group: dist.ProcessGroup,
    run: Path,
    step: int,
    parts: Mapping[str, Mapping[str, Shard]],
    facts: Mapping[str, Any],
    protected: frozenset[int],
) -> None:
    """Write a checkpoint of the shards of all processes; visible once all of them are on the disk.

    Called in a thread of each process.

    Args:
        group: All processes; no other thread communicates through it meanwhile.
        run: The run's folder, which all processes see.
        step: Training steps done.
        parts: Shards by part ("weights", "ema", "optimizer") and name.
        facts: Facts of the run, as JSON.
        protected: Steps whose checkpoints stay besides the latest.

    Raises:
        TrainingError: It cannot be written, in every process.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    half = run / checkpoint.FOLDER / f".step-{step:09d}.part"
    try:
        failure = ""
        if rank == 0:
            try:
                checkpoint.half_folder(run, step)
            except TrainingError as error:
                failure = str(error)
        # nobody writes before the first has removed what was left there
        _agree(_exchanged(group, {"failure": failure}))
        record = _written(half, run, step, f"-{rank:05d}-of-{size:05d}", parts)
        records = _exchanged(group, record)
        try:
            _agree(records)
        except TrainingError:
            # by the first alone, and only now: the others were still writing into it when one failed
            if rank == 0:
                shutil.rmtree(half, ignore_errors=True)
            raise
        if rank == 0:
            files = {name: digest for own in records for name, digest in own["files"].items()}
            index = {**facts, "format": checkpoint.SHARDED_FORMAT, "files": files, "shards": _index(records)}
            try:
                checkpoint.publish(run, step, index, protected=protected)
            except TrainingError:
                shutil.rmtree(half, ignore_errors=True)
                raise
    except RuntimeError as error:
        # of gloo: a process that ended cannot be waited for
        raise TrainingError(f"{run}: the checkpoint of step {step} is incomplete: another process ended") from error


def _written(half: Path, run: Path, step: int, suffix: str, parts: Mapping[str, Mapping[str, Shard]]) -> dict[str, Any]:
    """Write the files of this process, and return their digests and the places of their rows, or the failure."""
    files: dict[str, str] = {}
    places: dict[str, dict[str, Any]] = {}
    try:
        for part, shards in parts.items():
            name = f"{part}{suffix}"
            values = {key: shard.rows for key, shard in shards.items()}
            files |= checkpoint.write_part(half, run, step, name, values)
            places[part] = {
                key: [f"{name}.safetensors", shard.first, list(shard.shape)] for key, shard in shards.items()
            }
    except TrainingError as error:
        return {"failure": str(error)}
    return {"failure": "", "files": files, "places": places}


def _index(records: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Return where the rows of each tensor of each part are."""
    index: dict[str, dict[str, list[Any]]] = {}
    for record in records:
        for part, places in record["places"].items():
            for key, place in places.items():
                index.setdefault(part, {}).setdefault(key, []).append(place)
    return index


def _agree(records: list[dict[str, Any]]) -> None:
    """Raise the first failure of any process in all of them."""
    for record in records:
        if record["failure"]:
            raise TrainingError(record["failure"])


def _exchanged(group: dist.ProcessGroup, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of all processes."""
    # as JSON: torch's own exchange of objects unpickles them
    content = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
    count = dist.get_world_size(group)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(count)]
    dist.all_gather(sizes, torch.tensor([len(content)]), group=group)
    longest = max(int(size) for size in sizes)
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(content)] = content
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(count)]
    dist.all_gather(texts, padded, group=group)
    return [json.loads(bytes(text[: int(size)].tolist())) for text, size in zip(texts, sizes, strict=True)]
