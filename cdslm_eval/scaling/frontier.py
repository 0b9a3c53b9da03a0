"""What a fitted law says along compute: optima, curvature and the near-optimal range, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit

__all__ = ["EPSILONS", "KEYS", "Band", "Frontier", "NearRange", "frontier", "near_ranges", "round_budgets"]

Floats = npt.NDArray[np.float64]
KEYS = ("N", "D", "ratio", "loss", "kappa")
EPSILONS = ((0.001, True), (0.01, True), (0.05, True))


@dataclass(frozen=True, slots=True)
class Band:
    """A quantity at budgets, with its interval (NaN where it has none); every field `[budgets]`."""

    C: Floats
    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Frontier:
    """N*, D*, r* = D*/N*, the metric and the curvature at the optimum, along C."""

    N: Band
    D: Band
    ratio: Band
    loss: Band
    kappa: Band


@dataclass(frozen=True, slots=True)
class NearRange:
    """The models within epsilon of the optimum, along C.

    Attributes:
        epsilon: How far from the optimum.
        relative: Whether epsilon is a fraction of the optimum's value, or stands in the metric's units.
        N_low, N_high, D_low, D_high, width: The ends, and ln(N_high / N_low).
    """

    epsilon: float
    relative: bool
    N_low: Band
    N_high: Band
    D_low: Band
    D_high: Band
    width: Band

    @property
    def name(self) -> str:
        """How far, in words."""
        return f"{100 * self.epsilon:g} % of L*" if self.relative else f"{self.epsilon:g}"


def frontier(fit: LawFit, bootstrap: Bootstrap | None, C: Floats, level: float) -> Frontier:
    """Return what the law says at budgets, with percentile intervals where there is a bootstrap.

    Args:
        fit: Of a form with an optimum.
        bootstrap: Its replicates.
        C: Budgets in FLOPs.
        level: Of the intervals.
    """
    # a law that the data do not determine may put its optimum beyond all numbers, which is told as unknown
    with np.errstate(all="ignore"):
        best = fit.optimum(C)
        ends = None if bootstrap is None else bootstrap.optimum(C, level)
    return Frontier(**{key: _band(C, getattr(best, key), getattr(ends, key, None)) for key in KEYS})


def near_ranges(fit: LawFit, bootstrap: Bootstrap | None, C: Floats, level: float) -> tuple[NearRange, ...]:
    """Return the near-optimal ranges of 0.1 %, 1 % and 5 %; arguments as in `frontier`."""
    found = []
    for epsilon, relative in EPSILONS:
        with np.errstate(all="ignore"):
            best = fit.near_optimal(C, epsilon, relative=relative)
            ends = {} if bootstrap is None else bootstrap.near_optimal(C, epsilon, level, relative=relative)
            names = ("N_low", "N_high", "D_low", "D_high", "width")
            parts = {name: _band(C, getattr(best, name), ends.get(name)) for name in names}
        found.append(NearRange(epsilon, relative, **parts))
    return tuple(found)


def _band(C: Floats, value: Floats, ends: tuple[Floats, Floats] | None) -> Band:
    unknown = np.full(np.shape(C), np.nan)
    low, high = ends or (unknown, unknown)
    return Band(C, np.asarray(value), np.asarray(low), np.asarray(high))


def round_budgets(C: Floats, more: Sequence[float] = ()) -> Floats:
    """Return the decades within the range of C (with threes between, where there are under four), and `more`.

    Example:
        >>> round_budgets(np.array([2e18, 5e20])).tolist()
        [3e+18, 1e+19, 3e+19, 1e+20, 3e+20]
    """
    low, high = math.floor(math.log10(C.min())), math.ceil(math.log10(C.max()))

    def within(digits: tuple[int, ...]) -> list[float]:
        steps = [float(f"{digit}e{power}") for power in range(low, high + 1) for digit in digits]
        return [step for step in steps if C.min() * 0.999 <= step <= C.max() * 1.001]

    found = within((1,))
    if len(found) < 4:
        found = within((1, 3)) or [float(f"{np.exp(np.log(C).mean()):.2g}")]
    return np.array(sorted({*found, *more}))
