"""Downstream metrics: as a law of their own, through the loss, or jointly with it; and which predicts best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.errors import UsageError
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.links import Axis, make_axis
from cdslm_eval.scaling.metric_map import Staged, fit_fused, fit_map
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.table import Excluded, RunTable

__all__ = ["Downstream", "HeldOutScore", "compare_downstream"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
METHODS = ("direct", "two_stage", "fused")


@dataclass(frozen=True, eq=False)
class HeldOutScore:
    """How well one method predicts rows that it did not see.

    Attributes:
        method: "direct", "two_stage" or "fused".
        beyond: Errors on the largest budgets, which were held out, on the metric's residual scale, `[rows held out]`.
        within: Errors of the rows inside the range, each predicted by a fit without its fold, `[rows]`.
        reason: Why there are none, or "".
    """

    method: str
    beyond: Floats
    within: Floats
    reason: str = ""

    @property
    def rmse_beyond(self) -> float:
        """Root mean square error of extrapolation; NaN without errors."""
        return _rmse(self.beyond)

    @property
    def rmse_within(self) -> float:
        """Root mean square error of interpolation; NaN without errors."""
        return _rmse(self.within)


@dataclass(frozen=True, eq=False)
class Downstream:
    """A downstream metric, three ways.

    Attributes:
        metric, loss: Names.
        axis: The metric's axis; errors are on its residual scale.
        table: The rows that were fitted.
        direct: The metric's own law; None where `reasons` says why.
        loss_fit: The law of the loss.
        two_stage, fused: Through the loss.
        scores: Per method, held out.
        held_out: The rows that `HeldOutScore.beyond` is of.
        best: The method with the least error of extrapolation; "" where none could be tried.
        tied: Methods whose extrapolation is not surely worse than the best's (bootstrap over held-out rows, 95 %).
        reasons: Method -> why it is missing.
        excluded: Rows that were not used, and why.
        flags: What a reader must know.
    """

    metric: str
    loss: str
    axis: Axis
    table: RunTable
    direct: LawFit | None
    loss_fit: LawFit
    two_stage: Staged
    fused: Staged
    scores: tuple[HeldOutScore, ...]
    held_out: RunTable
    best: str
    tied: tuple[str, ...]
    reasons: Mapping[str, str]
    excluded: tuple[Excluded, ...]
    flags: tuple[Flag, ...]

    @property
    def headline(self) -> str:
        """The first line."""
        if not self.best:
            return f"{self.metric}: no method could be tried on held-out rows"
        score = next(one for one in self.scores if one.method == self.best)
        also = f"; {', '.join(self.tied)} not surely worse" if self.tied else ""
        return (
            f"{self.metric}: {self.best} predicts the largest budgets best (root mean square error "
            f"{score.rmse_beyond:.3g} on the {self.axis.link.name} scale over {len(score.beyond)} rows{also})"
        )

    def predict(self, method: str, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric by one method; NaN where it could not be fitted."""
        n, d = np.broadcast_arrays(np.asarray(N, float), np.asarray(D, float))
        models: dict[str, Predict | None] = {
            "direct": self.direct.law.predict if self.direct else None,
            "two_stage": self.two_stage.predict,
            "fused": self.fused.predict,
        }
        model = models[method]
        return np.full(n.shape, np.nan) if model is None else model(n, d)


@dataclass(frozen=True, slots=True)
class _Ask:
    metric: str
    loss: str
    form: str
    estimator: str
    delta: float
    link: str
    better: str
    bounds: tuple[float, float] | None
    axis: Axis


def compare_downstream(
    table: RunTable,
    metric: str,
    loss: str = "loss",
    *,
    form: str = "chinchilla",
    estimator: str = "huber",
    delta: float = 1e-3,
    link: str = "identity",
    better: str = "lower",
    bounds: tuple[float, float] | None = None,
    keep_loss: bool = True,
    share: float = 0.2,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Downstream:
    """Fit a downstream metric directly, in two stages and fused, and compare the three on held-out rows.

    Args:
        table: The runs.
        metric: The downstream metric.
        loss: The loss.
        form: Of the laws.
        estimator, delta: Of the loss's law; the metric's residuals go by Huber with a delta of 1.345 spreads.
        link: Of the metric: "identity" (linear in the loss), "log" (exponential), "logit" (logistic; needs bounds).
        better: Of the metric.
        bounds: Of the metric.
        keep_loss: Whether the fused objective keeps the loss residuals; without them it is rank-deficient by two.
        share: Share of rows, of the largest budgets, on which extrapolation is tested where no row is marked "test".
        folds: Folds of the test within the range; 0 leaves it out.
        seed: Of the folds.
        progress: Called with (fits done, fits to do).

    Raises:
        UsageError: Too few rows have both metric and loss.

    Source: Gadre et al., arXiv 2403.08540 (two-stage); Ramapuram et al., arXiv 2604.24416 (fused).
    """
    values = table.metric(metric)
    axis = make_axis(link, values[np.isfinite(values)], better, bounds)
    ask = _Ask(metric, loss, form, estimator, delta, link, better, bounds, axis)
    y = table.metric(loss)
    usable = usable_rows(table, metric, axis)
    usable = usable_rows(usable, loss, make_axis("log", y[np.isfinite(y)]))
    train, test = usable.select(usable.split == "train"), usable.select(usable.split == "test")
    if metric == loss:
        raise UsageError(f"{metric!r} cannot be a downstream metric of itself; name the loss")
    fits, held, done = _splits(train, test, share, folds, seed), len(test), 0
    total = len(fits) + 1
    direct, loss_fit, two_stage, fused, reasons = _models(train, ask, keep_loss=keep_loss)
    beyond: dict[str, list[Floats]] = {name: [] for name in METHODS}
    within: dict[str, list[Floats]] = {name: [] for name in METHODS}
    lost = dict(reasons)
    for kind, known, unseen in fits:
        done += 1
        if progress:
            progress(done, total)
        sink = beyond if kind == "beyond" else within
        try:
            errors = _errors(known, unseen, ask)
        except UsageError as error:
            lost.setdefault(kind, str(error))
            continue
        for name, values_ in errors.items():
            sink[name].append(values_)
    if progress:
        progress(total, total)
    scores = tuple(
        HeldOutScore(name, _joined(beyond[name]), _joined(within[name]), lost.get(name, lost.get("beyond", "")))
        for name in METHODS
    )
    best, tied = _compare(scores, seed)
    held_out = test if held else next((unseen for kind, _, unseen in fits if kind == "beyond"), train.select([]))
    flags = (*loss_fit.flags, *fused.flags)
    return Downstream(
        metric,
        loss,
        axis,
        train,
        direct,
        loss_fit,
        two_stage,
        fused,
        scores,
        held_out,
        best,
        tied,
        reasons,
        usable.excluded,
        flags,
    )


def _models(
    rows: RunTable, ask: _Ask, *, keep_loss: bool
) -> tuple[LawFit | None, LawFit, Staged, Staged, dict[str, str]]:
    """Fit the three."""
    reasons: dict[str, str] = {}
    loss_fit = fit_law(rows, ask.loss, ask.form, ask.estimator, ask.delta)
    values = rows.metric(ask.metric)
    mapped = fit_map(rows.metric(ask.loss), values, rows.weight, ask.axis)
    two_stage = Staged("two_stage", loss_fit.law, mapped, loss_fit.objective, 0, loss_fit.flags)
    fused = fit_fused(loss_fit, values, mapped, keep_loss=keep_loss)
    direct: LawFit | None = None
    try:
        direct = _direct(rows, ask)
    except UsageError as error:
        reasons["direct"] = str(error)
    return direct, loss_fit, two_stage, fused, reasons


def _direct(rows: RunTable, ask: _Ask) -> LawFit:
    first = fit_law(
        rows, ask.metric, ask.form, "least_squares", link=ask.link, better=ask.better, bounds=ask.bounds, seeds=8
    )
    spread = 1.4826 * float(np.median(np.abs(first.residuals)))
    if not spread > 0:
        return first
    return fit_law(rows, ask.metric, ask.form, "huber", 1.345 * spread, ask.link, ask.bounds, ask.better, seeds=8)


def _splits(
    train: RunTable, test: RunTable, share: float, folds: int, seed: int
) -> list[tuple[str, RunTable, RunTable]]:
    """Return (kind, rows to fit, rows to predict)."""
    if not 0 < share < 1:
        raise UsageError(f"the share that is held out must lie between 0 and 1, not at {share}")
    splits = []
    if len(test):
        splits.append(("beyond", train, test))
    else:
        large = np.quantile(train.C, 1 - share) < train.C
        if large.any() and not large.all():
            splits.append(("beyond", train.select(~large), train.select(large)))
    order = np.random.default_rng(seed).permutation(len(train))
    for fold in range(folds):
        some = np.isin(np.arange(len(train)), order[fold::folds])
        if some.any():
            splits.append(("within", train.select(~some), train.select(some)))
    return splits


def _errors(known: RunTable, unseen: RunTable, ask: _Ask) -> dict[str, Floats]:
    """Return each method's errors on unseen rows, on the metric's residual scale."""
    known = replace(known, split=np.full(len(known), "train"))
    direct, _, two_stage, fused, _ = _models(known, ask, keep_loss=True)
    actual = ask.axis.target(unseen.metric(ask.metric))
    models: dict[str, Predict] = {"two_stage": two_stage.predict, "fused": fused.predict}
    if direct is not None:
        models["direct"] = direct.law.predict
    return {name: actual - _inside(ask.axis, model(unseen.N, unseen.D)) for name, model in models.items()}


def _inside(axis: Axis, values: Floats) -> Floats:
    """Return predictions on the residual scale; one that leaves the bounds is taken to the nearest point inside."""
    u = axis.orient(values)
    if axis.link.positive_floor:
        least = 1e-6 * (axis.link.scale if axis.link.name == "logit" else float(np.median(np.abs(u))))
        u = np.maximum(u, least)
        if axis.link.name == "logit":
            u = np.minimum(u, axis.link.scale - least)
    return axis.link.forward(u)[0]


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else np.nan


def _compare(scores: tuple[HeldOutScore, ...], seed: int) -> tuple[str, tuple[str, ...]]:
    """Return the best method, and those that are not surely worse."""
    tried = [one for one in scores if len(one.beyond)]
    if not tried:
        return "", ()
    best = min(tried, key=lambda one: one.rmse_beyond)
    draws = np.random.default_rng(seed).integers(0, len(best.beyond), (2000, len(best.beyond)))
    tied = []
    for one in tried:
        worse = (one.beyond**2 - best.beyond**2)[draws].mean(axis=1)
        if one is not best and np.quantile(worse, 0.05) <= 0:
            tied.append(one.method)
    return best.method, tuple(tied)
