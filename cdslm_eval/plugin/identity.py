"""Identity: what two numbers must share before they may be compared, and what one row is a row of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from cdslm_eval.core.clips import Source
from cdslm_eval.plugin.contract import GIVEN, Measurer, Recognizer

__all__ = ["Identity", "content_needs", "identify", "subject", "through"]

_ROLES: Mapping[str, str] = {"phones": "recognizer", "transcript": "transcriber"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a metric: name, version, options, rate, weights, and that of whatever it is measured through.

    Attributes:
        ident: Short form for tables and keys, such as "pjsd@1+pocketsphinx@1#3f2a90c1d4e5".
        parts: Everything that went into it; and under "located" the names (never this machine's paths) by which files
            were found, which did not.
        rows: The identity that its rows are kept under; that of another where several metrics read the same rows.
    """

    ident: str
    parts: Mapping[str, Any]
    rows: Identity | None = None

    @property
    def stored(self) -> Identity:
        """What rows carry: `rows`, or the identity itself."""
        return self.rows or self


def through(measurer: Measurer, givers: Mapping[str, Measurer]) -> dict[str, Measurer]:
    """Return what must run before a measurer, by what it gives: a recognizer, a transcriber.

    Args:
        measurer: The one that asks. What gives phones itself (from sidecars) is not given phones.
        givers: What it gives -> the measurer that gives it.
    """
    before = GIVEN[: GIVEN.index(measurer.gives)] if measurer.gives else GIVEN
    asked = set(measurer.needs) | set(measurer.wants)
    return {name: givers[name] for name in before if name in asked and name in givers}


def identify(measurer: Measurer, givers: Mapping[str, Measurer] = MappingProxyType({})) -> Identity:
    """Return the identity of a measurer.

    Args:
        measurer: A metric, recognizer or transcriber.
        givers: What it may be measured through, as for `through`.
    """
    if measurer.rows:
        rows = _identity(*measurer.rows.rpartition("@")[::2], measurer, givers)
        text = json.dumps([measurer.name, measurer.version, rows.ident])
        parts = {"name": measurer.name, "version": measurer.version, "rows": dict(rows.parts)}
        return Identity(
            f"{measurer.name}@{measurer.version}+{rows.ident.partition('#')[0]}#{_digest(text)}", parts, rows
        )
    return _identity(measurer.name, measurer.version, measurer, givers)


def _identity(name: str, version: str, measurer: Measurer, givers: Mapping[str, Measurer]) -> Identity:
    parts: dict[str, Any] = {
        "name": name,
        "version": version,
        "options": measurer.options.model_dump(mode="json"),
        "rate_hz": measurer.rate_hz,
        "fingerprint": dict(measurer.fingerprint()),
    }
    if measurer.code:
        parts["code"] = measurer.code
    if names := _names(measurer.options):
        parts["located"] = names
    label = f"{name}@{version}"
    if isinstance(measurer, Recognizer):
        parts["inventory"] = measurer.inventory
    for given, giver in through(measurer, givers).items():
        parts[_ROLES[given]] = dict(identify(giver, givers).parts)
        label += f"+{giver.name}@{giver.version}"
    return Identity(f"{label}#{_digest(json.dumps(_deciding(parts), sort_keys=True))}", parts)


def _names(options: BaseModel) -> dict[str, str]:
    """Return by which names files were found: what is no path of this machine among the options that locate."""
    found = {name: getattr(options, name) for name, one in type(options).model_fields.items() if one.exclude}
    return {name: str(value) for name, value in found.items() if value and not Path(str(value)).exists()}


def _deciding(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that make two identities different."""
    roles = set(_ROLES.values())
    return {name: _deciding(one) if name in roles else one for name, one in parts.items() if name != "located"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def content_needs(measurer: Measurer, givers: Mapping[str, Measurer]) -> frozenset[str]:
    """Return what of a clip decides the row: a metric over phones depends on what its recognizer looks at."""
    content = frozenset(measurer.needs) | frozenset(measurer.wants)
    for name, giver in through(measurer, givers).items():
        content = (content - {name}) | content_needs(giver, givers)
    return content


def subject(needs: frozenset[str], source: Source, digest: str | None, reference_digest: str | None) -> str | None:
    """Return the key of a row: the digest of whatever the row depends on, or None while that is not known.

    Args:
        needs: As `content_needs` gives it.
        source: The clip.
        digest: Digest of its decoded audio, when known.
        reference_digest: The same of its paired reference.
    """
    values: dict[str, str | None] = {
        "audio": digest,
        "reference_audio": reference_digest if source.reference else "",
        "text": source.text or "",
        "phones": " ".join(source.phones or ()),
        "transcript": "",  # a set brings none: without a transcriber no clip has one
        "speaker": source.speaker or "",
        "reference_text": source.reference_text or "",
    }
    parts = {name: values[name] for name in sorted(needs)}
    if None in parts.values():
        return None
    if needs == {"audio"}:
        return digest
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
