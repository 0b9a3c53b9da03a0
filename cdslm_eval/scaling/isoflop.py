"""isoFLOPs: each budget by a curve of its own in ln N; optima, curvature, and how they grow with C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.adequacy import Residuals, families
from cdslm_eval.scaling.axis import Axis, make_axis
from cdslm_eval.scaling.fit import fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.isobudget import BudgetOptions, IsoFlop, fit_budget
from cdslm_eval.scaling.isocurve import IsoCurve, PowerLaw, fit_power_law
from cdslm_eval.scaling.isoshapes import BudgetCurves, check_curve, fit_curves, pooled_noise
from cdslm_eval.scaling.isoskew import BudgetRows, fit_skewed
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.rows import find_budgets, usable_rows
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["IsoFlop", "IsoFlops", "fit_isoflops"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
_UNKNOWN = (np.nan, np.nan)
_LEAST_ROWS = 4


@dataclass(frozen=True, eq=False)
class IsoFlops:
    """All budgets of a table.

    Attributes:
        metric: The metric.
        axis: How it is oriented.
        table: The rows that were fitted; `IsoFlop.rows` counts in it.
        budgets: In the order of C.
        N_law, D_law, ratio_law, kappa_law: How the optima, and the curvature there, go with C, from the budgets that
            have one, weighted by their precision; None where fewer than two have.
        excluded: Rows that were not used, and why.
        flags: What a reader must know.
    """

    metric: str
    axis: Axis
    table: RunTable
    budgets: tuple[IsoFlop, ...]
    N_law: PowerLaw | None
    D_law: PowerLaw | None
    ratio_law: PowerLaw | None
    kappa_law: PowerLaw | None
    excluded: tuple[Excluded, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def optima(self) -> tuple[IsoFlop, ...]:
        """The budgets that have an optimum."""
        return tuple(budget for budget in self.budgets if budget.has_optimum)

    @property
    def designed(self) -> bool:
        """Whether the rows are isoFLOPs: declared, or most of them at one C with models of other sizes."""
        sizes = [len(np.unique(self.table.N[b.rows])) for b in self.budgets]
        # few sizes of nearly one C are a design, few of any C a coincidence
        shared = [n > 3 or (n > 1 and b.C_spread < 0.05) for n, b in zip(sizes, self.budgets, strict=True)]
        rows = sum(len(b.rows) for b, alike in zip(self.budgets, shared, strict=True) if alike)
        return bool(np.all(self.table.isoflop != "")) or 2 * rows >= len(self.table)

    def width_laws(self, epsilon: float, *, relative: bool = False) -> tuple[PowerLaw, PowerLaw, PowerLaw] | None:
        """Return how the range within epsilon of the optimum grows with C: N_high / N_low, and the widths of N and D.

        Args:
            epsilon: In the metric's units, or with `relative` as a share of the optimum's value.
            relative: Which of the two.

        Returns:
            None where fewer than two budgets have an optimum, or one's own curve does not reach that far: those that
            reach are the narrowest, and would grow too little.
        """
        rows = self.widths(epsilon, relative=relative)
        if len(rows) < len(self.optima) or len(np.unique(rows[:, 0])) < 2:
            return None
        C, *widths = rows.T
        ratio, n, d = (fit_power_law(C, width) for width in widths)
        return ratio, n, d

    def widths(self, epsilon: float, *, relative: bool = False) -> Floats:
        """Return C, N_high / N_low, dN and dD of each budget whose own curve reaches that far, `[budgets, 4]`.

        Args:
            epsilon: In the metric's units, or with `relative` as a share of the optimum's value.
            relative: Which of the two.
        """
        rows = []
        for budget in self.optima:
            assert budget.chosen is not None
            low, high = budget.chosen.width(epsilon * abs(budget.loss) if relative else epsilon)
            if np.isfinite(low) and np.isfinite(high):
                # at one budget the largest model sees the fewest tokens
                sizes, tokens = np.exp([low, high]), self.table.cost.tokens(budget.C, np.exp([high, low]))
                rows.append((budget.C, np.exp(high - low), np.ptp(sizes), np.ptp(tokens)))
        return np.array(rows, float).reshape(-1, 4)

    def ends_beyond(self, epsilon: float, *, relative: bool = False) -> tuple[int, int]:
        """Return how many ends of the budgets' ranges lie beyond their sampled sizes, and how many ends there are."""
        beyond = count = 0
        for budget in self.optima:
            assert budget.chosen is not None
            ends = budget.chosen.width(epsilon * abs(budget.loss) if relative else epsilon)
            if np.isfinite(ends).all():
                beyond += (ends[0] < budget.chosen.low) + (ends[1] > budget.chosen.high)
                count += 2
        return beyond, count

    @property
    def headline(self) -> str:
        """The first line."""
        pooled = "".join(f"POOLED: {flag.sentence}. " for flag in self.flags if flag.name == "families" and flag.doubt)
        count = f"{len(self.optima)} of {len(self.budgets)} budgets"
        optima = f"{pooled}{count} have an optimum of {self.metric} within their sizes"
        if self.N_law is None or self.ratio_law is None:
            return f"{optima}: too few for a law of N*"
        low, high = self.N_law.interval
        if np.isnan(low):
            return f"{optima}: N* grows as C^{self.N_law.exponent:.4f}, and too few budgets leave no interval"
        text = f"{optima}: N* grows as C^{self.N_law.exponent:.4f} [{low:.4f}, {high:.4f}]"
        low, high = self.ratio_law.interval
        sign = "its sign is not established by these data" if not low * high > 0 else ("rises" if low > 0 else "falls")
        return f"{text}; r* = D*/N* as C^{self.ratio_law.exponent:.4f} [{low:.4f}, {high:.4f}] ({sign})"


def fit_isoflops(
    table: RunTable,
    metric: str,
    *,
    degree: int | None = None,
    curve: str | None = None,
    window: float | None = None,
    tolerance: float = 0.15,
    bounds: tuple[float, float] | None = None,
    better: str = "lower",
    link: str = "",
    replicates: int = 2000,
    seed: int = 0,
) -> IsoFlops:
    """Fit each budget of the train rows by itself.

    Args:
        table: The runs.
        metric: Name of the metric.
        degree: 2 (parabola) or 3 (cubic) in ln N; None takes the cubic where its corrected Akaike criterion is less.
        curve: "skewed" (the law's shape, two exponents from all budgets' curves, level, depth and place from each),
            "polynomial", "akima" (interpolation of the sizes' means), or "law" (the shape, its exponents from a fitted
            chinchilla law). None is skewed, or with a degree polynomial.
        window: Use only rows within this share of their budget's least metric, such as 0.05; None uses all.
        tolerance: Width of a budget in ln C, where the table declares none.
        bounds: (low, high) that the metric cannot leave.
        better: "lower" or "higher".
        link: The scale on which all budgets have the same noise: "log", "identity" or "logit"; "" as for a law.
        replicates: Draws of the curves' coefficients, from which the intervals come.
        seed: Of the draws.

    Raises:
        UsageError: No row can be used, or there is no such degree, curve or window.

    Source: Hoffmann et al., arXiv 2203.15556, approach 2; Porian et al., arXiv 2406.19146 (Akima).
    """
    curve = check_curve(curve, degree, window)
    spec = LawSpec(better=better, bounds=bounds, link=link)
    axis, rows = _train_rows(table, metric, spec)
    # the law's shape is that of all rows, whatever part of them each budget uses
    exponents = _exponents(rows, metric, replace(spec, link="")) if curve == "law" else None
    rows = rows if window is None else _within(rows, axis.orient(rows.metric(metric)), window, tolerance)
    groups = find_budgets(rows, tolerance)
    members = [groups.rows(i) for i in range(len(groups.C))]
    parts = _parts(rows, metric, axis, members, spec)
    curves = _curves(parts, exponents or curve, degree)
    # a budget with as many sizes as coefficients has no residuals of its own
    variance, free = pooled_noise(curves, [part.scale for part in parts])
    check = rows.compute_check()
    options = BudgetOptions(replicates, seed, axis, bool(check.derived) or check.spread < 0.01)
    budgets = tuple(
        fit_budget(rows, own, float(C), pair, (variance * part.scale**2, free), options)
        for own, C, pair, part in zip(members, groups.C, curves, parts, strict=True)
    )
    flags = _flags(budgets, rows, axis.orient(rows.metric(metric)))
    return IsoFlops(metric, axis, rows, budgets, **_laws(budgets, seed), excluded=rows.excluded, flags=flags)


def _train_rows(table: RunTable, metric: str, spec: LawSpec) -> tuple[Axis, RunTable]:
    """Return the axis of a metric, in its own units, and the train rows that have it."""
    values = table.metric(metric)
    # the metric itself, since kappa and widths are in its units
    axis = make_axis("identity", values[np.isfinite(values)], spec.better, spec.bounds)
    rows = usable_rows(table, metric, axis)
    rows = rows.select(rows.split == "train")
    if not len(rows):
        raise UsageError(f"{table.source}: no train row has a value of {metric!r}")
    return axis, rows


def _parts(
    rows: RunTable, metric: str, axis: Axis, members: Sequence[npt.NDArray[np.intp]], spec: LawSpec
) -> list[BudgetRows]:
    """Return the rows of each budget as its curve reads them."""
    log_n, u = np.log(rows.N), axis.orient(rows.metric(metric))
    scales = _noise_scales(rows.metric(metric), members, spec)
    return [BudgetRows(log_n[own], u[own], rows.weight[own], scale) for own, scale in zip(members, scales, strict=True)]


def _curves(parts: Sequence[BudgetRows], kind: str | tuple[float, float], degree: int | None) -> list[BudgetCurves]:
    """Return the curves of each budget; a skewed one is fitted to all of them together."""
    kinds: Sequence[str | tuple[float, float] | IsoCurve | None] = [kind] * len(parts)
    if kind == "skewed":
        kinds = fit_skewed(parts)
    return [fit_curves(part.log_n, part.u, part.weight, degree, kind) for part, kind in zip(parts, kinds, strict=True)]


def _exponents(rows: RunTable, metric: str, spec: LawSpec) -> tuple[float, float]:
    """Return the law's exponents of N and of the tokens along a budget."""
    law = fit_law(rows, metric, spec).law
    return law.parameters["alpha"], law.parameters["beta"] * law.cost.p / law.cost.q


def _noise_scales(values: Floats, members: Sequence[npt.NDArray[np.intp]], spec: LawSpec) -> list[float]:
    """Return the size of the noise of each budget's rows, relative to each other, if it is equal on the law's scale."""
    axis = make_axis(spec.linked(), values, spec.better, spec.bounds)
    medians = np.array([np.median(values[own]) for own in members])
    # relative errors are for positive values, logits for those within bounds
    if not axis.link.admits(axis.orient(medians)).all():
        return [1.0] * len(members)
    return [float(scale) for scale in 1 / axis.link.forward(axis.orient(medians))[1]]


def _within(rows: RunTable, u: Floats, window: float, tolerance: float) -> RunTable:
    """Return the rows near the best of their budget; the others are listed in `excluded`."""
    label = find_budgets(rows, tolerance).label
    least = np.array([u[label == group].min() for group in range(int(label.max()) + 1)])[label]
    near = u <= least + window * np.abs(least)
    return rows.select(near, f"over {window:g} above the least of its budget")


def _laws(budgets: tuple[IsoFlop, ...], seed: int) -> dict[str, PowerLaw | None]:
    good = [b for b in budgets if b.has_optimum and np.isfinite(b.log_std) and b.log_std > 0]
    # curves through exact values have no spread to weigh by
    if len({b.C for b in good}) < 2:
        good = [b for b in budgets if b.has_optimum]
    if len({b.C for b in good}) < 2:
        return dict.fromkeys(("N_law", "D_law", "ratio_law", "kappa_law"))
    C = [b.C for b in good]
    # no optimum is more precise than its neighbours allow: one lucky budget must not decide the law
    std = np.array([b.log_std if np.isfinite(b.log_std) and b.log_std > 0 else 1.0 for b in good])
    std = np.maximum(std, 0.2 * np.median(std))
    laws: dict[str, PowerLaw | None] = {
        f"{name}_law": fit_power_law(C, [getattr(b, name) for b in good], std, seed=seed)
        for name in ("N", "D", "ratio")
    }
    return {**laws, "kappa_law": _kappa_law(budgets, seed)}


def _kappa_law(budgets: tuple[IsoFlop, ...], seed: int) -> PowerLaw | None:
    good = [b for b in budgets if b.has_optimum and np.isfinite(b.kappa_log_std) and b.kappa > 0]
    if len({b.C for b in good}) < 2:
        return None
    std = np.array([b.kappa_log_std for b in good])
    return fit_power_law([b.C for b in good], [b.kappa for b in good], np.maximum(std, 0.2 * np.median(std)), seed=seed)


def _residuals(budgets: tuple[IsoFlop, ...], table: RunTable, u: Floats) -> Residuals:
    """Return what the budgets' curves leave over, on the rows of those that have one."""
    curved = [budget for budget in budgets if budget.chosen is not None]
    r, blocks = np.zeros(len(table)), []
    for budget in curved:
        assert budget.chosen is not None
        own = budget.rows
        r[own] = u[own] - budget.chosen.value(table.N[own])
        # offsets within a budget are judged free of any curve through its sizes
        degree = 3 if budget.cubic is not None else 2
        block = np.zeros((len(table), degree + 1))
        block[own] = polynomial.polyvander(np.log(table.N[own]) - budget.chosen.centre, degree)
        blocks.append(block)
    columns = {name: np.log(getattr(table, name)) for name in ("C", "N", "D")}
    jacobian = np.hstack(blocks) if blocks else np.empty((len(table), 0))
    return Residuals(r, jacobian, columns, table.weight, table.run)


def _flags(budgets: tuple[IsoFlop, ...], table: RunTable, u: Floats) -> tuple[Flag, ...]:
    flags = []
    without = [b for b in budgets if not b.has_optimum]
    if without:
        first = without[0]
        sentence = f"{len(without)} of {len(budgets)} budgets have no optimum (C = {first.C:.3g}: {first.reason}, ...)"
        flags.append(Flag("no_optimum", sentence, float(len(without)), doubt=len(without) > len(budgets) / 2))
    wide = max((b.C_spread for b in budgets), default=0.0)
    if wide > 0.02:
        sentence = f"rows of one budget differ by up to {np.expm1(wide):.0%} in C, which blurs its curve"
        flags.append(Flag("budget_spread", sentence, wide, doubt=False))
    if table.notes:
        flags += [Flag("mixed_conventions", note, 1.0) for note in table.notes]
    flags += [Flag("families", *family) for family in families(_residuals(budgets, table, u), table.labels)]
    if len(budgets) == 1:
        flags.append(Flag("one_budget", "all rows have one budget, so growth with C is not seen in the data", 1.0))
    return tuple(flags)
