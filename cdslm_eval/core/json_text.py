"""Parses JSON strictly: a key that occurs twice in one object is an error, not a value that vanishes."""

from __future__ import annotations

import json
from typing import Any

from cdslm_eval.core.errors import UsageError

__all__ = ["parse_json"]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return value


_decode = json.JSONDecoder().raw_decode
_STRICT = json.JSONDecoder(object_pairs_hook=_unique)


def parse_json(text: str, where: str | tuple[object, int]) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        where: What it is called in messages; or a file and a line, which cost nothing where there is no message.

    Raises:
        UsageError: It is not JSON, is nested too deeply, or an object has a key twice.
    """
    text = text.strip()
    try:
        value, end = _decode(text)
        if end != len(text) or not _is_plain(value, text):
            value = _STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        place = where if isinstance(where, str) else f"{where[0]}, line {where[1]}"
        raise UsageError(f"{place}: not JSON ({error})") from error
    return value


def _is_plain(value: Any, text: str) -> bool:
    """Return whether an object has no key twice, judged by the quotation marks of its text.

    A second pass with a hook costs as much as the first; a key that vanished leaves two marks too many.
    """
    if type(value) is not dict:
        return False
    n_texts = list(map(type, value.values())).count(str)
    return text.count('"') == 2 * (len(value) + n_texts)
