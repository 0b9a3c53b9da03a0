"""Kinds of a map from loss to metric: line, exponential, power, sigmoids, monotone spline, with their derivatives.

A map is searched on the residual scale z of the metric's link. In between, u is the oriented metric (smaller is
better), and x the centred loss over its spread, so that parameters are of one size.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from cdslm_eval.scaling.axis import Axis
from cdslm_eval.scaling.map_kind import MapKind, MapSlopes

__all__ = ["MAPS", "Line"]

Floats = npt.NDArray[np.float64]


class Line(MapKind):
    """z = intercept + slope loss, on the scale of the link: logistic under logit, exponential under log."""

    name = "line"
    formula = "link(y) = intercept + slope L"

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        super().__init__(loss, u, axis)
        self.low, self.high = np.full(2, -np.inf), np.full(2, np.inf)

    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return the weighted least-squares line."""
        # on the link's scale the problem is linear, so that one start is enough
        root = np.sqrt(weight)
        columns = np.column_stack([np.ones_like(loss), loss - self.centre])
        target = self.axis.link.forward(u)[0]
        return np.asarray(np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)[0], np.float64)[None]

    def slopes(self, theta: Floats, loss: Floats) -> MapSlopes:
        """Return z with its first derivatives."""
        x = np.atleast_2d(loss) - self.centre
        z = theta[:, [0]] + theta[:, [1]] * x
        by_theta = np.stack([np.ones_like(z), np.broadcast_to(x, z.shape)], axis=2)
        return MapSlopes(z, np.broadcast_to(theta[:, [1]], z.shape), by_theta)

    def bend(self, theta: Floats, loss: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the second derivatives, of which only that by loss and slope is not 0."""
        del loss
        crossed = np.zeros((*weights.shape, 2))
        crossed[..., 1] = 1.0
        return np.zeros_like(weights), crossed, np.zeros((len(theta), 2, 2))

    def curve(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u alone with its derivatives, through the inverse of the link."""
        slopes = self.slopes(theta, x * self.width + self.centre)
        u = self.axis.link.inverse(slopes.z)
        slope = 1 / self.axis.link.forward(u)[1]
        return u, slope * slopes.by_loss * self.width, slope[..., None] * slopes.by_theta

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return intercept and slope: of the metric itself under the identity link, else of its link."""
        intercept, slope = theta[:, 0] - theta[:, 1] * self.centre, theta[:, 1]
        if self.axis.link.name != "identity":
            return {"intercept": intercept, "slope": slope}
        # the axis may turn the metric round, so values are restored, never a slope
        start, end = self.axis.value(intercept), self.axis.value(intercept + slope)
        return {"intercept": start, "slope": end - start}


class _Scaled(MapKind):
    """A map of u itself, whose level is a + b g(x; shape): linear in a and b for each shape."""

    shapes: Floats

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        super().__init__(loss, u, axis)
        self.unit = float(np.ptp(u)) or 1.0
        self.low = np.concatenate([[-np.inf, -np.inf], self.shapes.min(axis=0)])
        self.high = np.concatenate([[np.inf, np.inf], self.shapes.max(axis=0)])

    @abstractmethod
    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return g, dg/dx, and dg/dshape `[S, n, shapes]`."""

    def curve(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u with its derivatives."""
        g, by_x, by_shape = self.shape(theta[:, 2:], x)
        a, b = theta[:, [0]] * self.unit, theta[:, [1]] * self.unit
        ones = np.full((*g.shape, 1), self.unit)
        return a + b * g, b * by_x, np.concatenate([ones, g[..., None] * self.unit, b[..., None] * by_shape], axis=2)

    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return the best least-squares levels over a grid of shapes."""
        x, root = (loss - self.centre) / self.width, np.sqrt(weight)
        g = self.shape(self.shapes, x[None])[0]
        design = np.stack([np.ones_like(g), g], axis=2) * root[:, None]
        # the ridge is for shapes that are flat over the data, and so repeat the constant
        gram = design.transpose(0, 2, 1) @ design + 1e-10 * np.eye(2) * len(x)
        moment = np.einsum("gnp,n->gp", design, u * root)
        levels = np.linalg.solve(gram, moment[..., None])[..., 0]
        left = u * root - np.einsum("gnp,gp->gn", design, levels)
        theta = np.concatenate([levels / self.unit, self.shapes], axis=1)
        # a start outside the link's domain has no residuals to descend by
        inside = self.axis.link.admits(np.asarray(levels[:, [0]] + levels[:, [1]] * g)).all(axis=1)
        # sigmoids of other midpoints and rates are basins of their own, so several starts go on
        order = np.argsort(np.where(inside, np.sum(left**2, axis=1), np.inf))
        return np.asarray(theta[order[: min(4, max(1, int(inside.sum())))]])


class RawLine(_Scaled):
    """y = intercept + slope L, where the link's scale is another."""

    name = "straight"
    formula = "y = intercept + slope L"
    shapes = np.empty((1, 0))

    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return x."""
        g = np.broadcast_to(x, (len(theta), x.shape[1]))
        return g, np.ones_like(g), np.zeros((*g.shape, 0))

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return intercept and slope of the metric."""
        slope = self.axis.sign * theta[:, 1] * self.unit / self.width
        return {"intercept": self.axis.restore(theta[:, 0] * self.unit) - slope * self.centre, "slope": slope}


class Exponential(_Scaled):
    """y = limit - amplitude exp(-rate L); a straight line as the rate goes to 0.

    Source: Gadre et al., arXiv 2403.08540, equation 5.
    """

    name = "exponential"
    formula = "y = limit - amplitude exp(-rate L)"
    shapes = np.array([[g] for g in (-8.0, -5, -3, -2, -1.2, -0.7, -0.3, -0.05, 0.05, 0.3, 0.7, 1.2, 2, 3, 5, 8)])

    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return (e^(g x) - 1) / g, whose limit at g = 0 is x."""
        # over g, a straight line is an inner point of the search, and not a limit at infinite amplitude
        g = np.where(np.abs(theta[:, :1]) < 1e-6, 1e-6, theta[:, :1])
        grown = np.exp(np.minimum(g * x, 300.0))
        value = np.expm1(np.minimum(g * x, 300.0)) / g
        # by g: (x e^(gx) - value) / g, whose limit is x^2 / 2
        by_g = np.where(np.abs(g * x) < 1e-3, x**2 / 2 + g * x**3 / 3, (x * grown - value) / g)
        return value, grown, by_g[..., None]

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return limit, amplitude and rate."""
        a, b, g = theta[:, 0] * self.unit, theta[:, 1] * self.unit, theta[:, 2]
        rate = -g / self.width
        with np.errstate(over="ignore"):
            amplitude = -self.axis.sign * b / g * np.exp(rate * self.centre)
        return {"limit": self.axis.restore(a - b / g), "amplitude": amplitude, "rate": rate}


class PowerMap(_Scaled):
    """y = offset + coefficient L^exponent."""

    name = "power"
    formula = "y = offset + coefficient L^exponent"
    shapes = np.array([[p] for p in (-8.0, -5, -3, -2, -1, -0.5, 0.5, 1, 2, 3, 5, 8)])

    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return ((L / centre)^p - 1) / p, scaled by centre / width: x at p = 1."""
        # Box and Cox's form: value and slope at the centre are the same for every p
        p = np.where(np.abs(theta[:, :1]) < 1e-6, 1e-6, theta[:, :1])
        scale = self.centre / self.width
        log = np.log(np.maximum(1 + x / scale, 1e-12))
        grown = np.exp(np.minimum(p * log, 300.0))
        value = scale * np.expm1(np.minimum(p * log, 300.0)) / p
        by_p = np.where(
            np.abs(p * log) < 1e-3, scale * (log**2 / 2 + p * log**3 / 3), (scale * log * grown - value) / p
        )
        return value, grown / np.maximum(1 + x / scale, 1e-12), by_p[..., None]

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return offset, coefficient and exponent."""
        a, b, p = theta[:, 0] * self.unit, theta[:, 1] * self.unit, theta[:, 2]
        level = b * self.centre / self.width / p
        with np.errstate(over="ignore"):
            coefficient = self.axis.sign * level * self.centre**-p
        return {"offset": self.axis.restore(a - level), "coefficient": coefficient, "exponent": p}


class Sigmoid(_Scaled):
    """y = best + (worst - best) / (1 + exp(-steepness (L - midpoint))), both ends free.

    Source: Bhagia et al., "Establishing task scaling laws via compute-efficient model ladders", arXiv 2412.04403.
    """

    name = "sigmoid"
    formula = "y = best + (worst - best) / (1 + exp(-steepness (L - midpoint)))"
    # (midpoint in spreads of the loss, ln steepness)
    shapes = np.array(
        [[m, s] for m in (-6.0, -3, -1.5, -0.7, 0, 0.7, 1.5, 3.0) for s in (-1.5, -0.5, 0.3, 1.0, 1.8, 3.0)]
    )

    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the logistic function."""
        # a steepness of the other sign would only exchange the two ends
        k = self.sign * np.exp(theta[:, [1]])
        off = x - theta[:, [0]]
        value = expit(k * off)
        slope = value * (1 - value)
        return value, slope * k, np.stack([-slope * k, slope * k * off], axis=2)

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return best, worst, steepness and midpoint."""
        best, rise = theta[:, 0] * self.unit, theta[:, 1] * self.unit
        return {"best": self.axis.restore(best), "worst": self.axis.restore(best + rise), **self._shape(theta[:, 2:])}

    def _shape(self, shape: Floats) -> dict[str, Floats]:
        return {
            "steepness": self.sign * np.exp(shape[:, 1]) / self.width,
            "midpoint": self.centre + shape[:, 0] * self.width,
        }


class BoundedSigmoid(Sigmoid):
    """A sigmoid whose best end is the declared bound of the metric, which it reaches at a loss of 0.

    A loss that is nowhere 0 or less has no better value than 0, so that a bound at minus infinity would never be
    reached. Where losses are below 0, and where the metric improves with the loss, the bound is the limit.
    """

    name = "bounded-sigmoid"
    needs_bounds = True
    formula = "y = bound + (worst - bound) (1 - exp(-steepness L)) / (1 + exp(-steepness (L - midpoint)))"

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        super().__init__(loss, u, axis)
        assert axis.bounds is not None
        self.bound = float(axis.orient(axis.bounds[0] if axis.sign > 0 else axis.bounds[1]))
        self.low, self.high = self.low[1:], self.high[1:]
        self.origin = -self.centre / self.width if self.sign > 0 and loss.min() > 0 else -np.inf

    def shape(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the logistic function s, shifted and stretched to 0 at a loss of 0: (s(L) - s(0)) / (1 - s(0))."""
        value, by_x, by_shape = super().shape(theta, x)
        if not np.isfinite(self.origin):
            return value, by_x, by_shape
        # which is s(L) (1 - exp(-k L)), without a difference of numbers that both may be 1
        k, above = np.exp(theta[:, [1]]), x - self.origin
        rest = np.exp(np.minimum(-k * above, 300.0))
        by_shape = by_shape * (1 - rest)[..., None]
        by_shape[..., 1] += value * k * above * rest
        return value * (1 - rest), by_x * (1 - rest) + value * k * rest, by_shape

    def curve(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u with its derivatives."""
        level = np.full((len(theta), 1), self.bound / self.unit)
        u, by_x, by_theta = super().curve(np.concatenate([level, theta], axis=1), x)
        return u, by_x, by_theta[..., 1:]

    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return the best least-squares rises over a grid of shapes."""
        x = (loss - self.centre) / self.width
        g = self.shape(self.shapes, x[None])[0]
        rise = np.einsum("gn,n->g", g, (u - self.bound) * weight) / np.einsum("gn,n->g", g**2, weight)
        left = u - self.bound - rise[:, None] * g
        order = np.argsort(np.einsum("gn,n->g", left**2, weight))[:4]
        return np.asarray(np.concatenate([rise[order, None] / self.unit, self.shapes[order]], axis=1))

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return worst, steepness and midpoint."""
        return {"worst": self.axis.restore(self.bound + theta[:, 0] * self.unit), **self._shape(theta[:, 1:])}


class IdealSigmoid(Sigmoid):
    """A sigmoid whose best end is free up to the bound, with a perfect model, of loss 0, as one more row at the bound.

    Only for losses of which 0 is perfect, such as bits per byte of the right answer.

    Source: Bhagia et al., "Establishing task scaling laws via compute-efficient model ladders", arXiv 2412.04403.
    """

    name = "ideal-sigmoid"
    formula = (
        "y = best + (worst - best) / (1 + exp(-steepness (L - midpoint))), with y = bound at L = 0 as one more row"
    )
    needs_bounds = True
    only_named = True

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        super().__init__(loss, u, axis)
        assert axis.bounds is not None
        self.bound = float(axis.orient(axis.bounds[0] if axis.sign > 0 else axis.bounds[1]))
        self.low[0] = self.bound / self.unit
        # on the scale of the link at a typical row, since a link may be infinite at the bound
        self.slope = float(axis.link.forward(np.array([np.median(u)]))[1][0])

    def anchor(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return by how much a loss of 0 misses the bound."""
        u, _, by_theta = self.curve(theta, np.full((1, 1), -self.centre / self.width))
        return (u - self.bound) * self.slope, by_theta * self.slope

    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return those of a free sigmoid; a best end beyond the bound is put there, and the rise refitted."""
        starts = super().starts(loss, u, weight)
        beyond = starts[:, 0] < self.low[0]
        g = self.shape(starts[beyond, 2:], ((loss - self.centre) / self.width)[None])[0]
        starts[beyond, 0] = self.low[0]
        # the rise of a free sigmoid would lead from the bound to values that the metric cannot have
        starts[beyond, 1] = (g @ ((u - self.bound) * weight)) / (g**2 @ weight) / self.unit
        return np.clip(starts, self.low, self.high)


class Spline(MapKind):
    """A monotone spline of degree 2 with three knots within the losses; straight beyond them.

    Source: Ramsay, "Monotone regression splines in action" (1988).
    """

    name = "spline"
    formula = "y = monotone spline of L"
    straight_beyond = True

    def __init__(self, loss: Floats, u: Floats, axis: Axis) -> None:
        super().__init__(loss, u, axis)
        x = self.sign * (loss - self.centre) / self.width
        self.knots = np.unique(np.quantile(x, [0.0, 0.25, 0.5, 0.75, 1.0]))
        self.unit = float(np.ptp(u)) or 1.0
        # no slope below 0 at a knot means none between: the hats are never negative
        self.low = np.concatenate([[-np.inf], np.zeros(len(self.knots))])
        self.high = np.full(len(self.low), np.inf)

    def _basis(self, x: Floats) -> tuple[Floats, Floats]:
        """Return integrals of the hat functions at the knots, and the hats, `[..., knots]`: slopes are their sum."""
        knots, last = self.knots, len(self.knots) - 1
        inside = np.clip(x, knots[0], knots[-1])
        hats = np.stack([np.interp(inside, knots, np.eye(last + 1)[k]) for k in range(last + 1)], axis=-1)
        pieces = []
        for k in range(last + 1):
            total = np.zeros_like(x)
            if k > 0:
                t = np.clip(inside, knots[k - 1], knots[k]) - knots[k - 1]
                total = total + t**2 / (2 * (knots[k] - knots[k - 1]))
            if k < last:
                t = np.clip(inside, knots[k], knots[k + 1]) - knots[k]
                total = total + t - t**2 / (2 * (knots[k + 1] - knots[k]))
            pieces.append(total)
        integrals = np.stack(pieces, axis=-1)
        # beyond the knots a quadratic would turn round, a line does not
        integrals[..., 0] += np.minimum(x - knots[0], 0.0)
        integrals[..., -1] += np.maximum(x - knots[-1], 0.0)
        return integrals, hats

    def curve(self, theta: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u with its derivatives."""
        integrals, hats = self._basis(self.sign * np.broadcast_to(x, (len(theta), x.shape[1])))
        slopes = theta[:, None, 1:]
        ones = np.full((*integrals.shape[:2], 1), self.unit)
        u = self.unit * (theta[:, [0]] + np.sum(slopes * integrals, axis=2))
        by_x = self.unit * self.sign * np.sum(slopes * hats, axis=2)
        return u, by_x, np.concatenate([ones, self.unit * integrals], axis=2)

    def starts(self, loss: Floats, u: Floats, weight: Floats) -> Floats:
        """Return least squares with slopes of at least 0."""
        from scipy.optimize import lsq_linear

        x, root = (loss - self.centre) / self.width, np.sqrt(weight)
        design = self.curve(np.zeros((1, self.size)), x[None])[2][0] * root[:, None]
        return np.asarray(lsq_linear(design, u * root, bounds=(self.low, self.high)).x, float)[None]

    def natural(self, theta: Floats) -> dict[str, Floats]:
        """Return the metric at each knot, by its loss."""
        x = self.sign * self.knots
        u = self.curve(theta, x[None])[0]
        losses = self.centre + x * self.width
        return {f"at {loss:.4g}": self.axis.restore(u[:, k]) for k, loss in enumerate(losses)}


MAPS: dict[str, type[MapKind]] = {
    kind.name: kind for kind in (Line, RawLine, Exponential, PowerMap, BoundedSigmoid, Sigmoid, IdealSigmoid, Spline)
}
