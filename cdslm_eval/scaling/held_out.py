"""Held out: how well each way to a downstream metric predicts rows that it did not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.links import Axis
from cdslm_eval.scaling.table import RunTable
from cdslm_eval.scaling.ways import WAYS, Ask, fit_ways

__all__ = ["HeldOutScore", "Trial", "best_of", "score", "splits"]

Floats = npt.NDArray[np.float64]
Predict = Callable[[npt.ArrayLike, npt.ArrayLike], Floats]
Trial = tuple[str, RunTable, RunTable]


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


def splits(train: RunTable, test: RunTable, share: float, folds: int, seed: int) -> list[Trial]:
    """Return ("beyond" or "within", rows to fit, rows to predict) of each trial, as `compare_downstream` asks."""
    if not 0 < share < 1:
        raise UsageError(f"the share that is held out must lie between 0 and 1, not at {share}")
    trials = []
    if len(test):
        trials.append(("beyond", train, test))
    else:
        large = np.quantile(train.C, 1 - share) < train.C
        if large.any() and not large.all():
            trials.append(("beyond", train.select(~large), train.select(large)))
    order = np.random.default_rng(seed).permutation(len(train))
    for fold in range(folds):
        some = np.isin(np.arange(len(train)), order[fold::folds])
        if some.any():
            trials.append(("within", train.select(~some), train.select(some)))
    return trials


def score(
    trials: list[Trial], ask: Ask, missing: dict[str, str], progress: Callable[[int, int], None] | None
) -> tuple[HeldOutScore, ...]:
    """Fit and predict every trial; one that cannot be fitted leaves its reason.

    Args:
        trials: As `splits` gives them.
        ask: What to fit.
        missing: Way -> why it is missing from the fit to all rows.
        progress: Called with (fits done, fits to do); the fit to all rows, made before, counts as one.
    """
    errors: dict[tuple[str, str], list[Floats]] = {(kind, way): [] for kind in ("beyond", "within") for way in WAYS}
    reasons, total = dict(missing), len(trials) + 1
    for done, (kind, known, unseen) in enumerate(trials, start=1):
        if progress:
            progress(done, total)
        try:
            for way, found in _errors(known, unseen, ask).items():
                errors[kind, way].append(found)
        except UsageError as error:
            reasons.setdefault(kind, str(error))
    if progress:
        progress(total, total)
    why = {way: reasons.get(way, reasons.get("beyond", "")) for way in WAYS}
    return tuple(
        HeldOutScore(way, _joined(errors["beyond", way]), _joined(errors["within", way]), why[way]) for way in WAYS
    )


def _errors(known: RunTable, unseen: RunTable, ask: Ask) -> dict[str, Floats]:
    """Return each way's errors on unseen rows, on the metric's residual scale."""
    ways = fit_ways(replace(known, split=np.full(len(known), "train")), ask, keep_loss=True)
    actual = ask.axis.target(unseen.metric(ask.metric))
    models: dict[str, Predict] = {"two_stage": ways.two_stage.predict, "fused": ways.fused.predict}
    if ways.direct is not None:
        models["direct"] = ways.direct.law.predict
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


def best_of(scores: tuple[HeldOutScore, ...], seed: int) -> tuple[str, tuple[str, ...]]:
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
