"""Curvature: how kappa and the near-optimal widths go with compute, by the law and by the budgets' own curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import binomtest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.curves import Curve
from cdslm_eval.scaling.fit import LawFit, fitted_values
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.isoflop import IsoFlop, IsoFlops

__all__ = ["Curvature", "Growth", "Width", "curvature"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
_UNKNOWN = (math.nan, math.nan)
# exponents of C nearer to 0 than this count as flat: over three decades kappa then changes by under 1.4
_FLAT = 0.05
_OUTSIDE = 1.96
_LEVEL_COUNT, _LEVEL_MEAN = 0.01, 0.002


@dataclass(frozen=True, slots=True)
class Growth:
    """How a positive quantity goes with compute.

    Attributes:
        exponent: In proportion to C^this between the least and the largest budget.
        interval: Of the exponent; NaN where it is not known.
        decades: log10 of the largest budget over the least.
    """

    exponent: float
    interval: Interval
    decades: float

    @property
    def orders(self) -> float:
        """Orders of magnitude by which it grows over the budgets."""
        return self.exponent * self.decades

    @property
    def orders_interval(self) -> Interval:
        """Interval of `orders`."""
        return self.interval[0] * self.decades, self.interval[1] * self.decades

    @property
    def label(self) -> str:
        """Verdict: "falls", "flat", "rises" or "undetermined"."""
        low, high = self.interval
        # a certain sign is no finding where the whole interval is as good as flat
        if high < 0 and low <= -_FLAT:
            return "falls"
        if low > 0 and high >= _FLAT:
            return "rises"
        return "flat" if low > -_FLAT and high < _FLAT else "undetermined"


@dataclass(frozen=True, slots=True)
class Width:
    """How the range of models within epsilon of the optimum goes with compute.

    Attributes:
        epsilon: How far from the optimum.
        relative: Whether that is a share of the optimum's value.
        source: "law" or "budgets".
        ratio: Of N_high / N_low, the width as a factor; D has the same.
        N, D: Of dN = N_high - N_low and of dD.
        beyond, ends: How many ends of the budgets' ranges lie beyond their sampled sizes, and how many there are; of a
            law, whose range needs no sampled sizes, 0 of 0.
    """

    epsilon: float
    relative: bool
    source: str
    ratio: Growth
    N: Growth
    D: Growth
    beyond: int = 0
    ends: int = 0

    @property
    def within(self) -> str:
        """How far, in words."""
        return _within(self.epsilon, self.relative)

    def sentence(self, low: float, high: float) -> str:
        """Return the growth in words, between two budgets."""
        by = "" if self.source == "law" else ", by the budgets alone,"
        beyond = f"; {self.beyond} of {self.ends} ends lie beyond the sampled sizes" if self.beyond else ""
        return (
            f"within {self.within}{by} dN grows by {_orders(self.N)} and dD by {_orders(self.D)} orders of magnitude "
            f"from C = {low:.3g} to {high:.3g}; N high / N low by {_orders(self.ratio)}{beyond}"
        )


@dataclass(frozen=True, eq=False)
class Curvature:
    """The curvature of the isoFLOPs at their optima, and what follows for the near-optimal range.

    Attributes:
        C: Least and largest budget with an optimum of its own.
        law: How the law's kappa goes with C; None without a law.
        budgets: How the budgets' own kappa goes; None where too few have one.
        widths: Of the near-optimal ranges.
        unknown: Sentences on the epsilons at which the growth of the budgets' own widths is not known.
        outside: Budgets whose own kappa lies outside what its curve would show under the law.
        compared: How many were compared.
        excess: Median of own kappa over the law's, less 1, over the compared budgets.
        flags: "curvature_disagrees" where that is more than chance.
    """

    C: Interval
    law: Growth | None
    budgets: Growth | None
    widths: tuple[Width, ...]
    unknown: tuple[str, ...] = ()
    outside: tuple[float, ...] = ()
    compared: int = 0
    excess: float = math.nan
    flags: tuple[Flag, ...] = ()

    @property
    def label(self) -> str:
        """Verdict of the budgets' own curves, which assume no law: "falls", "flat", "rises" or "undetermined"."""
        return "undetermined" if self.budgets is None else self.budgets.label

    @property
    def sentences(self) -> tuple[str, ...]:
        """The results in words."""
        lines = []
        if self.budgets is not None:
            how = {"undetermined": "whether it falls is not established by these data"}.get(
                self.label, f"it {'is ' if self.label == 'flat' else ''}{self.label} with compute"
            )
            lines.append(f"by the budgets alone kappa goes as {_power(self.budgets)}: {how}")
        if self.law is not None:
            lines.append(f"by the law kappa goes as {_power(self.law)}, as its form implies")
        lines += [width.sentence(*self.C) for width in self.widths]
        return (*lines, *self.unknown, *(flag.sentence for flag in self.flags))


def _within(epsilon: float, relative: bool) -> str:
    return f"{100 * epsilon:g} % of L*" if relative else f"{epsilon:g} of L*"


def _power(growth: Growth) -> str:
    return f"C^{growth.exponent:.3f}{_between(growth.interval, 3)}"


def _orders(growth: Growth) -> str:
    return f"{growth.orders:.2f}{_between(growth.orders_interval, 2)}"


def _between(interval: Interval, digits: int) -> str:
    low, high = interval
    return "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"


def curvature(
    isoflops: IsoFlops,
    fit: LawFit | None,
    draws: Bootstrap | None,
    epsilons: Sequence[tuple[float, bool]],
    level: float = 0.95,
) -> Curvature:
    """Return how curvature and widths go with compute, and whether the budgets agree with the law.

    Args:
        isoflops: Each budget by itself.
        fit: A law of the same metric; None leaves the comparison out.
        draws: Its replicates, from which its intervals come.
        epsilons: (epsilon, whether it is a share of the optimum's value).
        level: Of the intervals.

    Raises:
        UsageError: Fewer than two budgets have an optimum.
    """
    if len(isoflops.optima) < 2:
        raise UsageError("fewer than two budgets have an optimum, so growth of their curvature is not seen")
    ends = isoflops.optima[0].C, isoflops.optima[-1].C
    decades = math.log10(ends[1] / ends[0])
    own = isoflops.kappa_law
    budgets = None if own is None else Growth(own.exponent, own.interval, decades)
    law: Growth | None = None
    widths: list[Width | None] = []
    if fit is not None and fit.law.has_optimum:
        law = _by_law(fit, draws, ends, level, lambda curve, C: curve.kappa(C))
        widths += [_law_width(fit, draws, ends, level, *epsilon) for epsilon in epsilons]
    widths += [_own_width(isoflops, decades, *epsilon) for epsilon in epsilons]
    known = tuple(width for width in widths if width is not None and math.isfinite(width.ratio.exponent))
    unknown = tuple(sentence for epsilon in epsilons if (sentence := _unreached(isoflops, *epsilon)))
    return Curvature(
        ends, law, budgets, known, unknown, *(() if law is None or fit is None else _compared(isoflops, fit))
    )


def _by_law(
    fit: LawFit, draws: Bootstrap | None, ends: Interval, level: float, of: Callable[[Curve, Floats], Floats]
) -> Growth:
    """Return the growth between two budgets of what a function computes from a curve and budgets."""
    C = np.array(ends)
    steps = math.log(ends[1] / ends[0])

    def slope(values: Floats) -> Floats:
        with np.errstate(all="ignore"):
            # from end to end, since a width is no exact power of C
            return np.asarray((np.log(values[..., 1]) - np.log(values[..., 0])) / steps)

    value = float(slope(np.asarray(of(fit.law.curve, C))))
    interval = _UNKNOWN
    if draws is not None:
        with np.errstate(all="ignore"):
            low, high = draws.band(slope(np.asarray(of(draws.curve(1), C))), level)
        interval = float(low), float(high)
    return Growth(value, interval, steps / math.log(10))


def _law_width(
    fit: LawFit, draws: Bootstrap | None, ends: Interval, level: float, epsilon: float, relative: bool
) -> Width:
    def growth(quantity: str) -> Growth:
        """Return how one width of the law grows with compute: "ratio", "N" or "D"."""

        def of(curve: Curve, C: Floats) -> Floats:
            near = curve.near_optimal(C, epsilon, relative=relative)
            if quantity == "ratio":
                return np.asarray(np.exp(near.width))
            return np.asarray(getattr(near, f"{quantity}_high") - getattr(near, f"{quantity}_low"))

        return _by_law(fit, draws, ends, level, of)

    return Width(epsilon, relative, "law", growth("ratio"), growth("N"), growth("D"))


def _own_width(isoflops: IsoFlops, decades: float, epsilon: float, relative: bool) -> Width | None:
    laws = isoflops.width_laws(epsilon, relative=relative)
    if laws is None:
        return None
    ratio, N, D = (Growth(law.exponent, law.interval, decades) for law in laws)
    return Width(epsilon, relative, "budgets", ratio, N, D, *isoflops.ends_beyond(epsilon, relative=relative))


def _unreached(isoflops: IsoFlops, epsilon: float, relative: bool) -> str:
    """Return why the growth of the budgets' own widths is not known, or ""."""
    count = len(isoflops.optima)
    short = count - len(isoflops.widths(epsilon, relative=relative))
    if not short:
        return ""
    return (
        f"the curves of {short} of {count} budgets end within {_within(epsilon, relative)}, so how their ranges of N "
        "and D grow is not known by the budgets alone, since those that reach are the narrowest; try --curve skewed"
    )


def _compared(isoflops: IsoFlops, fit: LawFit) -> tuple[tuple[float, ...], int, float, tuple[Flag, ...]]:
    """Compare each budget's kappa with that of the same curve through the law's values at the same models.

    A parabola through few sizes misses the true curvature under the law as in the data, so this bias cancels.
    """
    rows = list(_scores(isoflops, fit))
    # one budget cannot tell a wrong law from its own bad luck
    if len(rows) < 2:
        return (), len(rows), math.nan, ()
    C, z, ratio = (np.array(column) for column in zip(*rows, strict=True))
    outside = np.abs(z) > _OUTSIDE
    excess, count = float(np.median(ratio)) - 1, len(rows)
    # under a right law one budget in twenty lies outside as well
    by_chance = float(binomtest(int(outside.sum()), count, 0.05, alternative="greater").pvalue)
    # the sum sees small misses to one side, none of which shows alone
    together = float(2 * ndtr(-abs(float(z.sum())) / math.sqrt(count)))
    flags: tuple[Flag, ...] = ()
    if by_chance < _LEVEL_COUNT or together < _LEVEL_MEAN:
        side = "above" if excess > 0 else "below"
        sentence = (
            f"the budgets' own curvature lies outside the law's at {int(outside.sum())} of {count} budgets (in the "
            f"median {abs(excess):.0%} {side} it), so neither the law's kappa nor its near-optimal range is established"
        )
        flags = (Flag("curvature_disagrees", sentence, excess, scope="curvature"),)
    return tuple(C[outside].tolist()), count, excess, flags


def _scores(isoflops: IsoFlops, fit: LawFit) -> Iterator[tuple[float, float, float]]:
    """Yield (C, standardised log ratio, ratio) of own kappa and the law's, over the budgets that know theirs."""
    table = isoflops.table
    u = isoflops.axis.orient(fitted_values(fit, table))
    for budget in isoflops.optima:
        error = budget.kappa_log_std
        if not (math.isfinite(error) and error > 0):
            continue
        expected = _expected(budget, np.log(table.N), u, table.weight)
        if expected > 0 and budget.kappa > 0:
            yield budget.C, math.log(budget.kappa / expected) / error, budget.kappa / expected


def _expected(budget: IsoFlop, log_n: Floats, u: Floats, weight: Floats) -> float:
    assert budget.chosen is not None
    rows = budget.rows
    curve = budget.chosen.refit(log_n[rows], u[rows], weight[rows])
    return curve.kappa if curve is not None and math.isfinite(curve.minimum) else math.nan
