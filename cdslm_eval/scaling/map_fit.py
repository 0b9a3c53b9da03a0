"""Fit a metric as a function of the loss, and choose the kind of map by held-out error and AICc."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.adequacy import runs_test
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.dependence import Dependence, dependence
from cdslm_eval.scaling.fit import HUBER_SPREADS
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.map_kind import MapKind
from cdslm_eval.scaling.maps import MAPS
from cdslm_eval.scaling.objective import Estimator, Problem, make_estimator
from cdslm_eval.scaling.solver import Solution, minimise

__all__ = ["MapScore", "MetricMap", "Repeatable", "fit_map", "residual_spread"]

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
_LEAST_SPREAD = 1e-9
_FEWEST_SPLINE = 20  # rows
# of the range of losses, the best ones, on which maps are compared: one share alone decides by the luck of one stretch
_SHARES = (0.1, 0.2, 0.3)
_CLOSE = 1.1  # held-out errors within this factor count as equal, and AICc decides
_NO_SUPPORT = 10.0  # AICc above the best at which a model has none (Burnham & Anderson 2002, section 2.6)


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A finished search that can be repeated under other weights.

    Attributes:
        problem, estimator, target: What was minimised; units of spread stay those of the data.
        theta: The optimum, `[P]`.
        anchors: Weights of the targets that are no rows, and last.
        share: How much each row counts besides its weight, `[rows]`.
    """

    problem: Problem
    estimator: Estimator
    target: Floats
    theta: Floats
    anchors: Floats
    share: Floats

    def repeat(self, weights: Floats) -> Solution:
        """Search again from the optimum.

        Args:
            weights: Of the rows, `[S, rows]`.
        """
        weights = np.concatenate([weights * self.share, np.repeat(self.anchors[None], len(weights), axis=0)], axis=1)
        start = np.repeat(self.theta[None], len(weights), axis=0)
        return minimise(self.problem, self.estimator, self.target, weights, start)


@dataclass(frozen=True, slots=True)
class MapScore:
    """How well one kind of map fits.

    Attributes:
        name: The kind.
        parameters: How many it has.
        aicc: Corrected Akaike criterion; infinite where there are too few rows for it.
        held_out: Root mean square error on the rows of the best losses, from the others, on the residual scale: the
            geometric mean over the best .1, .2 and .3 of the range of losses that all kinds can be fitted without.
    """

    name: str
    parameters: int
    aicc: float
    held_out: float


@dataclass(frozen=True, slots=True)
class MetricMap:
    """The metric as a function of the loss.

    Attributes:
        kind: Which function, scaled to its data.
        theta: Its parameters in the coordinates of the search, `[P]`.
        spread: Robust standard deviation of the residuals on the residual scale.
        scores: Of every kind that was tried; of the only one where one was named.
        flags: What a reader must know.
        search: The search behind it where it was fitted alone.
        share: How much each of its rows counts besides its weight, `[rows]`, with mean 1.
        effective: How many independent rows they are worth: rows of one run repeat each other.
    """

    kind: MapKind
    theta: Floats
    spread: float
    scores: tuple[MapScore, ...] = ()
    flags: tuple[Flag, ...] = ()
    search: Repeatable | None = field(default=None, repr=False)
    share: Floats = field(default_factory=lambda: np.ones(1), repr=False)
    effective: float = math.nan

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.kind.name

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters in the units of metric and loss."""
        return {name: float(value[0]) for name, value in self.kind.natural(self.theta[None]).items()}

    def value(self, loss: npt.ArrayLike) -> Floats:
        """Return the metric at a loss."""
        losses = np.asarray(loss, float)
        z = self.kind.slopes(self.theta[None], losses.ravel()).z[0]
        return self.kind.axis.value(z).reshape(losses.shape)


def fit_map(
    loss: Floats,
    values: Floats,
    weight: Floats,
    axis: Axis,
    names: Sequence[str] = (),
    run: Labels | None = None,
    *,
    inferred: bool = False,
) -> MetricMap:
    """Fit the metric as a function of the measured loss, by Huber with a delta of 1.345 residual spreads.

    Every kind is fitted to all rows, and to those outside the best .1, .2 and .3 of the range of losses, which it then
    predicts; kinds are compared on the stretches that leave rows enough for all. Of those whose error there is within a
    tenth of the least, the one of least AICc is taken; a spline, which goes on as a straight line, only where its AICc
    is 10 below that of every other kind. Where runs differ by more than chance, rows of one run count by what they add
    to each other (see `cdslm_eval.scaling.dependence`), in fits, errors and criteria.

    Args:
        loss: `[rows]`.
        values: The metric, `[rows]`, within its link's domain.
        weight: `[rows]`.
        axis: The metric's axis.
        names: Kinds to choose from; none takes all that the rows allow.
        run: Number of the run of each row, `[rows]`; None takes every row as a run of its own.
        inferred: Whether the runs are inferred rather than named.

    Raises:
        UnknownNameError: No such kind.
        UsageError: There are too few rows for any.
    """
    for name in names:
        if name not in MAPS:
            raise UnknownNameError("map from loss to metric", name, MAPS)
        if MAPS[name].needs_bounds and axis.bounds is None:
            raise UsageError(f"the map {name} needs the bounds of the metric, such as --bounds 0,1")
    u = axis.orient(values)
    shared = _dependence(loss, u, weight, axis, np.arange(len(loss)) if run is None else run)
    data = _Data(loss, u, weight * shared.share, axis, shared, inferred)
    tried = [fit for name in _kinds(axis, names) if (fit := _tried(name, data)) is not None]
    if not tried:
        raise UsageError(f"{len(loss)} rows with both loss and metric are too few for a map between them")
    scores = _compared([score for _, score, _ in tried], [errors for *_, errors in tried])
    mapped = tried[_chosen(scores)][0]
    flags = tuple(_flags(mapped, data))
    search = None if mapped.search is None else replace(mapped.search, share=shared.share)
    return replace(mapped, scores=scores, flags=flags, search=search, share=shared.share, effective=shared.effective)


@dataclass(frozen=True, slots=True)
class _Data:
    """Rows of a map: losses, the oriented metric, weights, each `[rows]`; the axis; runs and how their rows repeat."""

    loss: Floats
    u: Floats
    weight: Floats
    axis: Axis
    shared: Dependence
    inferred: bool = False


def _dependence(loss: Floats, u: Floats, weight: Floats, axis: Axis, run: Labels) -> Dependence:
    """Return how much rows of one run repeat each other around a spline, which has no form to be wrong."""
    if len(np.unique(run)) == len(run) or len(loss) < _FEWEST_SPLINE:
        return dependence(np.zeros(len(loss)), np.arange(len(loss)))
    spline = MAPS["spline"](loss, u, axis)
    x = ((loss - spline.centre) / spline.width)[None]
    return dependence(u - spline.curve(spline.starts(loss, u, weight), x)[0][0], run)


def _kinds(axis: Axis, names: Sequence[str]) -> Iterator[str]:
    for name in names or MAPS:
        if name == "straight" and axis.link.name == "identity":
            continue  # the line itself
        if (MAPS[name].needs_bounds and axis.bounds is None) or (MAPS[name].only_named and not names):
            continue
        yield name


def _chosen(scores: Sequence[MapScore]) -> int:
    places = [k for k, score in enumerate(scores) if not MAPS[score.name].straight_beyond]
    # what follows any data and goes on as a line is for data that leave the other kinds no support
    best = min((scores[k].aicc for k in places), default=math.inf)
    places += [k for k, score in enumerate(scores) if k not in places and best - score.aicc > _NO_SUPPORT]
    places = places or list(range(len(scores)))
    known = [scores[k].held_out for k in places if math.isfinite(scores[k].held_out)]
    least = max(min(known, default=math.inf), _LEAST_SPREAD)  # exact data leave errors of rounding only
    places = [k for k in places if scores[k].held_out <= _CLOSE * least or not known]
    return min(places, key=lambda k: (scores[k].aicc, scores[k].parameters))


def _compared(scores: Sequence[MapScore], errors: Sequence[Floats]) -> tuple[MapScore, ...]:
    """Return the scores with their held-out error over the stretches that leave rows enough for every kind.

    An error over other stretches is another quantity. A kind that has rows enough on none of them, or too few for its
    AICc, shortens no other's comparison; where an error is missing it is infinite.
    """
    every = np.array(errors)
    some: Bools = np.asarray(~np.isnan(every).all(axis=1))
    able: Bools = np.asarray(some & np.isfinite([score.aicc for score in scores]))
    able = able if able.any() else some
    common = ~np.isnan(every[able]).any(axis=0)
    if not (able.any() and common.any()):
        return tuple(scores)
    means = np.exp(np.log(np.maximum(every[:, common], _LEAST_SPREAD)).mean(axis=1))
    held_out = np.where(np.isnan(means), np.inf, means)
    return tuple(replace(score, held_out=float(error)) for score, error in zip(scores, held_out, strict=True))


def _tried(name: str, data: _Data) -> tuple[MetricMap, MapScore, Floats] | None:
    """Return one kind fitted to all rows, its scores, and its errors on each stretch, `[shares]`.

    None where the rows are too few, or where it does not fit them.
    """
    kind = MAPS[name](data.loss, data.u, data.axis)
    # two losses to spare, except for a line: a curve through every point always seems best
    spare = 0 if kind.size <= 2 else 2
    if len(np.unique(data.loss)) < kind.size + spare or (name == "spline" and len(data.loss) < _FEWEST_SPLINE):
        return None
    mapped = _fitted(kind, data.loss, data.u, data.weight)
    if mapped is None:
        return None
    # a stretch without rows enough to fit is no evidence; one on which a kind fails rules it out
    errors = np.array([_held_out(name, data, share) for share in _SHARES])
    return mapped, MapScore(name, kind.size, _aicc(mapped, data), math.inf), errors


def _fitted(kind: MapKind, loss: Floats, u: Floats, weight: Floats) -> MetricMap | None:
    problem, start = kind.problem(loss), kind.starts(loss, u, weight)
    anchors = kind.anchor_weights(float(weight.mean()))
    target = np.concatenate([kind.axis.link.forward(u)[0], np.zeros(len(anchors))])
    weight = np.concatenate([weight, anchors])
    first = _least(minimise(problem, make_estimator("least_squares"), target, weight, start))
    if first is None:
        return None
    # Huber's delta needs the size of the noise, which least squares gives first
    spread = residual_spread(target - problem.predict(first[None])[0], kind.size)
    estimator = make_estimator("huber", HUBER_SPREADS * spread)
    theta = _least(minimise(problem, estimator, target, weight, first[None]))
    if theta is None:
        return None
    spread = residual_spread(target - problem.predict(theta[None])[0], kind.size)
    search = Repeatable(problem, estimator, target, theta, anchors, np.ones(len(u)))
    return MetricMap(kind, theta, spread, search=search)


def _least(solution: Solution) -> Floats | None:
    best = int(np.argmin(np.where(np.isfinite(solution.objective), solution.objective, np.inf)))
    return np.asarray(solution.theta[best]) if np.isfinite(solution.objective[best]) else None


def _residuals(mapped: MetricMap, loss: Floats, u: Floats) -> Floats:
    return np.asarray(mapped.kind.axis.link.forward(u)[0] - mapped.kind.slopes(mapped.theta[None], loss).z[0])


def _aicc(mapped: MetricMap, data: _Data) -> float:
    # the residual variance is a parameter as well
    n, k = data.shared.effective, mapped.kind.size + 1
    if n - k - 1 <= 0:
        return math.inf
    # in mean squares for every kind, since each was fitted with a delta of its own
    squares = float(np.average(_residuals(mapped, data.loss, data.u) ** 2, weights=data.weight))
    return n * math.log(max(squares, _LEAST_SPREAD**2)) + 2 * k * n / (n - k - 1)


def _held_out(name: str, data: _Data, share: float) -> float:
    """Return the error on the rows of the best losses, from the others.

    Infinite where the kind does not extrapolate at all, NaN where the rest are too few to fit it.
    """
    loss, u, weight = data.loss, data.u, data.weight
    sign = MAPS[name](loss, u, data.axis).sign
    far = sign * loss <= np.min(sign * loss) + share * np.ptp(loss)
    kind = MAPS[name](loss[~far], u[~far], data.axis) if (~far).sum() > 2 else None
    if kind is None or (~far).sum() < kind.size + 1:
        return math.nan
    # a kind that turns the other way without the best rows is no evidence about its extrapolation
    mapped = _fitted(kind, loss[~far], u[~far], weight[~far]) if kind.sign == sign else None
    if mapped is None:
        return math.inf
    errors = _residuals(mapped, loss[far], u[far])
    return float(np.sqrt(np.average(errors**2, weights=weight[far]))) if np.isfinite(errors).all() else math.inf


def _flags(mapped: MetricMap, data: _Data) -> Iterator[Flag]:
    """Flag residuals that keep one sign over stretches of the loss (runs test, 0.001), and rows that repeat."""
    order = np.argsort(data.loss, kind="stable")
    residual = _residuals(mapped, data.loss, data.u)[order]
    shared = data.shared
    if shared.correlation > 0:
        # one residual a run: those of a run keep their sign whatever the form of the map
        rows = np.bincount(shared.run)
        of_runs = np.bincount(shared.run[order], residual) / rows
        residual = of_runs[np.argsort(np.bincount(shared.run, data.loss) / rows, kind="stable")]
        what = f"{shared.runs} runs (inferred from N and texts, which several may share)"
        sentence = (
            f"the map's {len(data.loss)} rows are of {what if data.inferred else f'{shared.runs} runs'}, within which "
            f"residuals repeat (correlation {shared.correlation:.2f}, F test, p = {shared.p:.1g}): they count as "
            f"{shared.effective:.0f}, and intervals by row are too narrow; "
            f"{'name the runs in a column run, and ' if data.inferred else ''}resample with --by run"
        )
        yield Flag("dependent_rows", sentence, shared.correlation, doubt=False)
    p = runs_test(residual)
    if p < 0.001:
        sentence = f"the {mapped.name} map misses the metric in stretches of the loss (runs test, p = {p:.1g})"
        yield Flag("map_misfit", sentence, p, doubt=False)


def residual_spread(residual: Floats, lost: int) -> float:
    """Return the robust standard deviation of residuals after `lost` fitted parameters, at least 1e-9."""
    free = max(1, len(residual) - lost)
    return max(1.4826 * float(np.median(np.abs(residual))) * math.sqrt(len(residual) / free), _LEAST_SPREAD)
