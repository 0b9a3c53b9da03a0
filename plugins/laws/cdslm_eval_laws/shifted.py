"""The chinchilla law with an offset of N: parameters that every model has, such as embeddings, count from the start."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from cdslm_eval import LawForm
from cdslm_eval_laws.papers import RECONCILING

__all__ = ["Shifted"]

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]


class Shifted(LawForm):
    """E + A (N + M)^-alpha + B D^-beta.

    Source: Pearce & Song, "Reconciling Kaplan and Chinchilla scaling laws" (arXiv 2406.12907), for what counting
    parameters without embeddings does to a law; there the embeddings grow with the width, here M is one constant.
    """

    name = "shifted"
    citation = (RECONCILING,)
    formula = "E + A (N + M)^-alpha + B D^-beta"
    latex = r"E + A (N + M)^{-\alpha} + B D^{-\beta}"
    template = "{A:.4g} (N + {M:.4g})^-{alpha:.4f} + {B:.4g} D^-{beta:.4f}"
    parameters = ("A", "M", "alpha", "B", "beta")
    scales = {"A": ("N", "alpha"), "B": ("D", "beta")}  # noqa: RUF012 - a class attribute of the contract
    linear = ("A", "B")

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of the search."""
        return {"A": (1e-3, 1e9), "M": (1e3, 1e12), "alpha": (0.01, 2.0), "B": (1e-3, 1e9), "beta": (0.01, 2.0)}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E."""
        return np.asarray(p["A"] * (x["N"] + p["M"]) ** -p["alpha"] + p["B"] * x["D"] ** -p["beta"])

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives."""
        size, power = x["N"] + p["M"], x["D"] ** -p["beta"]
        first = size ** -p["alpha"]
        return {
            "A": first,
            "M": -p["alpha"] * p["A"] * first / size,
            "alpha": -p["A"] * first * np.log(size),
            "B": power,
            "beta": -p["B"] * power * np.log(x["D"]),
        }
