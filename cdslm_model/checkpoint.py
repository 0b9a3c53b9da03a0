"""Checkpoints: safetensors and JSON in one folder that is complete or absent, each file verified by its digest."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cdslm_model.errors import CheckpointError, TrainingError
from cdslm_model.files import no_room, read_json, sha256, sync, write_json
from cdslm_model.tensor_files import save_tensors

__all__ = ["Checkpoint", "find_checkpoint", "last_checkpoint", "save_checkpoint"]

FORMAT = 1
FOLDER = "checkpoints"
_LOG = logging.getLogger(__name__)
FACTS = "checkpoint.json"
_PATTERN = "step-" + "[0-9]" * 9


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk; tensors are read on access.

    Attributes:
        folder: Of its files.
        facts: Its JSON: step, config, mel spec, normalizer, settings, tokens, FLOPs.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Open a checkpoint and verify its JSON.

        Raises:
            CheckpointError: It is incomplete, damaged, altered, or of another format.
        """
        facts = read_json(folder / FACTS, CheckpointError)
        digest = facts.pop("digest", None)
        if facts.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder}: a checkpoint of format {facts.get('format')!r}; this version reads {FORMAT}"
            )
        if digest != _digest(facts):
            raise CheckpointError(f"{folder / FACTS}: altered or damaged: its digest does not fit.{_others(folder)}")
        return cls(folder, facts)

    @property
    def step(self) -> int:
        """Training steps done."""
        return int(self.facts["step"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one of its files, on the CPU; as `each`."""
        return dict(self.each(name))

    def each(self, name: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of one of its files, read one at a time, on the CPU.

        Args:
            name: "weights", "ema" or "optimizer".

        Raises:
            CheckpointError: The file is missing, truncated or altered.
        """
        from safetensors import SafetensorError, safe_open

        path = self.folder / f"{name}.safetensors"
        digest = self.facts["files"].get(path.name)
        try:
            # before reading: safetensors detects truncation, but no flipped bit
            if digest is None or sha256(path) != digest:
                raise CheckpointError(f"{path}: truncated or altered: its digest does not fit.{_others(self.folder)}")
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                for key in names:
                    yield key, file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}.{_others(self.folder)}") from error


def save_checkpoint(
    run: Path,
    step: int,
    parts: Iterable[tuple[str, Mapping[str, Tensor]]],
    facts: Mapping[str, Any],
    *,
    keep: int = 2,
    protected: frozenset[int] | set[int] = frozenset(),
) -> Checkpoint:
    """Write a checkpoint; it is visible once all of it is on the disk, and only then older ones are removed.

    Args:
        run: The run's folder; no other process writes into it, as its lock is held.
        step: Training steps done.
        parts: Name of each file ("weights", "ema", "optimizer") and its tensors; taken one by one, so that an iterator
            may make each as it is written.
        facts: Facts of the run, as JSON.
        keep: How many of the latest to keep.
        protected: Steps whose checkpoints stay besides.

    Raises:
        TrainingError: The disk is full; earlier checkpoints are untouched.
    """
    folder = run / FOLDER / f"step-{step:09d}"
    # its name does not match the pattern of checkpoints: a half-written one is never resumed from
    half = folder.with_name(f".{folder.name}.part")
    path, needed = half, 0
    # those that a kill left: a resumed run need not save at the same step
    for left in folder.parent.glob(f".{_PATTERN}.part"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        files = {}
        for name, values in parts:
            path, needed = half / f"{name}.safetensors", sum(tensor.nbytes for tensor in values.values())
            files[path.name] = save_tensors(path, values)
            # synced before the rename, which could otherwise reach the disk before the data does
            sync(path)
            # Release before the next part is gathered
            del values
        record = {**facts, "format": FORMAT, "step": step, "files": files}
        write_json(half / FACTS, {**record, "digest": _digest(record)})
        sync(half)
        # a rename onto a folder that is not empty fails
        if folder.exists():
            shutil.rmtree(folder)
        half.rename(folder)
        sync(folder.parent)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        if not no_room(error):
            raise TrainingError(f"{folder}: cannot be written: {error}.{_others(folder)}") from error
        raise TrainingError(
            f"{run}: no space for the checkpoint of step {step}, of which {path.name} alone takes {needed / 2**20:.0f} "
            f"MiB.{_others(folder)} Free some space and repeat the command"
        ) from error
    # read back before older ones are removed, so that one that can be opened is always left
    checkpoint = Checkpoint.open(folder)
    _LOG.info("wrote %s", folder)
    protected_names = {f"step-{number:09d}" for number in protected}
    for old in _folders(run)[:-keep]:
        if old.name not in protected_names:
            shutil.rmtree(old)
    return checkpoint


def last_checkpoint(run: Path) -> Checkpoint | None:
    """Return the latest checkpoint of a run, or None where it has none yet.

    Raises:
        CheckpointError: The latest one is damaged; the message names the one before it.
    """
    folders = _folders(run)
    # no silent fallback to the one before: that would hide lost work and overwrite what may be repaired
    return Checkpoint.open(folders[-1]) if folders else None


def find_checkpoint(path: Path | str) -> Checkpoint:
    """Return the checkpoint of a path: a checkpoint's folder, or a run's folder for its latest.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(path)
    if (path / FACTS).is_file():
        return Checkpoint.open(path)
    latest = last_checkpoint(path)
    if latest is None:
        what = "holds no checkpoint" if path.is_dir() else "no such folder"
        raise CheckpointError(f"{path}: {what}; name the folder of a run of cdslm train, or a checkpoint in it")
    return latest


def _folders(run: Path) -> list[Path]:
    # steps are zero-padded, so that names sort as numbers do
    return sorted(path for path in (run / FOLDER).glob(_PATTERN) if path.is_dir())


def _others(folder: Path) -> str:
    """Return the sentence that names the last checkpoint before this one."""
    before = [path for path in _folders(folder.parent.parent) if path.name < folder.name]
    if not before:
        return " There is no checkpoint before it."
    return f" The last good checkpoint is {before[-1]}: remove the later ones to resume from it."


def _digest(facts: Mapping[str, Any]) -> str:
    # canonical text: the digest must not depend on the order of keys or on indentation
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
