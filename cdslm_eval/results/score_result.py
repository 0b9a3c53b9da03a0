"""The result of a scoring run: estimates, failures, the n-grams and clips behind them, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import to_json

__all__ = ["Exemplar", "Failure", "NgramContribution", "ScoreResult"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that was not scored under a metric, and why."""

    system: str
    clip: str
    metric: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramContribution:
    """An n-gram's part in a system's divergence.

    Attributes:
        system: The system.
        order: n.
        ngram: Its phones.
        generated, reference: Its probability on each side.
        bits: Its contribution to the plug-in divergence.
        clips: Keys of clips that hold it: the system's where it is over-used, the reference's where under-used.
    """

    system: str
    order: int
    ngram: tuple[str, ...]
    generated: float
    reference: float
    bits: float
    clips: tuple[str, ...] = ()

    @property
    def overused(self) -> bool:
        """Whether it is more frequent in the system than in real speech."""
        return self.generated > self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A clip to listen to.

    Attributes:
        system: The system.
        rank: "best", "middle", "worst", or "copy" of a reference clip.
        key: The clip.
        path: Its audio file.
        score: What it was chosen by; higher is more reference-like.
        measure: What the score is, with its unit.
        phones: Phones that were recognized in it.
        original: Audio file of the reference clip that it copies, or "".
    """

    system: str
    rank: str
    key: str
    path: str
    score: float
    measure: str = "bits, mean log2-odds of being reference speech"
    phones: tuple[str, ...] = ()
    original: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """Everything that `score` knows at its end.

    Attributes:
        estimates: In the order of the systems, then of the metrics.
        failures: Every clip that was not scored, per metric.
        contributions: n-grams behind the divergences.
        exemplars: Clips to listen to.
        warnings: Sentences that a reader of the numbers must know.
        settings: What was asked for, versions, digests of the sets.
        clip_paths: (set, key) -> audio file of the clips that contributions name; the reference is "reference".
    """

    estimates: tuple[Estimate, ...]
    failures: tuple[Failure, ...] = ()
    contributions: tuple[NgramContribution, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    clip_paths: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, in order."""
        return tuple(dict.fromkeys(estimate.system for estimate in self.estimates))

    def estimate(self, name: str, system: str | None = None) -> Estimate:
        """Return one value.

        Args:
            name: Name of the value, such as "pjsd_2".
            system: Whose; None where there is one system.

        Raises:
            UsageError: Nothing of that name was measured, or of several systems none was named.
        """
        found = [one for one in self.estimates if one.name == name and system in (None, one.system)]
        if len(found) != 1:
            names = dict.fromkeys(one.name for one in self.estimates)
            what = "several systems have" if found else "no system has"
            hint = did_you_mean(name, names) if not found else f" Name one of {', '.join(self.systems)}."
            raise UsageError(f"{what} a value {name!r}.{hint}")
        return found[0]

    def as_json(self) -> dict[str, Any]:
        """Return what `score --json` writes."""
        return {
            "estimates": [estimate.as_json() for estimate in self.estimates],
            "failures": to_json(self.failures),
            "contributions": [{**to_json(item), "overused": item.overused} for item in self.contributions],
            "warnings": list(self.warnings),
            "settings": dict(self.settings),
        }
