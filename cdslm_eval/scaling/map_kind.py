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
        """Return z, `[S, n]`."""
        return self.kind.slopes(theta, self.loss).z

    def points(self, theta: Floats) -> Points:
        """Return z with its derivatives."""
        slopes = self.kind.slopes(theta, self.loss)

        def hessian(weights: Floats) -> Floats:
            return self.kind.bend(theta, self.loss, weights)[2]

        return Points(slopes.z, slopes.by_theta, hessian)
