"""Reach: whether a baseline, such as real data, is within reach of compute."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.trend import Trend

__all__ = ["Case", "Reach", "open_question", "reach"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: the rows, their trend, and the law behind them where one could be fitted."""

    table: RunTable
    metric: str
    axis: Axis
    u: Floats
    trend: Trend
    fit: LawFit | None
    draws: Bootstrap | None
    margin: float
    level: float


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a baseline, such as real data, is within reach of compute.

    Attributes:
        label: "reachable", "unreachable" (at any compute) or "undetermined".
        baseline: Its value of the metric.
        C: Least budget whose best model is as good; infinite where there is none, NaN where it is not known.
        interval: Of C, by the level of the verdict; an infinite end says that no budget may be enough.
        share: Share of replicates in which some budget is enough; NaN without a law.
        extrapolation_ratio: C over the largest sampled budget.
        sentence: All this in words.
    """

    label: str
    baseline: float
    C: float
    interval: tuple[float, float]
    share: float
    extrapolation_ratio: float
    sentence: str


def reach(case: Case, label: str, baseline: float) -> Reach:
    """Judge a baseline.

    Args:
        case: What is known of the metric.
        label: The verdict on the metric itself.
        baseline: The value to reach.
    """
    target = float(case.axis.orient(baseline))
    if label in {"flat", "worsens"} or case.fit is None or case.draws is None:
        return _reach_without_law(case, label, baseline, target)
    draws = np.asarray(case.draws.reach(baseline))
    share = float(np.mean(np.isfinite(draws)))
    low, high = np.quantile(draws, [(1 - case.level) / 2, (1 + case.level) / 2], method="closest_observation")
    C, largest = case.fit.law.reach(baseline), float(case.table.C.max())
    interval = (float(low), float(high))
    tail = (1 - case.level) / 2
    if share >= 1 - tail:
        far = C / largest
        beyond = f", {far:.3g} times the largest sampled budget" if far > 1 else ""
        doubt = "; so far beyond the data that it is a guess" if far > 1000 else ""
        sentence = f"{baseline:g} is reachable at C = {C:.3g} [{low:.3g}, {high:.3g}]{beyond}{doubt}"
        return Reach("reachable", baseline, C, interval, share, far, sentence)
    limits = "[{:.4g}, {:.4g}]".format(*case.draws.interval("E", case.level))
    if share <= tail:
        sentence = f"{baseline:g} is unreachable at any compute: the limit is {case.fit.parameters['E']:.4g} {limits}"
        return Reach("unreachable", baseline, np.inf, interval, share, np.inf, sentence)
    sentence = (
        f"whether {baseline:g} is reachable is undetermined: the limit is {case.fit.parameters['E']:.4g} {limits}"
    )
    return Reach("undetermined", baseline, C, interval, share, C / largest, sentence)


def _reach_without_law(case: Case, label: str, baseline: float, target: float) -> Reach:
    """Say what can be said of a metric that does not improve, or that no law describes."""
    reached = case.table.C[case.u <= target]
    error = case.trend.noise / np.sqrt(len(case.u)) if np.isfinite(case.trend.noise) else 0.0
    if label == "flat":
        if case.trend.level + 2 * error <= target:
            return _known("reachable", baseline, float(case.table.C.min()), 1.0, "is reached at every sampled budget")
        if case.trend.level - 2 * error - case.margin > target:
            return _known(
                "unreachable", baseline, np.inf, np.inf, "is not reached, and compute does not move the metric"
            )
    elif len(reached):
        least = float(reached.min())
        return _known("reachable", baseline, least, 1.0, f"was reached at C = {least:.3g}")
    elif label == "worsens":
        return _known(
            "unreachable", baseline, np.inf, np.inf, "is not reached, and more compute makes the metric worse"
        )
    return _known("undetermined", baseline, np.nan, np.nan, "")


def _known(label: str, baseline: float, C: float, ratio: float, how: str) -> Reach:
    sentence = f"{baseline:g} {how}" if how else f"whether {baseline:g} is reachable is undetermined"
    return Reach(label, baseline, C, (np.nan, np.nan), np.nan, ratio, sentence)


def open_question(found: Reach, why: str) -> Reach:
    """Return the same baseline as undetermined, with the reason.

    Args:
        found: What was said of it.
        why: Why that does not stand.
    """
    sentence = f"whether {found.baseline:g} is reachable is undetermined, since {why}"
    return replace(found, label="undetermined", sentence=sentence)
