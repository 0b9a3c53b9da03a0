"""Downstream metrics: as a law of their own, through the loss, or jointly with it; and which predicts best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.axis import Axis, make_axis
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.methods import Fits, HeldOutScore, Question, best_of, fit_methods, score, splits
from cdslm_eval.scaling.rows import usable_rows
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
        """The metric's own law; None where `reasons` says why."""
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


def compare_downstream(
    table: RunTable,
    metric: str,
    loss: str = "loss",
    spec: LawSpec | None = None,
    *,
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
    usable = usable_rows(usable_rows(table, metric, axis), loss, make_axis("log", y[np.isfinite(y)]))
    train, test = usable.select(usable.split == "train"), usable.select(usable.split == "test")
    question = Question(metric, loss, spec, axis)
    trials = splits(train, test, share, folds, seed)
    fits = fit_methods(train, question, keep_loss=keep_loss)
    scores = score(trials, question, dict(fits.reasons), progress)
    best, tied = best_of(scores, seed)
    held_out = next((unseen for kind, _, unseen in trials if kind == "beyond"), train.select([]))
    return Downstream(question, train, fits, scores, held_out, best, tied, usable.excluded)
