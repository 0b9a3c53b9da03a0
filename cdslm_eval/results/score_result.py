"""What a scoring run comes to: estimates, failures, the n-grams and clips behind them, and the settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.stats.statistic import Better

__all__ = ["Carrier", "Estimate", "Exemplar", "Failure", "ScoreResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One value of one metric for one system.

    Attributes:
        system, metric, identity, name: Whose it is, what measured it, and how exactly.
        value: The value; NaN with a reason where it is not known.
        low, high: Its interval, or its bounds; `interval` says which.
        interval: "95% bootstrap", "95% jackknife" or "bounds".
        floor: What identical sources would score at this sample size.
        floor_clips: Clips a side behind the floor, where it is that of two halves of the reference; 0 otherwise.
        corrected, corrected_low, corrected_high: The value without its finite-sample bias, and its 95 % interval.
        held_out: A lower bound, 0 in expectation for identical sources; negative values are kept as they are.
        held_out_common: The same at the phone count `common_phones`, shared by all systems of the run.
        trust: "ok", "sample_limited", "rank_deficient" or "bounds_only"; "" where the statistic has no such mark.
        n_scored, n_failed, n_skipped: Clips behind the value.
        n_reference: Reference clips behind the value, 0 where none are used.
        reason: Why something is NaN or not to be trusted, or "".
    """

    system: str
    metric: str
    identity: str
    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    interval: str = ""
    floor: float = math.nan
    floor_clips: int = 0
    corrected: float = math.nan
    corrected_low: float = math.nan
    corrected_high: float = math.nan
    held_out: float = math.nan
    held_out_common: float = math.nan
    common_phones: int | None = None
    trust: str = ""
    unit: str = ""
    better: Better = "neither"
    n_scored: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    n_reference: int = 0
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values: NaN and infinities become None."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that was not scored under a metric, and why."""

    system: str
    clip: str
    metric: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """An n-gram that carries part of a system's divergence.

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
        """Whether the system says it more often than real speech does."""
        return self.generated > self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A clip to listen to.

    Attributes:
        system: The system.
        place: "best", "middle", "worst", or "copy" of a reference clip.
        key: The clip.
        path: Its audio file.
        score: What it was chosen by; higher is more reference-like.
        measure: What the score is, with its unit.
        phones: What the recognizer heard.
        original: Audio file of the reference clip that it copies, or "".
    """

    system: str
    place: str
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
        carriers: n-grams behind the divergences.
        exemplars: Clips to listen to.
        warnings: Sentences that a reader of the numbers must know.
        settings: What was asked for, versions, digests of the sets.
        clip_paths: (set, key) -> audio file of the clips that carriers name; the reference set is called "reference".
    """

    estimates: tuple[Estimate, ...]
    failures: tuple[Failure, ...] = ()
    carriers: tuple[Carrier, ...] = ()
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
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
            "carriers": [{**dataclasses.asdict(carrier), "overused": carrier.overused} for carrier in self.carriers],
            "warnings": list(self.warnings),
            "settings": dict(self.settings),
        }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
