"""Downstream metrics: as a law of their own, through the loss, or jointly with it; and which predicts best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.held_out import HeldOutScore, best_of, score, splits
from cdslm_eval.scaling.links import Axis, make_axis
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.staged import Staged
from cdslm_eval.scaling.table import Excluded, RunTable
from cdslm_eval.scaling.ways import Ask, Ways, fit_ways

__all__ = ["Downstream", "compare_downstream"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]


@dataclass(frozen=True, eq=False)
class Downstream:
    """A downstream metric, three ways.

    Attributes:
        ask: What was asked for.
        table: The rows that were fitted.
        ways: The three, fitted to all rows.
        scores: Per method, held out.
        held_out: The rows that `HeldOutScore.beyond` is of.
        best: The method with the least error of extrapolation; "" where none could be tried.
        tied: Methods whose extrapolation is not surely worse than the best's (bootstrap over held-out rows, 95 %).
        excluded: Rows that were not used, and why.
    """

    ask: Ask
    table: RunTable
    ways: Ways
    scores: tuple[HeldOutScore, ...]
    held_out: RunTable
    best: str
    tied: tuple[str, ...]
    excluded: tuple[Excluded, ...]

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.ask.metric

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return self.ask.loss

    @property
    def axis(self) -> Axis:
        """The metric's axis; errors are on its residual scale."""
        return self.ask.axis

    @property
    def direct(self) -> LawFit | None:
        """The metric's own law; None where `reasons` says why."""
        return self.ways.direct

    @property
    def loss_fit(self) -> LawFit:
        """The law of the loss."""
        return self.ways.loss_fit

    @property
    def two_stage(self) -> Staged:
        """Through the loss, fitted one after the other."""
        return self.ways.two_stage

    @property
    def fused(self) -> Staged:
        """Through the loss, fitted jointly."""
        return self.ways.fused

    @property
    def reasons(self) -> Mapping[str, str]:
        """Method -> why it is missing."""
        return self.ways.reasons

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What a reader must know."""
        return (*self.loss_fit.flags, *self.fused.flags)

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
    if metric == loss:
        raise UsageError(f"{metric!r} cannot be a downstream metric of itself; name the loss")
    values, y = table.metric(metric), table.metric(loss)
    axis = make_axis(link, values[np.isfinite(values)], better, bounds)
    usable = usable_rows(usable_rows(table, metric, axis), loss, make_axis("log", y[np.isfinite(y)]))
    train, test = usable.select(usable.split == "train"), usable.select(usable.split == "test")
    ask = Ask(metric, loss, form, estimator, delta, link, better, bounds, axis)
    trials = splits(train, test, share, folds, seed)
    ways = fit_ways(train, ask, keep_loss=keep_loss)
    scores = score(trials, ask, dict(ways.reasons), progress)
    best, tied = best_of(scores, seed)
    held_out = next((unseen for kind, _, unseen in trials if kind == "beyond"), train.select([]))
    return Downstream(ask, train, ways, scores, held_out, best, tied, usable.excluded)
