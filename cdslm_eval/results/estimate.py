"""`Estimate`: one value of one system, and the one decision on which of its numbers counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cdslm_eval.results.channel import Acoustics
from cdslm_eval.results.numbers import decimals_of, format_interval, format_value, to_json

__all__ = ["Better", "Calibration", "Estimate", "Quantity", "Trust"]

Better = Literal["lower", "higher", "neither"]
Trust = Literal["", "ok", "sample_limited", "acoustic", "rank_deficient", "bounds_only"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that may be reported, ranked and tested, with what is known of its error.

    Attributes:
        kind: "value", "corrected" (without its finite-sample bias), "bounds" (no point is known between `low` and
            `high`), "uncorrected" (biased by the sample size, so without an interval) or "held-out" (a lower bound at
            one sample size, for ranking only).
        value: The point; NaN where there is none.
        low, high: Its 95 % interval or its bounds; NaN where it has none.
        why: Why it is this kind, or not known; "" where that needs no words.
    """

    kind: Literal["value", "corrected", "bounds", "uncorrected", "held-out"]
    value: float
    low: float = math.nan
    high: float = math.nan
    why: str = ""

    @property
    def known(self) -> bool:
        """Whether there is anything to show: a point, or bounds."""
        return math.isfinite(self.value) or (self.kind == "bounds" and math.isfinite(self.high))

    @property
    def decimals(self) -> int | None:
        """Decimals that the interval deserves; None where there is none."""
        return decimals_of(self.low, self.high)

    @property
    def interval(self) -> str:
        """The interval or bounds as text."""
        return format_interval(self.low, self.high)

    def __str__(self) -> str:
        return format_value(self.value, self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a value is worth at this sample size: only values that are compared with a reference have it.

    Attributes:
        floor: What identical sources would score at this sample size.
        floor_clips: Clips a side behind the floor, where it is that of two halves of the reference; 0 otherwise.
        corrected, corrected_low, corrected_high: The value without its finite-sample bias, and its 95 % interval.
        held_out: A lower bound, 0 in expectation for identical sources; negative values are kept as they are.
        held_out_common: The same at the phone count `common_phones`, shared by all systems of the run.
        common_phones: That count; None where there is no common one.
        trust: "ok", "sample_limited", "acoustic", "rank_deficient" or "bounds_only"; "" where only a floor is known.
        reference_share: Share of the reference in the variance of `corrected`, 0..1.
        clips_for_ok: About how many clips a side would make the value trusted as "ok"; NaN where it is, or unknown.
    """

    floor: float = math.nan
    floor_clips: int = 0
    corrected: float = math.nan
    corrected_low: float = math.nan
    corrected_high: float = math.nan
    held_out: float = math.nan
    held_out_common: float = math.nan
    common_phones: int | None = None
    trust: str = ""
    reference_share: float = math.nan
    clips_for_ok: float = math.nan


_BLANK = Calibration()
_CALIBRATED = tuple(field.name for field in dataclasses.fields(Calibration))
_ACOUSTIC = tuple(field.name for field in dataclasses.fields(Acoustics))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One value of one metric for one system.

    Attributes:
        system, metric, identity, name: Whose it is, what measured it, and how exactly.
        value: The value; NaN with a reason where it is not known.
        low, high: Its interval, or its bounds; `interval` names the kind. NaN where that end is open.
        interval: "bounds", or how the interval was made: "95% t", "95% Korn-Graubard", "95% order statistics",
            "95% jackknife".
        calibration: Floor, corrected value, held-out bound and trust, where the statistic has them.
        acoustics: What the system's channel explains of the value, where that was measured.
        n_scored, n_failed, n_skipped: Clips behind the value.
        n_reference: Reference clips behind the value, 0 where none are used.
        reason: Why something is NaN or not to be trusted, or "".
        outside: Why the system is not ranked under this value (it repeats the reference), or "".
        se, degrees: Standard error, and its degrees of freedom, of the number that is ranked: the corrected value where
            it is the headline, else the value. NaN where there is none, and the value is distinguished from no other.
    """

    system: str
    metric: str
    identity: str
    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    interval: str = ""
    calibration: Calibration | None = field(default=None, repr=False)
    acoustics: Acoustics | None = field(default=None, repr=False)
    unit: str = ""
    better: Better = "neither"
    n_scored: int = 0
    n_failed: int = 0
    n_skipped: int = 0
    n_reference: int = 0
    reason: str = ""
    outside: str = ""
    se: float = math.nan
    degrees: float = math.nan

    @property
    def floor(self) -> float:
        """What identical sources would score; NaN where there is no calibration."""
        return (self.calibration or _BLANK).floor

    @property
    def corrected(self) -> float:
        """The value without its finite-sample bias; NaN where there is no calibration."""
        return (self.calibration or _BLANK).corrected

    @property
    def corrected_low(self) -> float:
        """Lower end of the interval of `corrected`."""
        return (self.calibration or _BLANK).corrected_low

    @property
    def corrected_high(self) -> float:
        """Upper end of the interval of `corrected`."""
        return (self.calibration or _BLANK).corrected_high

    @property
    def held_out(self) -> float:
        """A lower bound at this system's own sample size."""
        return (self.calibration or _BLANK).held_out

    @property
    def held_out_common(self) -> float:
        """A lower bound at `common_phones`, the sample size that all systems of the run share."""
        return (self.calibration or _BLANK).held_out_common

    @property
    def lower_bound(self) -> float:
        """The held-out bound: at the common phone count where there is one, else at the system's own."""
        return self.held_out_common if self.common_phones else self.held_out

    @property
    def common_phones(self) -> int | None:
        """Phones a side behind `held_out_common`; None where there is no common count."""
        return (self.calibration or _BLANK).common_phones

    @property
    def trust(self) -> str:
        """How far the corrected value can be trusted; "" where the statistic has no such mark."""
        return (self.calibration or _BLANK).trust

    def with_acoustics(self, acoustics: Acoustics) -> Estimate:
        """Return the estimate with what the channel explains of it; its trust states where that is all of it."""
        own = self.calibration
        trusted = own is not None and own.trust in ("ok", "sample_limited")
        if own is not None and trusted and acoustics.explains(own.corrected, own.corrected_low):
            own = dataclasses.replace(own, trust="acoustic")
        return dataclasses.replace(self, calibration=own, acoustics=acoustics)

    @property
    def reference_share(self) -> float:
        """Share of the reference in the variance, 0..1; NaN where it is not known."""
        return (self.calibration or _BLANK).reference_share

    @property
    def clips_for_ok(self) -> float:
        """About how many clips a side would make the value trusted; NaN where it is, or where that is not known."""
        return (self.calibration or _BLANK).clips_for_ok

    def headline(self) -> Quantity:
        """Return the number that is reported, ranked, drawn, recorded and tested for this estimate.

        A value without a mark of trust counts itself. One with a finite-sample bias counts by its corrected value
        where that can be trusted, else by its bounds, which hold at any sample size but name no point between them.
        Where neither exists (a distance with a singular covariance) the biased value is shown without an interval,
        because no interval around it covers the truth.
        """
        own = self.calibration
        if own is None or not own.trust or not math.isfinite(self.value):
            return Quantity("value", self.value, self.low, self.high, self.reason)
        if own.trust in _WHY and math.isfinite(own.corrected):
            why = _WHY[own.trust]
            return Quantity("corrected", own.corrected, own.corrected_low, own.corrected_high, why)
        if self.interval == "bounds":
            why = "too little speech for this order: only the bounds hold"
            return Quantity("bounds", math.nan, self.low, self.high, why)
        return Quantity("uncorrected", self.value, why=self.reason or "its finite-sample bias is not known")

    def as_json(self) -> dict[str, Any]:
        """Return the estimate as flat JSON values: NaN and infinities become None.

        The fields of `acoustics` follow where the channel was measured.
        """
        record = {name: getattr(self, name) for name in _FIELDS if name not in _CALIBRATED}
        record |= {name: getattr(self.calibration or _BLANK, name) for name in _CALIBRATED}
        plain: dict[str, Any] = to_json({name: record[name] for name in _FIELDS})
        return plain | (to_json(self.acoustics) if self.acoustics is not None else {})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Estimate:
        """Read what `as_json` returns; numbers that are null or absent are NaN."""
        own = {name: _number(name, value, Calibration) for name, value in record.items() if name in _CALIBRATED}
        acoustic = {name: _number(name, value, Acoustics) for name, value in record.items() if name in _ACOUSTIC}
        parts = {*own, *acoustic}
        rest = {name: _number(name, value, cls) for name, value in record.items() if name not in parts}
        calibration = Calibration(**own)
        return cls(
            **rest,
            calibration=None if _empty(calibration) else calibration,
            acoustics=Acoustics(**acoustic) if acoustic else None,
        )


# the order of the JSON keys and of the CSV columns, which other programs read
_FIELDS = (
    *("system", "metric", "identity", "name", "value", "low", "high", "interval"),
    *_CALIBRATED,
    *("unit", "better", "n_scored", "n_failed", "n_skipped", "n_reference", "reason", "outside", "se", "degrees"),
)


_WHY = {
    "ok": "",
    "sample_limited": "more speech would narrow it",
    "acoustic": "its channel alone makes real speech differ as much",
}


def _number(name: str, value: Any, owner: type) -> Any:
    """Return NaN for a null in a number field."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(owner)}
    return math.nan if value is None and kinds.get(name) == "float" else value


def _empty(calibration: Calibration) -> bool:
    """Return whether nothing in a calibration is known (NaN equals nothing, itself included)."""
    return not calibration.trust and all(math.isnan(getattr(calibration, name)) for name in ("floor", "held_out"))
