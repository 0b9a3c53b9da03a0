"""Goodness of fit: whether a law's residuals are noise, judged by declared noise, by repeats, and by their trends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import chi2
from scipy.stats import f as fisher

__all__ = ["Residuals", "declared_noise", "families", "misfits", "offset_test", "pure_error", "runs_test", "trend_test"]

Floats = npt.NDArray[np.float64]
# of all these tests together: a true law is refused once in a thousand tables
_LEVEL = 1e-3
# declared noise is seldom known better than this
_NOISE_SLACK = 1.3
_CLIP = 2.5  # residuals beyond so many spreads are outliers, not trends
_LEAST_REPEATS = 3
_MOST_GROUPS = 50
_LARGE = 0.5  # share of the residual variance from which on the form misses by more than the noise


@dataclass(frozen=True, eq=False)
class Residuals:
    """Residuals of a fitted law with what is needed to judge them.

    Attributes:
        r: Measured less fitted on the residual scale, `[rows]`.
        jacobian: Derivatives of the fitted values by the parameters, `[rows, P]`.
        columns: Logarithms of N, D, C and D/N, `[rows]` each.
        weight: `[rows]`.
        run: Which rows share a run, `[rows]`: they share its luck, and count once.
    """

    r: Floats
    jacobian: Floats
    columns: dict[str, Floats]
    weight: Floats
    run: npt.NDArray[np.str_]

    @property
    def spread(self) -> float:
        """Robust standard deviation."""
        return 1.4826 * float(np.median(np.abs(self.r)))


def declared_noise(r: Floats, weight: Floats, noise: float, parameters: int) -> tuple[float, int, float]:
    """Return chi-square, its degrees of freedom, and the probability of one as large, for runs of known noise.

    Args:
        r: Measured less fitted in the metric's units, `[rows]`.
        weight: `[rows]`; the variance of a row goes as 1 / weight.
        noise: Standard deviation of one run, above 0.
        parameters: How many were fitted.
    """
    free = len(r) - parameters
    if free < 1:
        return math.nan, free, math.nan
    # weights are relative: the mean row has the declared noise
    statistic = float(np.sum(weight / weight.mean() * (r / noise) ** 2))
    return statistic, free, float(chi2.sf(statistic, free))


def noise_sentence(r: Floats, weight: Floats, noise: float, parameters: int) -> tuple[float, str]:
    """Return chi-square per degree of freedom, and a sentence where it is more than noise allows, else ""."""
    statistic, free, p = declared_noise(r, weight, noise, parameters)
    ratio = statistic / free if free > 0 else math.nan
    if not (p < _LEVEL and ratio > _NOISE_SLACK):
        return ratio, ""
    size = float(np.sqrt(np.mean(r**2)))
    return ratio, (
        f"the law misses the rows by {size:.3g}, against a noise of {noise:.3g} (chi-square {ratio:.3g} per degree of "
        "freedom)"
    )


def misfits(residuals: Residuals) -> Iterator[tuple[str, str, float, bool]]:
    """Yield (name, sentence, probability, whether it forbids trust) of each way in which residuals are more than noise.

    A trend that is certain but smaller than the noise is reported, and forbids nothing.

    Args:
        residuals: Of a law at its optimum.
    """
    # an exact fit leaves only rounding, in which tests find patterns
    if residuals.spread < 1e-9 or len(residuals.r) <= residuals.jacobian.shape[1] + 1:
        return
    p = pure_error(residuals)
    if p < _LEVEL:
        yield "misfit_repeats", f"the law misses runs by more than their repeats differ (F test, p = {p:.1g})", p, True
    residuals = by_run(residuals)
    tests = {name: trend_test(residuals, name) for name in residuals.columns}
    name, (p, share) = min(tests.items(), key=lambda test: test[1][0])
    # Bonferroni, since the strongest of several trends was picked
    if p * len(tests) < _LEVEL:
        sentence = (
            f"the residuals follow ln {name}, {share:.0%} of their variance (F test, p = {p:.1g}): the form is wrong"
        )
        yield "misfit_trend", sentence, p, share > _LARGE
        return
    p = min(runs_test(residuals.r[np.lexsort(order)]) for order in _orders(residuals))
    # Bonferroni again, over three orders of the rows
    if p * 3 < _LEVEL:
        yield (
            "misfit_runs",
            f"residuals of one sign follow each other (runs test, p = {p:.1g}): the form is wrong",
            p,
            False,
        )


def _orders(residuals: Residuals) -> Iterator[tuple[Floats, Floats]]:
    """Yield keys that sort rows by budget and then by size, and the other way round."""
    # rounded, so that values equal but for rounding sort as one
    C, N, D = (np.round(residuals.columns[name], 6) for name in ("C", "N", "D"))
    yield from ((N, C), (C, N), (C, D))


def by_run(residuals: Residuals) -> Residuals:
    """Return the means over the rows of each run, whose noise is not independent."""
    names, label = np.unique(residuals.run, return_inverse=True)
    # means of too few runs leave no degree of freedom to test with
    if len(names) == len(residuals.r) or len(names) <= residuals.jacobian.shape[1] + 1:
        return residuals
    total = np.bincount(label, residuals.weight)

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(label, residuals.weight * values) / total)

    jacobian = np.column_stack([mean(column) for column in residuals.jacobian.T])
    columns = {name: mean(values) for name, values in residuals.columns.items()}
    return Residuals(mean(residuals.r), jacobian, columns, np.ones(len(names)), names)


def trend_test(residuals: Residuals, name: str) -> tuple[float, float]:
    """Return the probability of so strong a cubic trend of residuals in a column by chance, and its share of variance.

    A score test: of what the law's own tangent leaves over, how much does a polynomial in the logarithm explain?
    Outliers are clipped, so that few rows make no trend.

    Args:
        residuals: Of a law at its optimum.
        name: "N", "D", "C" or "D/N".

    Source: Breusch & Pagan, "The Lagrange multiplier test and its applications" (1980) (score tests).
    """
    x = residuals.columns[name] - residuals.columns[name].mean()
    # within [-1, 1] the powers stay of one size
    x = x / (np.abs(x).max() or 1.0)
    return _score_test(residuals, np.column_stack([x, x**2, x**3]))


def offset_test(residuals: Residuals, label: npt.NDArray[np.intp]) -> tuple[float, float]:
    """Return the probability of so large offsets between groups of rows by chance, and their share of variance.

    The score test of `trend_test`, with one constant for each group.

    Args:
        residuals: Of a law at its optimum.
        label: Group of each row, from 0, `[rows]`.
    """
    return _score_test(residuals, np.eye(int(label.max()) + 1)[label])


def _score_test(residuals: Residuals, columns: Floats) -> tuple[float, float]:
    root = np.sqrt(residuals.weight / residuals.weight.mean())
    limit = _CLIP * residuals.spread
    r = np.clip(residuals.r, -limit, limit) * root
    # what the law's parameters could still absorb is no evidence against its form
    own = _basis(residuals.jacobian * root[:, None], np.empty((len(r), 0)))
    further = _basis(columns * root[:, None], own)
    free = len(r) - own.shape[1] - further.shape[1]
    if not further.shape[1] or free < 3:
        return 1.0, 0.0
    # clipped residuals are not orthogonal to the tangent, even at the optimum
    r = r - own @ (own.T @ r)
    explained = float(np.sum((further.T @ r) ** 2))
    rest = float(r @ r) - explained
    if rest <= 1e-12 * float(r @ r):
        return 1.0, 0.0
    p = float(fisher.sf(explained / further.shape[1] / (rest / free), further.shape[1], free))
    return p, explained / (explained + rest)


def families(residuals: Residuals, labels: Mapping[str, npt.NDArray[np.str_]]) -> Iterator[tuple[str, float, bool]]:
    """Yield (sentence, share of the residual variance, whether it forbids trust) of text columns that hold families.

    Either runs of one (N, D) carry different texts, or the residuals of a law differ between the texts by more than
    chance. A column whose groups differ in size, tokens or compute as such is no family: a law explains these.

    Args:
        residuals: Of a law, or of curves, fitted to all rows as one.
        labels: Name -> texts `[rows]`.
    """
    points = np.round(np.column_stack([residuals.columns["N"], residuals.columns["D"]]), 6)
    point = np.unique(points, axis=0, return_inverse=True)[1].ravel()
    for name, texts in labels.items():
        groups, label = np.unique(texts, return_inverse=True)
        # names of single runs are no families, and a thousand of them would cost a decomposition of that size
        if not 1 < len(groups) <= min(_MOST_GROUPS, len(texts) / 3) or any(
            _apart(x, label) for x in residuals.columns.values()
        ):
            continue
        pairs = np.unique(np.column_stack([point, label]), axis=0)
        split = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
        shared = np.isin(point, split)
        tests = [offset_test(residuals, label), *([_paired(residuals.r, point, label, shared)] if len(split) else [])]
        # Bonferroni, since the stronger of two tests in any of the columns was picked
        p, share = min(tests) if residuals.spread > 1e-9 else (1.0, 0.0)
        certain = p < _LEVEL / len(labels) / len(tests)
        if not certain and not len(split):
            continue
        why = f"differ by {share:.0%} of the residual variance (F test, p = {max(p, 1e-99):.1g})"
        if not certain:
            why = f"share {len(split)} pairs of N and D"
        shown = ", ".join(map(str, groups[:4])) + (", ..." if len(groups) > 4 else "")
        yield (
            f"rows of {len(groups)} groups of {name!r} ({shown}) are fitted as one, and {why}; use --group {name}",
            share if certain else 0.0,
            certain and share > _LARGE,
        )


def _paired(
    r: Floats, point: npt.NDArray[np.intp], label: npt.NDArray[np.intp], shared: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Return the probability of so large offsets between groups at the same models, and their share of variance.

    No law enters: only differences between runs of one (N, D) count.
    """
    _, at = np.unique(point[shared], return_inverse=True)
    count = np.bincount(at)[:, None]
    dummies = np.eye(int(label.max()) + 1)[label[shared]]
    columns = np.column_stack([r[shared], dummies])
    sums = np.zeros((len(count), columns.shape[1]))
    np.add.at(sums, at, columns)
    within = columns - (sums / count)[at]
    basis = _basis(within[:, 1:], np.empty((len(within), 0)))
    free = len(within) - len(count) - basis.shape[1]
    total = float(within[:, 0] @ within[:, 0])
    explained = float(np.sum((basis.T @ within[:, 0]) ** 2))
    if free < 3 or not basis.shape[1] or total - explained <= 0:
        return 1.0, 0.0
    ratio = explained / basis.shape[1] / ((total - explained) / free)
    return float(fisher.sf(ratio, basis.shape[1], free)), explained / total


def _apart(x: Floats, label: npt.NDArray[np.intp]) -> bool:
    """Return whether groups hardly overlap in a column: nine tenths of its variance are between them."""
    total = float(np.sum((x - x.mean()) ** 2))
    means = np.bincount(label, x) / np.bincount(label)
    within = float(np.sum((x - means[label]) ** 2))
    return total > 1e-12 and within < 0.1 * total


def _basis(columns: Floats, known: Floats) -> Floats:
    """Return orthonormal columns `[rows, rank]` for what columns span beyond a known orthonormal basis."""
    size = np.linalg.norm(columns, axis=0)
    scaled = columns[:, size > 0] / size[size > 0]
    scaled = scaled - known @ (known.T @ scaled)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(left[:, values > 1e-6])


def pure_error(residuals: Residuals) -> float:
    """Return the probability, by chance, of misses so much larger than the differences between runs of one (N, D).

    Source: Draper & Smith, "Applied Regression Analysis" (1998), section 2.1 (lack of fit against pure error).
    """
    points = np.round(np.column_stack([residuals.columns["N"], residuals.columns["D"]]), 9)
    _, label = np.unique(points, axis=0, return_inverse=True)
    label = label.ravel()
    groups = int(label.max()) + 1
    repeats, parameters = len(label) - groups, residuals.jacobian.shape[1]
    # too few repeats do not know the noise
    if repeats < _LEAST_REPEATS or groups <= parameters:
        return 1.0
    means = np.bincount(label, residuals.weight * residuals.r) / np.bincount(label, residuals.weight)
    within = float(residuals.weight @ (residuals.r - means[label]) ** 2)
    between = float(residuals.weight @ means[label] ** 2)
    if within <= 0:
        return 1.0
    ratio = between / (groups - parameters) / (within / repeats)
    return float(fisher.sf(ratio, groups - parameters, repeats))


def runs_test(residuals: Floats) -> float:
    """Return the probability of so few runs of one sign in ordered residuals, by chance; 1 with under 12 rows.

    Source: Wald & Wolfowitz, "On a test whether two samples are from the same population" (1940).
    """
    signs = np.sign(residuals[residuals != 0])
    above, below = int(np.sum(signs > 0)), int(np.sum(signs < 0))
    n = above + below
    # under so few the normal approximation below does not hold
    if n < 12 or not above or not below:
        return 1.0
    runs = 1 + int(np.sum(signs[1:] != signs[:-1]))
    mean = 1 + 2 * above * below / n
    variance = (mean - 1) * (mean - 2) / (n - 1)
    # continuity correction, since runs are whole numbers
    return float(ndtr((runs + 0.5 - mean) / np.sqrt(variance)))
