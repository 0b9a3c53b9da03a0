"""Encodes and writes generated clips in a thread of its own, while the generator makes the next ones."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cdslm_eval.core.errors import UsageError
from cdslm_eval.run.clip_files import PART_SUFFIX, PartialClip, write_whole
from cdslm_eval.run.clip_ranges import EncodedClip, GeneratedClip, GeneratedPart

__all__ = ["ClipWriter"]

_PARTIAL = "manifest.part.jsonl"
_WAITING = 16
"""Clips, or parts of clips, that may wait for the thread: more would pile up in memory where a disk is slow."""


class ClipWriter:
    """Writes the clips of a request to a folder; what an interrupted call wrote is kept.

    Leaving its block waits for the clips that were added, whatever ended the block.

    Args:
        folder: Of the clips.
        header: Facts of the request: a folder that holds the clips of another one is refused.
        note: Called with the number of clips that are written, in the thread of the caller.

    Attributes:
        records: Line of the manifest of each clip that is written, by number.

    Raises:
        UsageError: The folder holds the clips of another request.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], note: Callable[[int], None]) -> None:
        self._folder, self._path, self._note = folder, folder / _PARTIAL, note
        self.records = _resume(self._path, header)
        self._known, self._count = set(self.records), len(self.records)
        self._waiting: deque[Future[int]] = deque()
        # of the thread alone
        self._open: dict[int, PartialClip] = {}
        self._failed: set[int] = set()
        self._file = self._path.open("a", encoding="utf-8")
        if self._path.stat().st_size == 0:
            self._file.write(json.dumps(header) + "\n")
        # one thread: lines of the manifest keep the order of the clips
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pool.shutdown(wait=True)
        finally:
            for partial in self._open.values():
                partial.discard()
            self._file.close()
        if error is None:
            self._settle(0)

    def add(self, clip: EncodedClip | GeneratedClip | GeneratedPart) -> None:
        """Let a clip, or the next part of one, be written, unless the folder has the clip.

        Raises:
            EvalError: A clip that was added before cannot be encoded or written.
        """
        if clip.number not in self._known:
            if isinstance(clip, GeneratedPart):
                self._waiting.append(self._pool.submit(self._append, clip))
            else:
                self._waiting.append(self._pool.submit(self._write, clip))
            if not isinstance(clip, GeneratedPart) or clip.last:
                self._known.add(clip.number)
        self._settle(_WAITING)

    def finish(self) -> None:
        """Remove what only a resumed call needs: the manifest is written."""
        for left in self._folder.glob(f"*.flac{PART_SUFFIX}"):
            left.unlink()
        self._path.unlink()

    def _settle(self, most: int) -> None:
        """Raise the error of the first clip that failed; wait until `most` clips are left."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._count += self._waiting.popleft().result()
            self._note(self._count)

    def _write(self, clip: EncodedClip | GeneratedClip) -> int:
        """Write a clip and return how many are complete by it, which is one."""
        encoded = clip.encoded()
        path = self._target(clip.number)
        write_whole(path, encoded.flac)
        return self._note_record(clip.number, {"path": path.name, **encoded.record})

    def _append(self, part: GeneratedPart) -> int:
        """Write a part of a clip and return how many clips are complete by it."""
        if part.number in self._failed:
            return 0
        path = self._target(part.number)
        try:
            if part.number not in self._open:
                self._open[part.number] = PartialClip(path, part)
            self._open[part.number].add(part)
            if not part.last:
                return 0
            record = self._open[part.number].complete()
        except Exception:
            # the parts that follow would become a clip without this one
            self._failed.add(part.number)
            raise
        del self._open[part.number]
        return self._note_record(part.number, {"path": path.name, **record})

    def _target(self, number: int) -> Path:
        return self._folder / f"{number:05d}.flac"

    def _note_record(self, number: int, record: dict[str, Any]) -> int:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
        self.records[number] = record
        return 1


def _resume(partial: Path, header: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the records of the clips that an interrupted call of the same request wrote, by number."""
    if not partial.is_file():
        return {}
    text = partial.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]  # without a line that was not finished
    lines = [json.loads(line) for line in complete.splitlines()]
    if lines and lines[0] != header:
        raise UsageError(f"{partial.parent}: holds clips of another request; name an empty folder")
    partial.write_text(complete, encoding="utf-8")
    return {int(record["path"].partition(".")[0]): record for record in lines[1:]}
