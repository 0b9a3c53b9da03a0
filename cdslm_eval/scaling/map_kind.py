"""The contract of a map from loss to metric, and the problem that the solver fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.objective import Points

__all__ = ["MapKind", "MapProblem", "MapSlopes"]

Floats = npt.NDArray[np.float64]
_STEP = 1e-5
# anchors are counted so small, and weighted so much, that Huber's cost of them stays quadratic
_ANCHOR = 1e-3


@dataclass(frozen=True, slots=True)
class MapSlopes:
    """First derivatives of a map at S parameter vectors and n losses.

    Attributes:
        z: Values on the residual scale, `[S, n]`.
        by_loss: `[S, n]`.
        by_theta: `[S, n, P]`.
    """

    z: Floats
    by_loss: Floats
    by_theta: Floats


class MapKind(ABC):
    """One kind of map, scaled to its data.

    Args:
        loss: `[rows]`.
        u: The oriented metric, `[rows]`.
        axis: The metric's axis.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    needs_bounds: ClassVar[bool] = False
    only_named: ClassVar[bool] = False  # for kinds that rest on what only the user knows of the loss
    straight_beyond: ClassVar[bool] = False  # for kinds that follow the data and claim nothing beyond them
    low: Floats
    high: Floats

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        self.axis = axis
        self.centre = float(loss.mean())
        self.width = float(np.std(loss)) or 1.0
        self.sign = 1.0 if np.polyfit(loss, u, 1)[0] >= 0 else -1.0

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.low)

    @abstractmethod
    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return points to search from, `[starts, P]`."""

    @abstractmethod
    def curve(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u `[S, n]`, du/dx, and du/dtheta `[S, n, P]` for scaled losses `[S or 1, n]`."""

    @abstractmethod
    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return parameters in the units of metric and loss, each `[S]`."""

    def slopes(self, theta: Floats, loss: Floats) -> MapSlopes:
        """Return z with its first derivatives, for losses `[n]` or `[S, n]`."""
        u, by_x, by_theta = self.curve(theta, (np.atleast_2d(loss) - self.centre) / self.width)
        z, slope, _ = self.axis.link.forward(u)
        return MapSlopes(z, slope * by_x / self.width, slope[..., None] * by_theta)

    def bend(self, theta: Floats, loss: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return second derivatives by central differences of the first.

        Returns:
            By the loss twice `[S, n]`, by loss and theta `[S, n, P]`, and by theta, summed over rows by their weights
            `[S, P, P]`.
        """
        step = _STEP * self.width
        up, down = self.slopes(theta, loss + step), self.slopes(theta, loss - step)
        by_loss = (up.by_loss - down.by_loss) / (2 * step)
        crossed = (up.by_theta - down.by_theta) / (2 * step)
        out = np.zeros((len(theta), self.size, self.size))
        for k in range(self.size):
            move = np.zeros(self.size)
            move[k] = _STEP
            above, below = self.slopes(theta + move, loss), self.slopes(theta - move, loss)
            out[:, k] = np.einsum("sn,snp->sp", weights, above.by_theta - below.by_theta) / (2 * _STEP)
        return by_loss, crossed, (out + out.transpose(0, 2, 1)) / 2

    def anchor(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return residuals of points that are known without rows, `[S, m]`, and their derivatives `[S, m, P]`."""
        return np.empty((len(theta), 0)), np.empty((len(theta), 0, self.size))

    def scaled_anchor(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the anchors as targets of a search at 0, each weighted by `anchor_weights`."""
        residual, by_theta = self.anchor(theta)
        return residual * _ANCHOR, by_theta * _ANCHOR

    def anchor_weights(self, weight: float) -> Floats:
        """Return the weights of the anchors, `[m]`, each of which counts as a row of this weight."""
        count = self.anchor(np.zeros((1, self.size)))[0].shape[1]
        return np.full(count, weight / _ANCHOR**2)

    def anchor_bend(self, theta: Floats, weights: Floats) -> Floats:
        """Return second derivatives of the scaled anchors, summed over them by weights, `[S, P, P]`."""
        out = np.zeros((len(theta), self.size, self.size))
        for k in range(self.size if weights.shape[1] else 0):
            move = np.zeros(self.size)
            move[k] = _STEP
            above, below = self.scaled_anchor(theta + move)[1], self.scaled_anchor(theta - move)[1]
            out[:, k] = np.einsum("sm,smp->sp", weights, above - below) / (2 * _STEP)
        return (out + out.transpose(0, 2, 1)) / 2

    def problem(self, loss: Floats) -> MapProblem:
        """Return the problem of fitting the map to measured losses."""
        return MapProblem(self, loss)


@dataclass(frozen=True)
class MapProblem:
    """A map over measured losses as a problem for the solver."""

    kind: MapKind
    loss: Floats

    @property
    def low(self) -> Floats:
        """Least parameters."""
        return self.kind.low

    @property
    def high(self) -> Floats:
        """Largest parameters."""
        return self.kind.high

    def predict(self, theta: Floats) -> Floats:
        """Return z, those of the anchors last, `[S, n + m]`."""
        return np.concatenate([self.kind.slopes(theta, self.loss).z, self.kind.scaled_anchor(theta)[0]], axis=1)

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        slopes, count = self.kind.slopes(theta, self.loss), len(self.loss)
        anchor, by_theta = self.kind.scaled_anchor(theta)

        def hessian(weights: Floats) -> Floats:
            rows, anchors = weights[:, :count], weights[:, count:]
            return self.kind.bend(theta, self.loss, rows)[2] + self.kind.anchor_bend(theta, anchors)

        z = np.concatenate([slopes.z, anchor], axis=1)
        return Points(z, np.concatenate([slopes.by_theta, by_theta], axis=1), hessian)
