"""Checkpoints: safetensors and JSON in one folder that is complete or absent, each file verified by its digest.

Format 1 has one file a part, written by one process. Format 2 has a file of each process for each part, with its rows
of every tensor, and an index of them: no process ever holds a whole part.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cdslm_model.errors import CheckpointError, TrainingError
from cdslm_model.files import no_room, read_json, sync, write_json
from cdslm_model.stored import Piece, StoredTensor, stored_tensors
from cdslm_model.tensor_files import save_tensors

__all__ = [
    "Checkpoint",
    "find_checkpoint",
    "half_folder",
    "last_checkpoint",
    "publish",
    "save_checkpoint",
    "write_part",
]

FORMAT, SHARDED_FORMAT = 1, 2
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
        if facts.get("format") not in (FORMAT, SHARDED_FORMAT):
            raise CheckpointError(
                f"{folder}: a checkpoint of format {facts.get('format')!r}; this version reads {FORMAT} and "
                f"{SHARDED_FORMAT}"
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
        """Yield the tensors of one of its parts, read one at a time, on the CPU; as `stored`."""
        for tensor in self.stored(name):
            yield tensor.name, tensor.rows()

    def stored(self, name: str) -> Iterator[StoredTensor]:
        """Yield the tensors of one of its parts, of which any rows can be read until the next one is taken.

        Args:
            name: "weights", "ema", "optimizer" or "guess".

        Raises:
            CheckpointError: A file that is read is missing, truncated or altered.
        """
        yield from stored_tensors(self.folder, self.facts["files"], name, self._pieces(name), _others(self.folder))

    def has(self, name: str) -> bool:
        """Return whether it has a part; a model without a first guess has no "guess"."""
        return any(file == f"{name}.safetensors" or file.startswith(f"{name}-") for file in self.facts["files"])

    def digest(self, name: str) -> str:
        """Return the SHA-256 of the content of one of its parts, or of the digests of its shards."""
        files: Mapping[str, str] = self.facts["files"]
        if self.facts["format"] == FORMAT:
            return files[f"{name}.safetensors"]
        return _digest({file: value for file, value in files.items() if file.startswith(f"{name}-")})

    def _pieces(self, name: str) -> dict[str, list[Piece]] | None:
        """Return where the rows of each tensor of a part are; None where one file has them all."""
        if self.facts["format"] == FORMAT:
            return None
        try:
            return {key: [Piece(*piece) for piece in pieces] for key, pieces in self.facts["shards"][name].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{self.folder / FACTS}: damaged: it has no index of {name!r}") from error


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
    half = half_folder(run, step)
    files: dict[str, str] = {}
    try:
        for name, values in parts:
            files |= write_part(half, run, step, name, values)
            # Release before the next part is gathered
            del values
        return publish(run, step, {**facts, "format": FORMAT, "files": files}, keep=keep, protected=protected)
    except TrainingError:
        shutil.rmtree(half, ignore_errors=True)
        raise


def half_folder(run: Path, step: int) -> Path:
    """Make the folder that a checkpoint is written in until it is complete, and remove those that a kill left.

    Raises:
        TrainingError: It cannot be made.
    """
    # its name does not match the pattern of checkpoints: a half-written one is never resumed from
    half = run / FOLDER / f".step-{step:09d}.part"
    # a resumed run need not save at the same step
    for left in half.parent.glob(f".{_PATTERN}.part"):
        shutil.rmtree(left, ignore_errors=True)
    with _with_reason(run, step, half, 0):
        half.mkdir(parents=True)
    return half


@contextmanager
def _with_reason(run: Path, step: int, path: Path, needed: int) -> Iterator[None]:
    """State why a file of a checkpoint, of so many bytes, cannot be written."""
    folder = run / FOLDER / f"step-{step:09d}"
    try:
        yield
    except OSError as error:
        if not no_room(error):
            raise TrainingError(f"{folder}: cannot be written: {error}.{_others(folder)}") from error
        raise TrainingError(
            f"{run}: no space for the checkpoint of step {step}, of which {path.name} alone takes {needed / 2**20:.0f} "
            f"MiB.{_others(folder)} Free some space and repeat the command"
        ) from error


def write_part(half: Path, run: Path, step: int, name: str, values: Mapping[str, Tensor]) -> dict[str, str]:
    """Write one file of a checkpoint, and return its name and digest.

    Args:
        half: The folder to write it in.
        run: The run's folder.
        step: Training steps done.
        name: Of the file, without its ending.
        values: Tensors by name.

    Raises:
        TrainingError: It cannot be written; earlier checkpoints are untouched.
    """
    path = half / f"{name}.safetensors"
    with _with_reason(run, step, path, sum(tensor.nbytes for tensor in values.values())):
        digest = save_tensors(path, values)
        # synced before the rename, which could otherwise reach the disk before the data does
        sync(path)
    return {path.name: digest}


def publish(
    run: Path,
    step: int,
    record: Mapping[str, Any],
    *,
    keep: int = 2,
    protected: frozenset[int] | set[int] = frozenset(),
) -> Checkpoint:
    """Complete a checkpoint whose files are on the disk, and only then remove older ones.

    Raises:
        TrainingError: It cannot be written; earlier checkpoints are untouched.
    """
    folder = run / FOLDER / f"step-{step:09d}"
    half = folder.with_name(f".{folder.name}.part")
    facts = {**record, "step": step}
    with _with_reason(run, step, half / FACTS, 0):
        write_json(half / FACTS, {**facts, "digest": _digest(facts)})
        sync(half)
        # a rename onto a folder that is not empty fails
        if folder.exists():
            shutil.rmtree(folder)
        half.rename(folder)
        sync(folder.parent)
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
