"""Reads a suite file; every problem is told with its line and key, all of them at once."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.suite.locate import line_of, lines_of_keys
from cdslm_eval.suite.model import BudgetSpec, GateSpec, ReferenceSpec, RunSpec, SuiteSpec, SystemSpec

__all__ = ["Problems", "Suite", "load_suite", "parse_suite", "schema"]

_ROOMS: dict[str, type[BaseModel]] = {
    "systems": SystemSpec,
    "references": ReferenceSpec,
    "gates": GateSpec,
    "budget": BudgetSpec,
    "run": RunSpec,
}
_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite file that was read.

    Attributes:
        spec: What it says.
        path: Where it lies; relative paths in it start from its folder.
        text: The file as it is.
    """

    spec: SuiteSpec
    path: Path
    text: str

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.resolve().parent

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Problems:
    """Collects what is wrong with a suite file, each with its line and key.

    Args:
        path: The file.
        text: Its text.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._lines = path, lines_of_keys(text)
        self._found: list[tuple[int, str]] = []

    def add(self, where: Sequence[str | int], message: str) -> None:
        """Note a problem of one key."""
        line = line_of(where, self._lines)
        key = ".".join(str(part) for part in where)
        place = f"{self._path}, line {line}" if line else str(self._path)
        self._found.append((line or 0, f"{place}: {key}: {message}" if key else f"{place}: {message}"))

    def tell(self) -> None:
        """Raise all problems as one error, in the order of the file.

        Raises:
            UsageError: There are any.
        """
        if self._found:
            raise UsageError("\n".join(message for _, message in sorted(self._found, key=lambda one: one[0])))


def load_suite(path: Path | str) -> Suite:
    """Read a suite file.

    Raises:
        UsageError: It cannot be read, is no TOML, or says something that a suite does not know.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path}: over 4 MiB; is it really a suite file?")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise UsageError(f"{path}: the suite file cannot be read: {error.strerror}.{near}") from error
    return parse_suite(text, path)


def parse_suite(text: str, path: Path) -> Suite:
    """Read the text of a suite file.

    Raises:
        UsageError: It is no TOML, or says something that a suite does not know.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    problems = Problems(path, text)
    try:
        return Suite(SuiteSpec(**data), path, text)
    except ValidationError as error:
        for one in error.errors():
            problems.add(one["loc"], _said(one["loc"], one["type"], str(one["msg"])))
        problems.tell()
        raise


def _said(where: Sequence[str | int], kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        known = list(_model_at(where[:-1]).model_fields)
        hint = did_you_mean(str(where[-1]), known) or f" Keys here: {', '.join(known)}."
        return f"there is no such key.{hint}"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")


def _model_at(where: Sequence[str | int]) -> type[BaseModel]:
    return _ROOMS.get(str(where[0]), SuiteSpec) if where else SuiteSpec


def schema() -> dict[str, Any]:
    """Return the JSON schema of suite files, for editors."""
    found = SuiteSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "cdslm-eval suite"}
