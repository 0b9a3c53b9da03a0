"""Clips of any set as recordings to prepare: decoded in pieces, rejected where silent or invalid."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Decoded, Samples, content_hash, read_blocks, resample_blocks
from cdslm_eval.core.clips import ClipSet, Source
from cdslm_eval.core.errors import AudioError, EvalError
from cdslm_eval.core.levels import SILENCE_DBFS
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.storage import storage_of
from cdslm_model.data.prepare import RecordingFacts
from cdslm_model.errors import DataError

__all__ = ["ClipRecording", "recordings"]

SPLITS = frozenset({"train", "valid", "validation", "dev", "test"})
CACHED_SAMPLES = 1 << 22
"""Samples up to which a clip is decoded once (4 minutes at 16 kHz); what is longer is read a second time."""


@dataclass(frozen=True, slots=True)
class ClipRecording:
    """One clip of a set, for `cdslm_model.data.prepare.prepare`."""

    source: Source
    name: str
    of_set: str | None = None
    min_seconds: float = 0.0
    remote_stamp: str | None = None

    @property
    def stamp(self) -> str:
        """Size and time of its file, or version of its object; an absent one raises when it is decoded.

        Its part of it is in the name.
        """
        if self.remote_stamp is not None:
            return self.remote_stamp
        try:
            status = Path(self.source.path).stat()
        except OSError:
            return "absent"
        return f"{status.st_size} {status.st_mtime_ns}"

    def decode(self, rate_hz: int, consume: Callable[[Samples], None]) -> RecordingFacts:
        """Decode it at a rate, piece by piece.

        It is read twice, as its level and its length must be known first; a short clip is decoded once.
        """
        try:
            cached, count, own_rate_hz = self._inspect()
            blocks = (block.samples for block in cached or self._blocks())
            digest = content_hash(count, own_rate_hz)
            for samples in resample_blocks(_counted(blocks, digest, count), own_rate_hz, rate_hz):
                consume(samples)
        except AudioError as error:
            raise DataError(str(error)) from error
        return RecordingFacts(digest.hexdigest(), self.source.speaker, self.source.language, self.of_set)

    def _blocks(self) -> Iterator[Decoded]:
        return read_blocks(self.source.path, span=self.source.span, packed=self.source.packed)

    def _inspect(self) -> tuple[list[Decoded], int, int]:
        """Return its pieces where they are few, its sample count and its rate; raise where it is silent or invalid."""
        cached: list[Decoded] = []
        levels, rate_hz = Levels(), 0
        for block in self._blocks():
            rate_hz = block.rate_hz
            levels += Levels.of(block.samples)
            if levels.count <= CACHED_SAMPLES:
                cached.append(block)
        if reason := fault(levels.peak):
            raise DataError(reason)
        if levels.dbfs <= SILENCE_DBFS:
            raise DataError("nothing but silence" if levels.count else "no samples in it")
        if levels.count < self.min_seconds * rate_hz:
            raise DataError(f"{levels.count / rate_hz:.1f} s long, under {self.min_seconds:g} s")
        return (cached if levels.count <= CACHED_SAMPLES else []), levels.count, rate_hz


def _counted(blocks: Iterator[Samples], digest: hashlib._Hash, count: int) -> Iterator[Samples]:
    """Yield blocks, updating the digest; raise where the sample count differs from the first pass."""
    for block in blocks:
        count -= len(block)
        digest.update(block.astype("<f4", copy=False).data)
        yield block
    if count:
        raise AudioError("it changed while it was being read; repeat the command")


def recordings(
    paths: Sequence[str], ignore_columns: Sequence[str] = (), min_seconds: float = 0.0
) -> dict[str, list[ClipRecording]]:
    """Return the clips of directories and manifests, by split; each knows the name of its set.

    A set whose keys all begin with "train/", "valid/", "dev/", "validation/" or "test/" (as they do in a directory with
    such folders) has splits; any other set is under "". NAME=PATH names a set. `ignore_columns` is that of
    `ClipSet.open`; clips under `min_seconds` are left out when they are decoded.

    Raises:
        ModelError: A path holds no clips.
    """
    splits: dict[str, list[ClipRecording]] = {}
    for path in paths:
        try:
            clips = ClipSet.open(*_named(path), ignore_columns=ignore_columns)
        except EvalError as error:
            raise DataError(str(error)) from error
        sources = clips.sources
        firsts = {source.key.partition("/")[0] for source in sources}
        split = "train" in firsts and firsts <= SPLITS
        versions = _remote_stamps(sources)
        for source in sources:
            name = source.key.partition("/")[0] if split else ""
            stamp = versions.get(source.path, "absent") if is_remote(source.path) else None
            own = ClipRecording(source, _name(source), clips.name, min_seconds, stamp)
            splits.setdefault(name, []).append(own)
    return splits


def _remote_stamps(sources: Iterable[Source]) -> dict[str, str]:
    """Return size and version of each object, asked for together: one by one they take a round trip each."""
    stores: defaultdict[str, set[str]] = defaultdict(set)
    for source in sources:
        if is_remote(source.path):
            stores[source.path.partition("://")[0]].add(source.path)
    found = (storage_of(min(paths)).stamps(paths) for paths in stores.values())
    return {path: f"{stamp.size} {stamp.version}" for pairs in found for path, stamp in pairs}


def _named(text: str) -> tuple[str, str | None]:
    """Return the path of NAME=PATH and its name; an existing path is returned unsplit."""
    name, sign, path = text.partition("=")
    if not sign or not path or not name.strip() or os.sep in name or Path(text).exists():
        return text, None
    return path, name.strip()


def _name(source: Source) -> str:
    """Return the absolute path or the address of a clip, and the part of its recording that it is."""
    if is_remote(source.path):
        return source.path + source.address.part
    return os.path.abspath(source.path) + source.address.part  # noqa: PTH100 - as written, links are not followed
