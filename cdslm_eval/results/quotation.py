"""What can be pasted into a paper: a sentence per system and metric, and the BibTeX behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cdslm_eval.core.citation import Citation, bibliography, package_citation
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import format_number

__all__ = ["quotation", "quoted", "recorded_citations"]

_KINDS = {
    "value": "",
    "corrected": ", corrected",
    "bounds": ", bounds only",
    "uncorrected": ", uncorrected and without an interval",
    "held-out": ", held-out",
}


def quoted(estimates: Sequence[Estimate], version: str) -> list[str]:
    """Return one sentence per system and metric: values with intervals, floors, clips, identity, version.

    Args:
        estimates: Of any systems and metrics; those without a known number are left out.
        version: Of this package; "" where it is not known.
    """
    groups: dict[tuple[str, str], list[Estimate]] = {}
    for estimate in estimates:
        if estimate.headline().known:
            groups.setdefault((estimate.system, estimate.metric), []).append(estimate)
    program = f"cdslm-eval {version}".strip()
    sentences = []
    for (system, _), group in groups.items():
        values = "; ".join(map(_value, group))
        first = max(group, key=lambda estimate: estimate.n_scored)
        clips = f"{first.n_scored} clips" + (f", {first.n_reference} reference clips" if first.n_reference else "")
        sentences.append(f"{system}: {values} (95 % intervals); {clips}; {first.identity}; {program}.")
    return sentences


def _value(estimate: Estimate) -> str:
    headline = estimate.headline()
    unit = f" {estimate.unit}" if estimate.unit else ""
    floor = f", floor {format_number(estimate.floor, 3)}" if math.isfinite(estimate.floor) else ""
    return f"{estimate.name} {headline}{unit}{_KINDS[headline.kind]}{floor}"


def quotation(sentences: Sequence[str], citations: Sequence[Citation], version: str) -> dict[str, Any]:
    """Return the part `quote` of a result's JSON: sentences, citations and their BibTeX, this package's first."""
    listed = [package_citation(version), *citations]
    return {
        "sentences": list(sentences),
        "citations": [_record(citation) for citation in citations],
        "bibtex": bibliography(listed),
    }


def recorded_citations(document: Mapping[str, Any]) -> list[Any]:
    """Return the records of the citations in a result's JSON; those of an earlier version have none."""
    quote = document.get("quote")
    return list(quote.get("citations", [])) if isinstance(quote, Mapping) else []


def _record(citation: Citation) -> dict[str, Any]:
    from dataclasses import asdict

    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(citation).items()}
