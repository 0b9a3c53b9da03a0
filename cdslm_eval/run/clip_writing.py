"""Encodes and writes generated clips in a thread of its own, while the generator makes the next ones."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.run.clip_ranges import EncodedClip, GeneratedClip

__all__ = ["ClipWriter"]

_PARTIAL = "manifest.part.jsonl"
_WAITING = 16
"""Clips that may wait for the thread: more would pile up in memory where a disk is slow."""


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
        self._waiting: deque[Future[None]] = deque()
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
            self._file.close()
        if error is None:
            self._settle(0)

    def add(self, clip: EncodedClip | GeneratedClip) -> None:
        """Let a clip be written, unless the folder has it.

        Raises:
            EvalError: A clip that was added before cannot be encoded or written.
        """
        if clip.number not in self._known:
            self._known.add(clip.number)
            self._waiting.append(self._pool.submit(self._write, clip))
        self._settle(_WAITING)

    def finish(self) -> None:
        """Remove what only a resumed call needs: the manifest is written."""
        self._path.unlink()

    def _settle(self, most: int) -> None:
        """Raise the error of the first clip that failed; wait until `most` clips are left."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0].done()):
            self._waiting.popleft().result()
            self._count += 1
            self._note(self._count)

    def _write(self, clip: EncodedClip | GeneratedClip) -> None:
        encoded = clip.encoded()
        path = self._folder / f"{clip.number:05d}.flac"
        try:
            path.write_bytes(encoded.flac)
        except OSError as error:
            raise EvalError(f"{path}: cannot be written: {error.strerror}") from error
        record = {"path": path.name, **encoded.record}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
        self.records[clip.number] = record


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
