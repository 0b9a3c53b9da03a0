"""Identity: what two numbers must share to be comparable, and the key of one row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.clips import Source
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Measurer, Recognizer

__all__ = ["Identity", "cited", "content_needs", "depends_on", "identify", "subject"]

_ROLES: Mapping[str, str] = {"phones": "recognizer", "transcript": "transcriber"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a metric: name, version, options, rate, weights, and the identities of its upstream measurers.

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


def depends_on(measurer: Measurer, providers: Mapping[str, Measurer]) -> dict[str, Measurer]:
    """Return the upstream measurers that must run before a measurer, by the feature each provides.

    Args:
        measurer: The dependent one. A measurer does not depend on the feature that it provides itself (from sidecars).
        providers: Upstream feature -> the measurer that provides it.
    """
    earlier: tuple[str, ...] = UPSTREAM_FEATURES
    if measurer.provides:
        earlier = UPSTREAM_FEATURES[: UPSTREAM_FEATURES.index(measurer.provides)]
    read = set(measurer.needs) | set(measurer.wants)
    return {feature: providers[feature] for feature in earlier if feature in read and feature in providers}


def cited(measurers: Iterable[Measurer], providers: Mapping[str, Measurer] = MappingProxyType({})) -> list[Citation]:
    """Return the citations of measurers and of what they depend on, each once, in order.

    Args:
        measurers: Metrics, or others.
        providers: Upstream feature -> the measurer that provides it.
    """
    citations: dict[str, Citation] = {}
    for measurer in measurers:
        upstream = cited(depends_on(measurer, providers).values(), providers)
        citations |= {citation.key: citation for citation in (*measurer.citation, *upstream)}
    return list(citations.values())


def identify(measurer: Measurer, providers: Mapping[str, Measurer] = MappingProxyType({})) -> Identity:
    """Return the identity of a measurer.

    Args:
        measurer: A metric, recognizer or transcriber.
        providers: Upstream feature -> the measurer that provides it.
    """
    if measurer.rows:
        rows = _identity(*measurer.rows.rpartition("@")[::2], measurer, providers)
        text = json.dumps([measurer.name, measurer.version, rows.ident])
        parts = {"name": measurer.name, "version": measurer.version, "rows": dict(rows.parts)}
        return Identity(
            f"{measurer.name}@{measurer.version}+{rows.ident.partition('#')[0]}#{_digest(text)}", parts, rows
        )
    return _identity(measurer.name, measurer.version, measurer, providers)


def _identity(name: str, version: str, measurer: Measurer, providers: Mapping[str, Measurer]) -> Identity:
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
    for feature, provider in depends_on(measurer, providers).items():
        parts[_ROLES[feature]] = dict(identify(provider, providers).parts)
        label += f"+{provider.name}@{provider.version}"
    return Identity(f"{label}#{_digest(json.dumps(_deciding(parts), sort_keys=True))}", parts)


def _names(options: BaseModel) -> dict[str, str]:
    """Return the names by which files were found: options that locate files and are no path of this machine."""
    values = {name: getattr(options, name) for name, field in type(options).model_fields.items() if field.exclude}
    return {name: str(value) for name, value in values.items() if value and not Path(str(value)).exists()}


def _deciding(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that make two identities different."""
    roles = set(_ROLES.values())
    return {name: _deciding(part) if name in roles else part for name, part in parts.items() if name != "located"}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def content_needs(measurer: Measurer, providers: Mapping[str, Measurer]) -> frozenset[str]:
    """Return the parts of a clip that decide its row: a metric over phones depends on what its recognizer reads."""
    content = frozenset(measurer.needs) | frozenset(measurer.wants)
    for feature, provider in depends_on(measurer, providers).items():
        content = (content - {feature}) | content_needs(provider, providers)
    return content


def subject(needs: frozenset[str], source: Source, digest: str | None, reference_digest: str | None) -> str | None:
    """Return the key of a row: the digest of whatever the row depends on, or None while that is not known.

    Args:
        needs: As `content_needs` returns it.
        source: The clip.
        digest: Digest of its decoded audio, when known.
        reference_digest: The same of its paired reference.
    """
    values: dict[str, str | None] = {
        "audio": digest,
        "reference_audio": reference_digest if source.reference else "",
        "text": source.text or "",
        "phones": " ".join(source.phones or ()),
        "transcript": "",  # sets carry none: without a transcriber no clip has one
        "speaker": source.speaker or "",
        "language": source.language or "",
        "reference_text": source.reference_text or "",
        "prompt_seconds": "" if source.prompt_seconds is None else repr(source.prompt_seconds),
    }
    parts = {name: values[name] for name in sorted(needs)}
    if None in parts.values():
        return None
    if needs == {"audio"}:
        return digest
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
