"""Reads Kaldi's data folders: `wav.scp`, with `segments`, `text` and `utt2spk` next to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.addresses import check_address, has_scheme
from cdslm_eval.core.remote.paths import AnyPath
from cdslm_eval.core.sidecars import Sidecars, text_lines
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span

__all__ = ["from_scp"]


def from_scp(path: AnyPath) -> Iterator[Source]:
    """Yield the clips of a `wav.scp`: the utterances of the `segments` next to it, or else whole recordings.

    Raises:
        UsageError: An entry is no plain file, or a line of `segments` names no recording or no time; with its line.
    """
    texts, speakers = (_table(path.with_name(name)) for name in ("text", "utt2spk"))
    if (segments := path.with_name("segments")).is_file():
        recordings = dict(_recordings(path))
        for key, recording, span in _segments(segments, recordings, path.name):
            yield Source(key=key, path=recording, span=span, text=texts.get(key), speaker=speakers.get(key))
        return
    sidecars = Sidecars()
    for key, audio in _recordings(path):
        text, phones = texts.get(key), sidecars.read(audio, ".phones")
        yield Source(
            key=key,
            path=audio,
            text=sidecars.read(audio, ".txt") if text is None else text,
            speaker=speakers.get(key),
            phones=tuple(phones.split()) if phones is not None else None,
        )


def _recordings(path: AnyPath) -> Iterator[tuple[str, str]]:
    """Yield the key and the file of each entry of a `wav.scp`."""
    for number, line in text_lines(path):
        if not line.strip():
            continue
        key, rest = _split(line)
        if problem := _problem(rest):
            raise UsageError(f"{path}, line {number}: {key!r} has {problem}")
        yield key, check_address(rest) if has_scheme(rest) else str(path.parent / rest)


def _segments(path: AnyPath, recordings: dict[str, str], scp: str) -> Iterator[tuple[str, str, Span]]:
    """Yield the key, the file and the span of each utterance of `segments`; an end of -1 is that of the recording.

    Source: Kaldi, extract-segments.cc.
    """
    for number, line in text_lines(path):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}, line {number}"
        if len(fields) != 4:
            channel = " (a fifth, the channel, is not read: give files of one channel)" if len(fields) == 5 else ""
            raise UsageError(f"{where}: {len(fields)} fields; UTTERANCE RECORDING START END are wanted{channel}")
        key, recording, start, end = fields
        key, recording = (unicodedata.normalize("NFC", name) for name in (key, recording))
        if recording not in recordings:
            raise UsageError(f"{where}: {scp} has no recording {recording!r}")
        try:
            span = Span.between(float(start), None if float(end) == -1 else float(end))
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
        yield key, recordings[recording], span


def _table(path: AnyPath) -> dict[str, str]:
    if not path.is_file():
        return {}
    return dict(_split(line) for _, line in text_lines(path) if line.strip())


def _split(line: str) -> tuple[str, str]:
    """Split a line of a Kaldi file at its first white space, tabs included; the key in composed form (NFC)."""
    key, *rest = line.split(None, 1)
    return unicodedata.normalize("NFC", key), rest[0].strip() if rest else ""


def _problem(rest: str) -> str:
    """Return why an entry of a `wav.scp` is no plain file, or ""."""
    if not rest:
        return "no path"
    if rest.endswith("|"):
        return "a command, and commands from a file are not run; write plain files"
    if re.search(r"\.ark(:\d+)?$", rest):
        return "an offset into an archive, and archives are not read; write plain files"
    if rest.startswith(("~", "file://")):
        return f"{rest.partition('/')[0]!r}, which is not expanded; write the path in full"
    return ""
