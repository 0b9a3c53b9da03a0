"""Three methods for a downstream metric (direct, two-stage, fused), and how well each predicts held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.dependence import find_runs
from cdslm_eval.scaling.fit import LawFit, fit_law, robust_fit
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.map_fit import fit_map
from cdslm_eval.scaling.staged import Staged, StageRows, fit_fused
from cdslm_eval.scaling.table import RunTable

__all__ = ["METHODS", "Fits", "HeldOutScore", "Question", "Trial", "best_of", "fit_methods", "score", "splits"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Predict = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
Trial = tuple[str, RunTable, RunTable]
METHODS = ("direct", "two_stage", "fused")


@dataclass(frozen=True, slots=True)
class Question:
    """What is fitted to which rows; see `compare_downstream`.

    Attributes:
        metric, loss: Columns.
        spec, loss_spec: The laws of the metric and of the loss.
        axis: The metric's axis.
        maps: Kinds of map to choose from; none takes all.
        loss_lines, metric_lines: Lines of the rows that each stage may use; None allows all.
    """

    metric: str
    loss: str
    spec: LawSpec
    loss_spec: LawSpec
    axis: Axis
    maps: tuple[str, ...] = ()
    loss_lines: frozenset[int] | None = None
    metric_lines: frozenset[int] | None = None

    def stages(self, rows: RunTable) -> StageRows:
        """Return which rows each stage is fitted to: all with a loss, all with a loss and a metric, unless named."""
        has_loss = np.isfinite(rows.metric(self.loss))
        both = has_loss & np.isfinite(rows.metric(self.metric))
        return StageRows(
            rows,
            np.flatnonzero(has_loss & _among(rows, self.loss_lines)),
            np.flatnonzero(both & _among(rows, self.metric_lines)),
        )

    def runs(self, rows: RunTable, stages: StageRows) -> Places:
        """Return which rows are runs with loss and metric: those of the loss's law, whatever rows the map uses."""
        return stages.loss[np.isfinite(rows.metric(self.metric)[stages.loss])]


@dataclass(frozen=True, eq=False)
class Fits:
    """The three, fitted to one set of rows.

    Attributes:
        direct: The metric's own law; None with the reason in `reasons`.
        loss_fit: The law of the loss.
        two_stage, fused: Through the loss.
        reasons: Method -> why it is missing.
    """

    direct: LawFit | None
    loss_fit: LawFit
    two_stage: Staged
    fused: Staged
    reasons: Mapping[str, str] = field(default_factory=dict)


def _among(rows: RunTable, lines: frozenset[int] | None) -> npt.NDArray[np.bool_]:
    return np.ones(len(rows), bool) if lines is None else np.isin(rows.line, list(lines))


def fit_methods(rows: RunTable, question: Question, *, keep_loss: bool) -> Fits:
    """Fit the three.

    Args:
        rows: Rows of either stage.
        question: What to fit.
        keep_loss: Whether the fused objective keeps the loss residuals.

    Raises:
        UsageError: The rows are too few for the law of the loss or for a map.
    """
    stages = question.stages(rows)
    rows = rows.select(np.union1d(stages.loss, stages.metric))
    # the selection has renumbered the rows
    stages = question.stages(rows)
    loss_fit = fit_law(rows.select(stages.loss), question.loss, question.loss_spec)
    known = rows.select(stages.metric)
    loss, values = known.metric(question.loss), known.metric(question.metric)
    runs = find_runs(known)
    mapped = fit_map(loss, values, known.weight, question.axis, question.maps, runs.label, inferred=runs.inferred)
    flags = (*loss_fit.flags, *mapped.flags, *runs.flags)
    two_stage = Staged("two_stage", loss_fit.law, mapped, loss_fit.objective, 0, loss_fit, stages, flags)
    fused = fit_fused(loss_fit, stages, question.metric, mapped, keep_loss=keep_loss)
    # rows that only the map may use, such as checkpoints, are no runs of the metric's own law
    own = rows.select(question.runs(rows, stages))
    try:
        return Fits(robust_fit(own, question.metric, question.spec), loss_fit, two_stage, fused)
    except UsageError as error:
        return Fits(None, loss_fit, two_stage, fused, {"direct": str(error)})


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


def splits(train: RunTable, test: RunTable, question: Question, share: float, folds: int, seed: int) -> list[Trial]:
    """Return ("beyond" or "within", rows to fit, rows to predict) of each trial; see `compare_downstream`."""
    if not 0 < share < 1:
        raise UsageError(f"the share that is held out must lie between 0 and 1, not at {share}")
    trials = []
    stages = question.stages(train)
    own = question.runs(train, stages)
    # loss and metric may come from different rows
    own = own if len(own) else stages.metric
    if len(test):
        trials.append(("beyond", train, test))
    elif len(own):
        # strictly above the quantile, so that rows of one C are never divided
        large = np.quantile(train.C[own], 1 - share) < train.C
        if large[own].any() and not large[own].all():
            trials.append(("beyond", train.select(~large), train.select(own[large[own]])))
    # shuffled, since steps through a sorted table may pick one size from every budget
    order = np.random.default_rng(seed).permutation(len(own))
    for fold in range(folds):
        unseen = np.isin(np.arange(len(train)), own[order[fold::folds]])
        if unseen.any():
            trials.append(("within", train.select(~unseen), train.select(unseen)))
    return trials


def score(
    trials: list[Trial], question: Question, missing: dict[str, str], progress: Callable[[int, int], None] | None
) -> tuple[HeldOutScore, ...]:
    """Fit and predict every trial; a trial that cannot be fitted leaves its reason.

    Args:
        trials: As `splits` gives them.
        question: What to fit.
        missing: Method -> why it is missing from the fit to all rows.
        progress: Called with (fits done, fits to do); the fit to all rows, made before, counts as one.
    """
    errors: dict[tuple[str, str], list[Floats]] = {
        (kind, method): [] for kind in ("beyond", "within") for method in METHODS
    }
    reasons, total = dict(missing), len(trials) + 1
    for done, (kind, known, unseen) in enumerate(trials, start=1):
        if progress:
            progress(done, total)
        try:
            for method, missed in _errors(known, unseen, question).items():
                errors[kind, method].append(missed)
        except UsageError as error:
            reasons.setdefault(kind, str(error))
    if progress:
        progress(total, total)
    why = {method: reasons.get(method, reasons.get("beyond", "")) for method in METHODS}
    return tuple(
        HeldOutScore(method, _joined(errors["beyond", method]), _joined(errors["within", method]), why[method])
        for method in METHODS
    )


def _errors(known: RunTable, unseen: RunTable, question: Question) -> dict[str, Floats]:
    """Return each method's errors on unseen rows, on the metric's residual scale."""
    # all known rows are to be fitted, whichever split they have in the table
    fits = fit_methods(replace(known, split=np.full(len(known), "train")), question, keep_loss=True)
    actual = question.axis.target(unseen.metric(question.metric))
    models: dict[str, Predict] = {"two_stage": fits.two_stage.predict, "fused": fits.fused.predict}
    if fits.direct is not None:
        models["direct"] = fits.direct.law.predict
    return {name: actual - _inside(question.axis, model(unseen.N, unseen.D)) for name, model in models.items()}


def _inside(axis: Axis, values: Floats) -> Floats:
    """Return predictions on the residual scale; one that leaves the bounds is taken to the nearest point inside."""
    u = axis.orient(values)
    if axis.link.positive_floor:
        # not onto the bound itself, where the link is infinite
        least = 1e-6 * (axis.link.scale if axis.link.name == "logit" else float(np.median(np.abs(u))))
        u = np.maximum(u, least)
        if axis.link.name == "logit":
            u = np.minimum(u, axis.link.scale - least)
    return axis.link.forward(u)[0]


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2))) if len(errors) else np.nan


def best_of(scores: tuple[HeldOutScore, ...], seed: int) -> tuple[str, tuple[str, ...]]:
    """Return the best method, and those that are not surely worse."""
    tried = [score for score in scores if len(score.beyond)]
    if not tried:
        return "", ()
    best = min(tried, key=lambda score: score.rmse_beyond)
    # resampled rows, since squared errors of extrapolation are far from normal
    draws = np.random.default_rng(seed).integers(0, len(best.beyond), (2000, len(best.beyond)))
    tied = []
    for score in tried:
        # paired: both err on the same rows, so that differences vary less than the errors
        worse = (score.beyond**2 - best.beyond**2)[draws].mean(axis=1)
        if score is not best and np.quantile(worse, 0.05) <= 0:
            tied.append(score.method)
    return best.method, tuple(tied)
