"""A law of the loss with a map from loss to metric: what it predicts, and its replicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap, resampling_weights
from cdslm_eval.scaling.estimators import Estimator
from cdslm_eval.scaling.fit import LawFit
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.solver import Problem, Solution, minimise

__all__ = ["MetricMap", "Search", "Staged"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Search:
    """A search that has come to its optimum, and can be repeated under other weights.

    Attributes:
        problem, estimator, target: What was minimised; units of spread stay those of the data.
        weight: Of the rows, `[rows]`.
        theta: The optimum, `[P]`.
    """

    problem: Problem
    estimator: Estimator
    target: Floats
    weight: Floats
    theta: Floats

    def again(self, weights: Floats) -> Solution:
        """Search again from the optimum.

        Args:
            weights: Of the rows, `[S, rows]`.
        """
        weights = np.tile(weights, (1, len(self.target) // len(self.weight)))
        start = np.repeat(self.theta[None], len(weights), axis=0)
        return minimise(self.problem, self.estimator, self.target, weights, start)


@dataclass(frozen=True, slots=True)
class MetricMap:
    """Metric on its residual scale as a line in the loss: z = intercept + slope loss.

    Under the identity link the metric is linear in the loss, under log exponential, under logit a logistic curve.

    Attributes:
        intercept, slope: Of the line.
        axis: The metric's axis.
        spread: Robust standard deviation of the residuals on its residual scale.
        search: What found it where it was fitted alone.
    """

    intercept: float
    slope: float
    axis: Axis
    spread: float
    search: Search | None = field(default=None, repr=False)

    def value(self, loss: npt.ArrayLike) -> Floats:
        """Return the metric at a loss."""
        return self.axis.value(self.intercept + self.slope * np.asarray(loss, float))


@dataclass(frozen=True, eq=False)
class Staged:
    """A law of the loss and a map from loss to metric, fitted one after the other or jointly.

    Attributes:
        name: "two_stage" or "fused".
        law: Of the loss.
        map: From loss to metric.
        objective: What was minimised last.
        rank_deficiency: How many combinations of parameters the objective leaves undetermined.
        loss_fit: The law of the loss fitted alone.
        flags: What a reader must know.
        search: What found law and map together; None where they were fitted one after the other.
    """

    name: str
    law: Law
    map: MetricMap
    objective: float
    rank_deficiency: int
    loss_fit: LawFit
    flags: tuple[Flag, ...] = ()
    search: Search | None = field(default=None, repr=False)

    @property
    def parameters(self) -> dict[str, float]:
        """Those of the law, and "intercept" and "slope" of the map."""
        return {**self.law.parameters, "intercept": self.map.intercept, "slope": self.map.slope}

    def bootstrap(self, by: str = "row", replicates: int = 1000, seed: int = 0) -> Bootstrap:
        """Fit resampled tables, each from this optimum: every row with its loss and its metric together.

        Args:
            by: "row", "run" or "isoflop".
            replicates: How many.
            seed: The same seed gives the same replicates.

        Raises:
            UsageError: The objective leaves parameters undetermined, or there is too little to draw from.
        """
        if self.rank_deficiency:
            raise UsageError(
                f"{self.rank_deficiency} combinations of parameters are undetermined, so none has an interval"
            )
        fit = self.loss_fit
        weights, units = resampling_weights(fit.table, by, replicates, seed)
        free = units - (len(fit.theta) + 2 if by == "row" else 1)
        if self.search is not None:
            found = self.search.again(weights)
            objective, converged = found.objective, found.converged
            law: Mapping[str, Floats] = fit.problem.natural(found.theta[:, :-2])
        else:
            assert self.map.search is not None
            found, alone = self.map.search.again(weights), fit.bootstrap(by, replicates, seed)
            law, objective, converged = alone.parameters, alone.objective, alone.converged & found.converged
        slope = found.theta[:, -1]
        line = {"intercept": found.theta[:, -2] - slope * self._centre, "slope": slope}
        axis, k = fit.law.axis, fit.law.k
        return Bootstrap({**law, **line}, objective, converged, by, units, max(1, free), seed, axis, k)

    @property
    def _centre(self) -> float:
        """The loss at which the search has its intercept."""
        return float(self.loss_fit.table.metric(self.loss_fit.metric).mean())

    def predict(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return the metric for N parameters and D tokens."""
        return self.map.value(self.law.predict(N, D))
