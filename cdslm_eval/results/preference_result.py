"""`PreferenceResult`: how often models prefer the better clip of a pair, of all pairs, by kind and by noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.printable import printable
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import format_interval, format_number, to_json

__all__ = ["ALL_KINDS", "Comparison", "KindAccuracy", "LevelAccuracy", "PairFailure", "PreferenceResult"]

ALL_KINDS = "all"
"""Name of the accuracy over pairs of every kind."""


@dataclass(frozen=True, slots=True)
class LevelAccuracy:
    """Share of pairs that one noise level alone decides for the better clip.

    Attributes:
        low, high: Its log-SNR.
        accuracy: The share, ties half, with its interval.
    """

    low: float
    high: float
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class KindAccuracy:
    """What one model prefers among the pairs of one kind.

    Attributes:
        system: The model.
        kind: What makes the worse clips worse, or "all".
        score: Kind of its scores: "nats", "bound", "gain" or "denoising"; "" where no pair could be compared.
        accuracy: Share of pairs whose better clip scores higher, ties half, with its interval by family.
        families: Families of pairs behind it.
        margin: Mean of better less worse over its standard deviation; NaN for fewer than two pairs.
        levels: The same by noise level, where the model has any.
    """

    system: str
    kind: str
    score: str
    accuracy: Estimate
    families: int
    margin: float
    levels: tuple[LevelAccuracy, ...] = ()


@dataclass(frozen=True, slots=True)
class PairFailure:
    """A pair that was not compared, and why."""

    system: str
    better: str
    worse: str
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the scores of a pair are compared.

    Attributes:
        per_second: Whether scores per second are compared; totals otherwise.
        chosen_by: "option", the default of a "layout", or "length": totals, as all pairs have clips of one length.
        n_unequal: Pairs whose clips differ in length.
    """

    per_second: bool
    chosen_by: str
    n_unequal: int

    def __str__(self) -> str:
        scores = "scores per second" if self.per_second else "totals"
        return f"compared: {scores} (by {self.chosen_by}); clips differ in length in {self.n_unequal} pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceResult:
    """Accuracies of models on pairs.

    Attributes:
        accuracies: For each model that of all pairs, then of each kind.
        failures: Pairs that could not be compared.
        comparison: How scores are compared.
        models: Identity of each model, and its parts: options, digests of weights, code.
        pairs_digest: Of the content, families, kinds and contexts of all pairs.
        settings: Options, and versions.
    """

    accuracies: tuple[KindAccuracy, ...]
    failures: tuple[PairFailure, ...]
    comparison: Comparison
    models: Mapping[str, Mapping[str, Any]]
    pairs_digest: str
    settings: Mapping[str, Any]

    def accuracy(self, system: str, kind: str = ALL_KINDS, score: str | None = None) -> Estimate:
        """Return the accuracy of a model on the pairs of a kind.

        Args:
            system: The model.
            kind: Of the pairs.
            score: Kind of the scores; needed where the model has several.

        Raises:
            KeyError: There is none.
            UsageError: There are several.
        """
        entries = {
            entry.score: entry.accuracy
            for entry in self.by_kind().get((system, kind), ())
            if score in (None, entry.score)
        }
        if not entries:
            raise KeyError((system, kind) if score is None else (system, kind, score))
        if len(entries) > 1:
            raise UsageError(f"{system}, {kind}: has scores of several kinds; name one as score: {', '.join(entries)}")
        return next(iter(entries.values()))

    def by_kind(self) -> dict[tuple[str, str], list[KindAccuracy]]:
        """Return the accuracies of each model and kind of pairs: several where it has scores of several kinds."""
        groups: dict[tuple[str, str], list[KindAccuracy]] = {}
        for entry in self.accuracies:
            groups.setdefault((entry.system, entry.kind), []).append(entry)
        return groups

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values: NaN is null."""
        accuracies = [
            {
                "system": entry.system,
                "kind": entry.kind,
                "score": entry.score,
                **entry.accuracy.as_json(),
                "families": entry.families,
                "margin": to_json(entry.margin),
                "levels": [
                    {"log_snr_low": level.low, "log_snr_high": level.high, **level.accuracy.as_json()}
                    for level in entry.levels
                ],
            }
            for entry in self.accuracies
        ]
        return {
            "accuracies": accuracies,
            "failures": to_json(self.failures),
            "comparison": to_json(self.comparison),
            "models": to_json(self.models),
            "pairs_digest": self.pairs_digest,
            "settings": to_json(self.settings),
        }

    def lines(self) -> Iterator[str]:
        """Yield the result as lines for a terminal."""
        rows = [("system", "kind", "score", "accuracy", "95 %", "pairs", "families", "failed")]
        for entry in self.accuracies:
            own = entry.accuracy
            counts = (str(own.n_scored), str(entry.families), str(own.n_failed))
            value = (format_number(own.value, 3), format_interval(own.low, own.high))
            rows.append((printable(entry.system), printable(entry.kind), entry.score or "—", *value, *counts))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (
                cell.ljust(width) if at < 3 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  ".join(cells).rstrip()
        yield str(self.comparison)
        for entry in self.accuracies:
            if entry.levels:
                shares = "  ".join(
                    f"{level.low:.1f}..{level.high:.1f}: {format_number(level.accuracy.value, 2)}"
                    for level in entry.levels
                )
                yield f"by log-SNR, {printable(entry.system)}, {printable(entry.kind)}:  {shares}"
        for failure in self.failures[:5]:
            yield printable(f"not compared: {failure.better}, {failure.worse}: {failure.reason}")
        if len(self.failures) > 5:
            yield f"not compared: {len(self.failures)} pairs in all"
