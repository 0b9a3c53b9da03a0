"""The broken neural scaling law: a power of one column whose exponent changes smoothly at breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cdslm_eval import LawForm
from cdslm_eval_laws.papers import BROKEN

__all__ = ["Broken"]

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]
# where breaks of each column may lie
_PLACES = {"N": (1e3, 1e15), "D": (1e3, 1e17), "C": (1e8, 1e32)}


class BrokenOptions(BaseModel):
    """Options of the broken law."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    breaks: int = Field(default=1, ge=1, le=3, description="how many breaks")
    of: Literal["N", "D", "C"] = Field(default="C", description="the column it is a power of")


class Broken(LawForm):
    """E + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1) ...: the exponent goes from c0 to c0 + c1 at d1.

    The smaller f1, the sharper the break.

    Source: Caballero, Gupta, Rish & Krueger, "Broken neural scaling laws" (ICLR 2023, arXiv 2210.14891), equation 1.
    """

    name = "broken"
    citation = (BROKEN,)
    positional = "breaks"
    Options: ClassVar[type[BaseModel]] = BrokenOptions
    linear = ("b",)

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        x, numbers = self.options.of, range(1, self.options.breaks + 1)
        self.columns = (x,)
        self.parameters = ("b", "c0", *(f"{letter}{i}" for i in numbers for letter in "cdf"))
        self.scales = {"b": (x, "c0")}
        self.formula = f"E + b {x}^-c0 " + " ".join(f"(1 + ({x}/d{i})^(1/f{i}))^(-c{i} f{i})" for i in numbers)
        self.latex = f"E + b {x}^{{-c_0}} " + " ".join(
            rf"\left(1 + ({x}/d_{i})^{{1/f_{i}}}\right)^{{-c_{i} f_{i}}}" for i in numbers
        )

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of the search; the exponent may change either way at a break."""
        box = {"b": (1e-9, 1e15), "c0": (0.001, 3.0)}
        for i in range(1, self.options.breaks + 1):
            box |= {f"c{i}": (-2.0, 3.0), f"d{i}": _PLACES[self.options.of], f"f{i}": (0.02, 3.0)}
        return box

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E."""
        return self._parts(p, x)[0]

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives."""
        value, bends = self._parts(p, x)
        slopes = {"b": value / p["b"], "c0": -value * np.log(x[self.options.of])}
        for i, (place, soft, share) in enumerate(bends, 1):
            c, d, f = (p[f"{letter}{i}"] for letter in "cdf")
            slopes |= {
                f"c{i}": -value * f * soft,
                f"d{i}": value * c * share / d,
                f"f{i}": -value * c * (soft - share * place),
            }
        return slopes

    def _parts(self, p: Values, x: Values) -> tuple[Floats, list[tuple[Floats, Floats, Floats]]]:
        """Return the excess, and per break: (ln(x / d) / f, the softened maximum of it and 0, the share of it)."""
        column = np.log(x[self.options.of])
        total, bends = np.log(p["b"]) - p["c0"] * column, []
        for i in range(1, self.options.breaks + 1):
            place = (column - np.log(p[f"d{i}"])) / p[f"f{i}"]
            soft = np.logaddexp(0.0, place)
            bends.append((place, soft, np.exp(place - soft)))
            total = total - p[f"c{i}"] * p[f"f{i}"] * soft
        return np.exp(np.minimum(total, 700.0)), bends
