"""The compute multiplier: at which share of another group's budget a group reaches the same value of the metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.joint import JointFit
from cdslm_eval.scaling.table import RunTable

__all__ = ["AtValue", "Multiplier", "multiplier", "multiplier_band"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
_UNKNOWN = (math.nan, math.nan)
# how far the ends may differ, in ln, where the laws differ in their coefficients alone: rounding
_SAME = 1e-6
_EDGE = 1.01  # budgets of one isoFLOP differ by about this factor


@dataclass(frozen=True, slots=True)
class AtValue:
    """A multiplier at one value of the metric.

    Attributes:
        metric: The value that both groups are to reach.
        C, needed: FLOPs that the other and the group need for it at their optimum; infinite where one never gets there.
        value: Their ratio; NaN where the other never gets there.
        interval: Of the ratio.
        beyond: Which group's C lies how far beyond its own budgets, so that its law extrapolates; "" where none does.
    """

    metric: float
    C: float
    needed: float
    value: float
    interval: Interval
    beyond: str = ""

    @property
    def side(self) -> int:
        """Whether the interval lies below 1 (-1), above it (1), or holds it or is unknown (0)."""
        low, high = self.interval
        return 1 if low > 1 else -1 if high < 1 else 0


@dataclass(frozen=True, slots=True)
class Multiplier:
    """The compute that a group needs for what another reaches, as a multiple of it.

    Attributes:
        group, against: The two groups.
        C: Budget of the other at which they are compared.
        value: C of the group / C of the other, both at their optimum for the same metric; infinite where the group
            does not get there.
        interval: Of the value.
        ends: The value at the least and at the largest budget of the other: equal where E and exponents are shared.
        at: The same at stated values of the metric.
        depends: Whether E or exponents of the two laws differ, so that the value depends on that of the metric.
        metric: Name of the metric.
        beyond: As in `AtValue`, of C and of what the group needs for the same; with a missing overlap of the budgets.
        unknown: Why there is no interval, or "".
    """

    group: str
    against: str
    C: float
    value: float
    interval: Interval
    ends: tuple[float, float]
    at: tuple[AtValue, ...] = ()
    depends: bool = False
    metric: str = "metric"
    beyond: str = ""
    unknown: str = ""

    @property
    def sentence(self) -> str:
        """The multiplier in words."""
        if not math.isfinite(self.value):
            return f"{self.group} does not reach what {self.against} has at C = {self.C:.3g} at any compute"
        text = f"{self.group} needs {_ratio(self.value, self.interval)} of {self.against}'s compute"
        if self.depends:
            least, most = (f"{end:.3g}" if math.isfinite(end) else "unreached" for end in self.ends)
            text += f" at C = {self.C:.3g} ({least} at {self.against}'s least budget, {most} at its largest)"
        text += f" (no interval, and not to be trusted: {self.unknown})" if self.unknown else ""
        return f"{text}{self._established}" + (f" (extrapolated: {self.beyond})" if self.beyond else "")

    @property
    def _established(self) -> str:
        """Return where a difference is established and where not, as the end of a sentence."""
        low, high = self.interval
        if math.isnan(low):
            return ""
        below, above, open_at = (
            ", ".join(f"{at.metric:.6g}" for at in self.at if at.side == side and not math.isnan(at.interval[0]))
            for side in (-1, 1, 0)
        )
        sides = (f"below 1 at {self.metric} = {below}", f"above 1 at {self.metric} = {above}")
        elsewhere = " and ".join(text for text, values in zip(sides, (below, above), strict=True) if values)
        if low <= 1 <= high:
            return ": no difference is established" + (f" at this C; its interval is {elsewhere}" if elsewhere else "")
        return f"; no difference is established at {self.metric} = {open_at}" if open_at else ""


def _ratio(value: float, interval: Interval) -> str:
    low, high = interval
    return f"{value:.3g}" + ("" if math.isnan(low) else f" [{low:.3g}, {high:.3g}]")


def multiplier(
    fits: Sequence[JointFit],
    group: str,
    against: str,
    rows: RunTable,
    base: RunTable,
    level: float,
    values: Sequence[float] = (),
    *,
    metric: str = "metric",
    unknown: str = "",
) -> Multiplier:
    """Return the compute of one group over that of another, at the middle of the budgets that both were trained on.

    Args:
        fits: Their laws: the best fit first, then others as plausible. An interval holds those of all: what groups
            share is chosen by the same rows, and the interval of the best alone holds the truth too rarely.
        group, against: Names of the two.
        rows, base: Their rows.
        level: Of the intervals.
        values: Values of the metric at which they are compared besides; none takes three, rounded: the middle one, and
            the ends of what both reach within their budgets.
        metric: Its name.
        unknown: Why no fit has replicates, or "".
    """
    low, high = float(base.C.min()), float(base.C.max())
    inside = max(low, float(rows.C.min())), min(high, float(rows.C.max()))
    first, last = inside if inside[0] <= inside[1] else (low, high)
    middle = math.sqrt(first * last)
    C = np.array([middle, low, high])
    fit = fits[0]
    own, other = fit.laws[group].curve, fit.laws[against].curve
    value, least, most = (np.asarray(own.reach(other.frontier(C))) / C).tolist()
    ends = multiplier_band(fits, group, against, np.array([middle]), level)
    interval = _UNKNOWN if ends is None else (float(ends[0][0]), float(ends[1][0]))
    axis = fit.laws[against].axis
    budgets = {group: (float(rows.C.min()), float(rows.C.max())), against: (low, high)}
    both = _both_reach(fit, budgets, (first, last))
    stated = values or _rounded(axis.restore(np.asarray(other.frontier(np.array([both[0], middle, both[1]])))))
    at = tuple(_at_value(fits, group, against, value, level, budgets) for value in stated)
    beyond = _beyond({group: value * middle, against: middle}, budgets)
    if inside[0] > inside[1]:
        beyond = "; ".join(filter(None, ["their budgets do not overlap", beyond]))
    apart = math.isfinite(least) and math.isfinite(most) and abs(math.log(most / least)) <= _SAME
    return Multiplier(group, against, middle, value, interval, (least, most), at, not apart, metric, beyond, unknown)


def _both_reach(fit: JointFit, budgets: Mapping[str, Interval], shared: Interval) -> Interval:
    """Return the other's budgets at which what it reaches is reached within the group's budgets as well."""
    (group, own), (against, _) = budgets.items()
    curve, other = fit.laws[group].curve, fit.laws[against].curve
    with np.errstate(all="ignore"):
        low, high = np.asarray(other.reach(curve.frontier(np.array(own)))).tolist()
    low, high = max(low, shared[0]), min(high, shared[1])
    return (low, high) if low < high else shared


def _beyond(C: Mapping[str, float], budgets: Mapping[str, Interval]) -> str:
    """Return by how much each group's C lies beyond its own budgets, or ""."""
    parts = []
    for name, flops in C.items():
        low, high = budgets[name]
        if low / _EDGE <= flops <= high * _EDGE or not math.isfinite(flops):
            continue
        factor, end = (low / flops, "below the least") if flops < low else (flops / high, "above the largest")
        parts.append(f"C = {flops:.3g} of {name} is {factor:.3g} times {end} of its budgets")
    return "; ".join(parts)


def multiplier_band(
    fits: Sequence[JointFit], group: str, against: str, C: Floats, level: float
) -> tuple[Floats, Floats] | None:
    """Return the interval of the multiplier at budgets of the other group, two of `[budgets]`; None without draws."""
    bands = []
    for fit in fits:
        if fit.draws:
            draws, base = fit.draws[group], fit.draws[against]
            with np.errstate(all="ignore"):
                replicates = np.asarray(draws.curve(1).reach(base.curve(1).frontier(C))) / C
            bands.append(draws.band(replicates, level))
    if not bands:
        return None
    return np.min([low for low, _ in bands], axis=0), np.max([high for _, high in bands], axis=0)


def _at_value(
    fits: Sequence[JointFit], group: str, against: str, metric: float, level: float, budgets: Mapping[str, Interval]
) -> AtValue:
    """Return the multiplier at a value of the metric."""
    own, other = fits[0].laws[group], fits[0].laws[against]
    u = other.axis.orient(np.asarray(metric))
    needed, C = float(own.curve.reach(u)), float(other.curve.reach(u))
    value = needed / C if math.isfinite(C) else math.nan
    ends: list[Interval] = []
    for fit in fits:
        if fit.draws and not math.isnan(value):
            draws = fit.draws[group]
            with np.errstate(all="ignore"):
                ratio = np.asarray(draws.curve().reach(u)) / np.asarray(fit.draws[against].curve().reach(u))
            # where neither group of a replicate gets there, its ratio may be anything
            low, _ = draws.band(np.where(np.isnan(ratio), 0.0, ratio), level)
            _, high = draws.band(np.where(np.isnan(ratio), np.inf, ratio), level)
            ends.append((float(low), float(high)))
    interval = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else _UNKNOWN
    return AtValue(metric, C, needed, value, interval, _beyond({group: needed, against: C}, budgets))


def _rounded(values: Floats) -> list[float]:
    """Return values in the digits that distinguish them, and within them: these are stated, and to be quoted."""
    spread = float(np.ptp(values))
    if not spread > 0:
        return [float(values[0])]
    unit = 10.0 ** -(math.ceil(-math.log10(spread)) + 1)
    low, high = math.ceil(values.min() / unit - 1e-9), math.floor(values.max() / unit + 1e-9)
    steps = [min(max(round(float(value) / unit), low), high) for value in values]
    return list(dict.fromkeys(float(f"{step * unit:.12g}") for step in steps))
