"""Axes: which way a metric improves, and the scale (link) on which its residuals are measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError

__all__ = ["LINKS", "Axis", "Identity", "Link", "Log", "Logit", "make_axis"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Link(ABC):
    """A monotone map of the oriented metric u (smaller is better) to the scale z of the residuals.

    Attributes:
        scale: Width of the declared bounds (logit), or the unit of the residuals (identity).
        positive_floor: Whether the floor E of u is held above 0.
    """

    scale: float = 1.0
    name: ClassVar[str]
    positive_floor: ClassVar[bool] = True

    @abstractmethod
    def forward(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Return z(u), z'(u) and z''(u); NaN where u is outside the link's domain."""

    @abstractmethod
    def inverse(self, z: Floats) -> Floats:
        """Return u(z)."""

    def admits(self, u: Floats) -> npt.NDArray[np.bool_]:
        """Return where u lies in the link's domain."""
        return np.isfinite(u)


@dataclass(frozen=True, slots=True)
class Log(Link):
    """Relative errors: z = ln u, for u > 0."""

    name: ClassVar[str] = "log"

    def forward(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Return ln u and its derivatives."""
        safe = np.where(u > 0, u, np.nan)
        inverse = 1 / safe
        return np.log(safe), inverse, -inverse * inverse

    def inverse(self, z: Floats) -> Floats:
        """Return e^z."""
        return np.exp(z)

    def admits(self, u: Floats) -> npt.NDArray[np.bool_]:
        """Return where u > 0."""
        return np.isfinite(u) & (u > 0)


@dataclass(frozen=True, slots=True)
class Logit(Link):
    """Bounded metrics: z = ln(u / (width - u)), for 0 < u < width."""

    name: ClassVar[str] = "logit"

    def forward(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the logit and its derivatives."""
        safe = np.where((u > 0) & (u < self.scale), u, np.nan)
        near, far = 1 / safe, 1 / (self.scale - safe)
        return np.log(safe) - np.log(self.scale - safe), near + far, far * far - near * near

    def inverse(self, z: Floats) -> Floats:
        """Return the inverse logit, within the bounds."""
        return self.scale * np.exp(-np.logaddexp(0.0, -z))

    def admits(self, u: Floats) -> npt.NDArray[np.bool_]:
        """Return where u lies strictly within the bounds."""
        return np.isfinite(u) & (u > 0) & (u < self.scale)


@dataclass(frozen=True, slots=True)
class Identity(Link):
    """Absolute errors, in units of `scale`: z = u / scale; the floor may have any sign."""

    name: ClassVar[str] = "identity"
    positive_floor: ClassVar[bool] = False

    def forward(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Return u in units of the scale."""
        return u / self.scale, np.full_like(u, 1 / self.scale), np.zeros_like(u)

    def inverse(self, z: Floats) -> Floats:
        """Return u."""
        return z * self.scale


LINKS: dict[str, type[Link]] = {kind.name: kind for kind in (Log, Identity, Logit)}


@dataclass(frozen=True, slots=True)
class Axis:
    """How a metric y becomes the oriented u = sign (y - origin) that a law describes, and its residual scale.

    Attributes:
        link: Scale of the residuals.
        sign: 1 where lower is better, -1 where higher is better.
        origin: Where u is 0: the bound that a perfect system would reach, where bounds are declared.
        bounds: The declared bounds of y, or None.
    """

    link: Link
    sign: float = 1.0
    origin: float = 0.0
    bounds: tuple[float, float] | None = None

    @property
    def better(self) -> str:
        """Which way is better: "lower" or "higher"."""
        return "lower" if self.sign > 0 else "higher"

    def orient(self, y: npt.ArrayLike) -> Floats:
        """Return u for metric values y."""
        return self.sign * (np.asarray(y, float) - self.origin)

    def restore(self, u: npt.ArrayLike) -> Floats:
        """Return metric values y for u."""
        return self.origin + self.sign * np.asarray(u, float)

    def target(self, y: npt.ArrayLike) -> Floats:
        """Return z(u(y)), the scale of the residuals."""
        return self.link.forward(self.orient(y))[0]

    def value(self, z: npt.ArrayLike) -> Floats:
        """Return metric values for points of the residual scale."""
        return self.restore(self.link.inverse(np.asarray(z, float)))


def make_axis(link: str, y: Floats, better: str = "lower", bounds: tuple[float, float] | None = None) -> Axis:
    """Return the axis for a metric.

    Args:
        link: "log" (relative errors), "identity" (absolute, in units of the median |y|) or "logit" (needs bounds).
        y: Values of the metric, from which the unit of the identity link is taken.
        better: "lower" or "higher".
        bounds: (low, high), the values that the metric cannot leave.

    Raises:
        UnknownNameError: No such link.
        UsageError: The link needs bounds that are not declared, or `better` is neither word.
    """
    if link not in LINKS:
        raise UnknownNameError("link", link, LINKS)
    if better not in {"lower", "higher"}:
        raise UsageError(f"better must be 'lower' or 'higher', not {better!r}")
    if bounds is not None and not (math.isfinite(bounds[0]) and math.isfinite(bounds[1]) and bounds[0] < bounds[1]):
        raise UsageError(f"bounds must be two finite numbers, the lower first, not {bounds}")
    sign = 1.0 if better == "lower" else -1.0
    if link == "identity":
        scale = float(np.median(np.abs(y))) if len(y) else 1.0
        return Axis(Identity(scale if scale > 0 else 1.0), sign, 0.0, bounds)
    if bounds is None:
        if link == "logit":
            raise UsageError("the logit link needs the bounds of the metric, such as bounds=(1, 5) for a MOS")
        if better == "higher":
            raise UsageError(
                "a metric of which more is better falls towards its upper bound: declare bounds=(low, high), "
                "or use link='identity'"
            )
        return Axis(Log(), sign)
    origin = bounds[0] if sign > 0 else bounds[1]
    return Axis(LINKS[link](bounds[1] - bounds[0]), sign, origin, bounds)
