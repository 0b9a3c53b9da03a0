"""Reads a TOML file into a model, and reports every problem of it with its line and key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from cdslm_eval.core.errors import UsageError, did_you_mean

__all__ = ["Problems", "lines_of_keys", "parse_toml", "read_text", "validate"]

_MAX_BYTES = 4 << 20
_HEADER = re.compile(r"^\s*(\[\[?)(.*?)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)
_PART = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_TRIPLE = re.compile(r'"""|\'\'\'')
_Model = TypeVar("_Model", bound=BaseModel)
KeyPath = tuple[str | int, ...]


class Problems:
    """Collects the problems of a TOML file, each with its line and key.

    Args:
        path: The file.
        text: Its text, which must be valid TOML.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, lines_of_keys(text)
        self._messages: list[tuple[int, str]] = []

    def add(self, key: Sequence[str | int], message: str) -> None:
        """Record a problem of one key."""
        line = _line_of(key, self._lines)
        name = ".".join(str(part) for part in key)
        where = f"{self._path}, line {line}" if line else str(self._path)
        self._messages.append((line or 0, f"{where}: {name}: {message}" if name else f"{where}: {message}"))

    def raise_if_any(self) -> None:
        """Raise all problems as one error, in the order of the file.

        Raises:
            UsageError: There are any.
        """
        if self._messages:
            raise UsageError("\n".join(message for _, message in sorted(self._messages, key=lambda entry: entry[0])))


def read_text(path: Path, kind: str) -> str:
    """Return the text of a TOML file.

    Args:
        path: The file.
        kind: How messages call it, such as "suite file".

    Raises:
        UsageError: It cannot be read, is not UTF-8, or is over 4 MiB.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path}: over 4 MiB; is it really a {kind}?")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UsageError(f"{path}: the {kind} cannot be read: {error.strerror}.{near}") from error


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Return the content of a TOML text.

    Raises:
        UsageError: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def validate(model: type[_Model], data: Mapping[str, Any], problems: Problems) -> _Model:
    """Return data as a model.

    Raises:
        UsageError: Keys are unknown or missing, or values do not fit; every one of them is named with its line.
    """
    try:
        return model(**data)
    except ValidationError as error:
        for detail in error.errors():
            problems.add(detail["loc"], _message(model, detail["loc"], detail["type"], str(detail["msg"])))
        problems.raise_if_any()
        raise


def _message(model: type[BaseModel], key: Sequence[str | int], kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        known = list(_model_at(model, key[:-1]).model_fields)
        hint = did_you_mean(str(key[-1]), known) or f" Keys here: {', '.join(known)}."
        return f"there is no such key.{hint}"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")


def _model_at(model: type[BaseModel], key: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the table at a key: keys of a mapping and numbers of a list are passed over."""
    for part in key:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `dict[str, Model]` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every table header and key of a valid TOML text.

    The parser of the standard library reports no lines. Arrays of tables count from 0: `("gates", 1, "gate")`.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    quote = ""  # of the multi-line string that the line is inside
    depth = 0  # of the multi-line array or inline table that the line is inside
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if line.count(quote) % 2 else quote
            continue
        header = _HEADER.match(line)
        if depth == 0 and header:
            table = _numbered(tuple(_parts(header[2])), counts, is_array=header[1] == "[[")
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if depth == 0 and key:
            lines[(*table, *_parts(key[1]))] = number
        value = line[key.end() :] if key else line
        triple = _TRIPLE.search(value)
        if triple and value.count(triple[0]) % 2:
            quote = triple[0]
            continue
        bare = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*", "", value)
        depth = max(0, depth + bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}"))
    return lines


def _parts(text: str) -> list[str]:
    return [next(group for group in match.groups() if group is not None) for match in _PART.finditer(text)]


def _numbered(names: tuple[str, ...], counts: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """Return the path of a header, with the running number of every array of tables in it."""
    path: KeyPath = ()
    for position, name in enumerate(names):
        path = (*path, name)
        if is_array and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _line_of(key: Sequence[str | int], lines: Mapping[KeyPath, int]) -> int | None:
    """Return the line of a key, or of the closest table around it; None where the text holds neither."""
    path = tuple(key)
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None
