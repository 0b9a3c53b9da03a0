"""Inference-aware optimum: the model of a quality that costs least to train and then to serve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UsageError
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.curves import Curve
from cdslm_eval.scaling.fit import LawFit

__all__ = ["SERVING_FLOPS", "Served", "serve"]

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
# a forward pass, without the backward pass of training
SERVING_FLOPS = 2.0
_SECTIONS, _GOLDEN = 60, (3 - math.sqrt(5)) / 2
_BISECTIONS = 60
_MOST = 40.0  # ln of how many times the training-optimal tokens are searched


@dataclass(frozen=True, slots=True)
class Served:
    """The model that reaches the quality of a budget's optimum at the least compute of training and serving.

    Attributes:
        C: The budget whose optimum sets the quality.
        tokens: How many tokens are served.
        loss: The metric there.
        N, D, ratio: The model.
        train, serving, total: Its FLOPs.
        saved: Share of the total of the training-optimal model that it saves.
        intervals: Of N, D, ratio, total and saved; empty without replicates.
    """

    C: float
    tokens: float
    loss: float
    N: float
    D: float
    ratio: float
    train: float
    serving: float
    total: float
    saved: float
    intervals: dict[str, Interval]


def serve(
    fit: LawFit, draws: Bootstrap | None, C: float, tokens: float, level: float, per_parameter: float = SERVING_FLOPS
) -> Served:
    """Return the model of least compute for training and serving, at the quality of a budget's optimum.

    Args:
        fit: Of a form with an optimum.
        draws: Its replicates, each with its own optimum and quality.
        C: The budget.
        tokens: Tokens that will be served, 0 or more.
        level: Of the intervals.
        per_parameter: FLOPs per parameter and served token.

    Raises:
        UsageError: The law has no optimum, or the tokens are below 0.

    Source: Sardana et al., "Beyond Chinchilla-optimal" (arXiv 2401.00448), equation 2.
    """
    if not fit.law.has_optimum:
        raise UsageError(f"the law {fit.form!r} has no best N, so none to serve")
    if not (math.isfinite(tokens) and tokens >= 0):
        raise UsageError(f"served tokens must be 0 or more, not {tokens}")
    best = {name: float(value) for name, value in _best(fit.law.curve, C, tokens, per_parameter).items()}
    intervals: dict[str, Interval] = {}
    if draws is not None:
        with np.errstate(all="ignore"):
            replicates = _best(draws.curve(), C, tokens, per_parameter)
        for name in ("N", "D", "ratio", "total", "saved"):
            low, high = draws.band(np.nan_to_num(replicates[name], nan=np.inf), level)
            intervals[name] = float(low), float(high)
    loss = float(fit.law.axis.restore(fit.law.curve.frontier(C)))
    return Served(C, tokens, loss, **best, intervals=intervals)


def _best(curve: Curve, C: float, tokens: float, per_parameter: float) -> dict[str, Floats]:
    """Return the best model of each law of a curve, arrays of the shape of its parameters."""
    log_c = np.asarray(math.log(C))
    optimum = curve.log_n_optimum(C)
    target = curve.frontier(C)

    def spent(log_n: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the total, FLOPs of training and ln D of models of the target's quality."""
        log_d = _tokens_for(curve, target, log_n, curve.cost.log_tokens(log_c, optimum))
        train = np.exp(curve.cost.log_flops(log_n, log_d))
        return train + per_parameter * np.exp(log_n) * tokens, train, log_d

    # serving favours smaller models, and none larger than the optimum of training alone is ever cheaper
    low, high = optimum - 12.0, optimum
    for _ in range(_SECTIONS):
        near, far = low + _GOLDEN * (high - low), high - _GOLDEN * (high - low)
        # strictly: where neither size reaches the quality, larger ones may
        left = spent(near)[0] < spent(far)[0]
        low, high = np.where(left, low, near), np.where(left, far, high)
    log_n = (low + high) / 2
    total, train, log_d = spent(log_n)
    plain = C + per_parameter * np.exp(optimum) * tokens
    return {
        "N": np.exp(log_n),
        "D": np.exp(log_d),
        "ratio": np.exp(log_d - log_n),
        "train": train,
        "serving": per_parameter * np.exp(log_n) * tokens,
        "total": total,
        "saved": 1 - total / plain,
    }


def _tokens_for(curve: Curve, target: Floats, log_n: Floats, log_d: Floats) -> Floats:
    """Return ln D at which models of a size reach a value; infinite where no tokens do."""
    low, high = np.broadcast_to(log_d, np.shape(log_n)) + 0.0, log_d + np.full(np.shape(log_n), _MOST)
    reached = curve.value(np.exp(log_n), np.exp(high)) <= target
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = curve.value(np.exp(log_n), np.exp(middle)) <= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reached, high, np.inf)
