"""Fields of a manifest's rows: which names are read, which are likely misspelt, and how their values are checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.core.spans import Span

__all__ = ["FIELDS", "check_names", "phones_of", "span_of", "text_of"]

FIELDS = (
    "path", "key", "text", "speaker", "language", "phones", "reference", "reference_text", "offset", "duration",
)  # fmt: skip
_ALIASES = {
    "path": ("audio", "audio_filepath", "audio_path", "file", "filename", "wav"),
    "key": ("id", "utt", "utt_id", "utterance", "utterance_id"),
    "text": ("normalized_text", "sentence", "transcript", "transcription", "words"),
    "speaker": ("client_id", "speaker_id", "spk"),
    "language": ("lang", "locale"),
    "reference": ("ref",),
    "offset": ("start", "start_s"),
}
_MEANT = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def check_names(names: Iterable[str], ignored: Sequence[str], where: str) -> None:
    """Refuse columns that are not read: a misspelt one would be left out in silence.

    Args:
        names: The columns of a row.
        ignored: Patterns of columns that are meant to be passed over.
        where: The file and line, for messages.

    Raises:
        UsageError: A column is neither read nor ignored.
    """
    names = list(map(str, names))
    unread = [
        name for name in names if name not in FIELDS and not any(fnmatchcase(name, pattern) for pattern in ignored)
    ]
    if "path" not in names:
        meant = next((name for name in unread if _meant(name) == "path"), "")
        hint = f" Rename the column {meant!r}?" if meant else did_you_mean("path", names)
        raise UsageError(f"{where}: no 'path'.{hint or ' It names the audio file.'}")
    if not unread:
        return
    for name in unread:
        meant = _meant(name)
        hint = f" Did you mean {meant!r}?" if meant else did_you_mean(name, FIELDS)
        if hint and not any(field in names for field in FIELDS if f"{field!r}" in hint):
            raise UsageError(
                f"{where}: the column {name!r} is not read.{hint} If it is meant: --ignore-columns {','.join(unread)}"
            )
    columns = f"the column {unread[0]!r} is" if len(unread) == 1 else f"the columns {', '.join(map(repr, unread))} are"
    raise UsageError(
        f"{where}: {columns} not read. If that is meant: --ignore-columns {','.join(unread)}, or leave it out"
    )


def _meant(name: str) -> str:
    plain = name.strip().lower()
    return plain if plain in FIELDS else _MEANT.get(plain, "")


def text_of(name: str, value: object) -> str | None:
    """Return the value of a field as text; None where it is missing.

    Raises:
        ValueError: It is neither text nor a number.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None  # pandas writes NaN for a missing text
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name!r} must be text, not {str(value)[:40]}")  # noqa: TRY004 - one kind for every field
    return str(value)


def phones_of(value: object) -> tuple[str, ...] | None:
    """Return the phones of a row: text with white space between them, or a list of them; None where missing.

    Raises:
        ValueError: They are neither.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value) or None
    raise ValueError(f"'phones' must be text, not {str(value)[:40]}")


def span_of(record: Mapping[str, Any]) -> Span | None:
    """Return the part of its recording that a row names by `offset` and `duration` in seconds; None for all of it.

    Raises:
        ValueError: One of them is no number, or no part begins and ends there.
    """
    start_s, duration_s = (_seconds(name, record.get(name)) for name in ("offset", "duration"))
    if start_s is None and duration_s is None:
        return None
    start_s = start_s or 0.0
    return Span.between(start_s, None if duration_s is None else start_s + duration_s)


def _seconds(name: str, value: object) -> float | None:
    try:
        text = text_of(name, value)
        return None if text is None else float(text)
    except ValueError:
        raise ValueError(f"{name!r} must be a number of seconds, not {str(value)[:40]!r}") from None
