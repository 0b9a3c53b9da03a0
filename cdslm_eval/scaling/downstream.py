"""Downstream metrics: as a law of their own, through the loss, or jointly with it; and which predicts best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import Axis, make_axis
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.methods import Fits, HeldOutScore, Question, best_of, fit_methods, score, splits
from cdslm_eval.scaling.staged import Staged
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["Downstream", "compare_downstream"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]


@dataclass(frozen=True, eq=False)
class Downstream:
    """A downstream metric, three ways.

    Attributes:
        question: Metric, loss, laws.
        table: The rows that were fitted.
        fits: The three, fitted to all rows.
        scores: Per method, held out.
        held_out: The rows that `HeldOutScore.beyond` is of.
        best: The method with the least error of extrapolation; "" where none could be tried.
        tied: Methods whose extrapolation is not significantly worse (bootstrap over held-out rows, 95 %).
        excluded: Rows that were not used, and why.
    """

    question: Question
    table: RunTable
    fits: Fits
    scores: tuple[HeldOutScore, ...]
    held_out: RunTable
    best: str
    tied: tuple[str, ...]
    excluded: tuple[Excluded, ...]

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.question.metric

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return self.question.loss

    @property
    def axis(self) -> Axis:
        """The metric's axis; errors are on its residual scale."""
        return self.question.axis

    @property
    def direct(self) -> LawFit | None:
        """The metric's own law; None with the reason in `reasons`."""
        return self.fits.direct

    @property
    def loss_fit(self) -> LawFit:
        """The law of the loss."""
        return self.fits.loss_fit

    @property
    def two_stage(self) -> Staged:
        """Through the loss, fitted one after the other."""
        return self.fits.two_stage

    @property
    def fused(self) -> Staged:
        """Through the loss, fitted jointly."""
        return self.fits.fused

    @property
    def reasons(self) -> Mapping[str, str]:
        """Method -> why it is missing."""
        return self.fits.reasons

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What a reader must know."""
        return (*self.loss_fit.flags, *self.fused.flags)

    @property
    def headline(self) -> str:
        """The first line."""
        if not self.best:
            return f"{self.metric}: no method could be tried on held-out rows"
        score = next(score for score in self.scores if score.method == self.best)
        also = f"; {', '.join(self.tied)} not significantly worse" if self.tied else ""
        name = self.best if self.best == "direct" else f"{self.best} ({self.two_stage.map.name} map)"
        return (
            f"{self.metric}: {name} predicts the largest budgets best (root mean square error "
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


def compare_downstream(
    table: RunTable,
    metric: str,
    loss: str = "loss",
    spec: LawSpec | None = None,
    *,
    loss_link: str = "log",
    maps: Sequence[str] = (),
    loss_rows: Sequence[str] = (),
    metric_rows: Sequence[str] = (),
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
        spec: Form of the laws; estimator and delta of the loss's law (the metric's residuals go by Huber with a delta
            of 1.345 spreads); link, direction and bounds of the metric, whose default link is "identity".
        loss_link: Link of the loss's law.
        maps: Kinds of map from loss to metric to choose from (see `fit_map`); none tries all.
        loss_rows: Rules (see `RunTable.excluding`); the law of the loss uses the rows that any of them names.
        metric_rows: The same for the map; rows that `loss_rows` leaves out, such as checkpoints, may be among them.
        keep_loss: Whether the fused objective keeps the loss residuals; without them it is rank-deficient by two.
        share: Share of rows, of the largest budgets, on which extrapolation is tested where no row is marked "test".
        folds: Folds of the test within the range; 0 leaves it out.
        seed: Of the folds.
        progress: Called with (fits done, fits to do).

    Raises:
        UsageError: Too few rows have both metric and loss.

    Source: Gadre et al., arXiv 2403.08540 (two-stage); Ramapuram et al., arXiv 2604.24416 (fused).
    """
    if metric == loss:
        raise UsageError(f"{metric!r} cannot be a downstream metric of itself; name the loss")
    values, y = table.metric(metric), table.metric(loss)
    spec = spec or LawSpec()
    axis = make_axis(spec.linked("identity"), values[np.isfinite(values)], spec.better, spec.bounds)
    spec = replace(spec, link=axis.link.name)
    usable = _usable(table, metric, axis, loss, make_axis(loss_link, y[np.isfinite(y)]))
    train = usable.select(usable.split == "train")
    test = usable.select((usable.split == "test") & np.isfinite(usable.metric(metric)))
    loss_spec = LawSpec(
        form=spec.form, estimator=spec.estimator, delta=spec.delta, link=loss_link, delta_absolute=spec.delta_absolute
    )
    lines = (_lines(table, loss_rows, "loss_rows"), _lines(table, metric_rows, "metric_rows"))
    question = Question(metric, loss, spec, loss_spec, axis, tuple(maps), *lines)
    trials = splits(train, test, question, share, folds, seed)
    fits = fit_methods(train, question, keep_loss=keep_loss)
    scores = score(trials, question, dict(fits.reasons), progress)
    best, tied = best_of(scores, seed)
    held_out = next((unseen for kind, _, unseen in trials if kind == "beyond"), train.select([]))
    return Downstream(question, train, fits, scores, held_out, best, tied, usable.excluded)


def _usable(table: RunTable, metric: str, axis: Axis, loss: str, loss_axis: Axis) -> RunTable:
    """Return the rows with a metric or a loss on its link's scale; a value off its scale becomes NaN."""
    columns = {}
    for name, scale in ((metric, axis), (loss, loss_axis)):
        values = table.metric(name)
        with np.errstate(invalid="ignore"):
            columns[name] = np.where(np.isfinite(values) & scale.link.admits(scale.orient(values)), values, np.nan)
    known = np.isfinite(columns[metric]) | np.isfinite(columns[loss])
    lost = [(name, ~np.isfinite(values)) for name, values in columns.items()]
    excluded = [
        Excluded(int(table.line[i]), f"{name} is missing or off the scale of its link")
        for name, bad in lost
        for i in np.flatnonzero(bad)
    ]
    rows = replace(table, metrics={**table.metrics, **columns}).select(known)
    return replace(rows, excluded=rows.excluded + tuple(sorted(excluded, key=lambda row: row.line)))


def _lines(table: RunTable, rules: Sequence[str], option: str) -> frozenset[int] | None:
    """Return the lines that any of the rules names; None without rules."""
    if not rules:
        return None
    lines: set[int] = set()
    for rule in rules:
        named = table.only(rule).line.tolist()
        if not named:
            raise UsageError(f"{option} {rule!r} matches none of {len(table)} rows")
        lines.update(named)
    return frozenset(lines)
