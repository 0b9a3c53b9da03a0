"""What `rerun` reads of a recorded result, with its types: the file may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cdslm_eval.core.errors import UsageError

__all__ = ["check_recorded"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Set(_Part):
    origin: str
    clips: int
    digest: str | None = None


class _Suite(_Part):
    path: str
    digest: str
    text: str
    against: str | None = None
    only: list[str] = []


class _Settings(_Part):
    versions: dict[str, str | dict[str, str]] = {}
    sets: dict[str, _Set] = {}


class _SuiteSettings(_Settings):
    suite: _Suite


class _ScoreSettings(_Settings):
    metrics: str | None = None
    recognizer: str | None = None
    transcriber: str | None = None
    reference: str | None = None
    seed: int | None = None
    channel: bool | None = None
    allow_truncated: bool = False
    speakers_from: str | None = None
    ignore_columns: list[str] = []


class _Estimate(_Part):
    system: str
    name: str
    identity: str


class _SuiteResult(_Part):
    settings: _SuiteSettings
    estimates: list[_Estimate]


class _ScoreResult(_Part):
    settings: _ScoreSettings
    estimates: list[_Estimate]


def check_recorded(data: Mapping[str, Any], path: Path) -> None:
    """Check the types of everything that `rerun` reads of a result.

    Raises:
        UsageError: A part has another type or is missing; the message names the field.
    """
    try:
        (_SuiteResult if "suite" in data["settings"] else _ScoreResult).model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: not a result of `run` or `score`: {field}: {first['msg']}") from error
