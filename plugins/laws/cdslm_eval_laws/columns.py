"""Laws that read a further column of the table: unique tokens, total parameters, another loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from cdslm_eval import LawForm
from cdslm_eval_laws.papers import LOSS_TO_LOSS, REPETITION, ROUTED

__all__ = ["LossToLoss", "Mixture", "Repetition", "effective_tokens"]

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Floats]
_LEAST = 1e-6


class UniqueOptions(BaseModel):
    """Options of the law of repeated data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unique: str = Field(default="unique_tokens", description="column of the tokens that are different")


def effective_tokens(D: npt.ArrayLike, unique: npt.ArrayLike, R: npt.ArrayLike) -> Floats:
    """Return how many unique tokens repeated data is worth.

    Args:
        D: Tokens that were trained on, with repetition.
        unique: Different tokens; more than D count as D.
        R: Repetitions after which a further one is worth 1/e of new tokens; Muennighoff et al. find 15.39.

    Example:
        >>> float(effective_tokens(100.0, 100.0, 15.4)), round(float(effective_tokens(400.0, 100.0, 15.4)), 1)
        (100.0, 372.6)

    Source: Muennighoff et al., "Scaling data-constrained language models" (arXiv 2305.16264), equation 5.
    """
    U = np.minimum(np.asarray(D, float), unique)
    repeated = np.asarray(D, float) / U - 1
    return np.asarray(U * (1 + R * -np.expm1(-repeated / R)))


class Repetition(LawForm):
    """E + A N^-alpha + B D'^-beta, where D' = U + U R (1 - e^(-(D/U - 1) / R)) for U unique tokens.

    Source: Muennighoff et al., "Scaling data-constrained language models" (arXiv 2305.16264), equation 6, without the
    excess of parameters.
    """

    name = "repetition"
    citation = (REPETITION,)
    positional = "unique"
    Options: ClassVar[type[BaseModel]] = UniqueOptions
    parameters = ("A", "alpha", "B", "beta", "R")
    linear = ("A", "B")
    scales = {"A": ("N", "alpha"), "B": ("D", "beta")}  # noqa: RUF012 - a class attribute of the contract
    latex = r"E + A N^{-\alpha} + B \left(U + U R (1 - e^{-(D/U - 1)/R})\right)^{-\beta}"
    template = "{A:.4g} N^-{alpha:.4f} + {B:.4g} D'^-{beta:.4f} (R = {R:.4g})"

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.columns = ("N", "D", self.options.unique)
        U = self.options.unique
        self.formula = f"E + A N^-alpha + B D'^-beta, D' = {U} (1 + R (1 - exp(-(D / {U} - 1) / R)))"

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of the search."""
        return {"A": (1e-3, 1e9), "alpha": (0.01, 2.0), "B": (1e-3, 1e9), "beta": (0.01, 2.0), "R": (0.05, 1e4)}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E."""
        worth = effective_tokens(x["D"], x[self.options.unique], p["R"])
        return np.asarray(p["A"] * x["N"] ** -p["alpha"] + p["B"] * worth ** -p["beta"])

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives."""
        U = np.minimum(x["D"], x[self.options.unique])
        ratio = (x["D"] / U - 1) / p["R"]
        worth = effective_tokens(x["D"], U, p["R"])
        size, data = x["N"] ** -p["alpha"], worth ** -p["beta"]
        by_r = U * (-np.expm1(-ratio) - ratio * np.exp(-ratio))
        return {
            "A": size,
            "alpha": -p["A"] * size * np.log(x["N"]),
            "B": data,
            "beta": -p["B"] * data * np.log(worth),
            "R": -p["B"] * p["beta"] * data / worth * by_r,
        }


class TotalOptions(BaseModel):
    """Options of the law of mixtures of experts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: str = Field(default="N_total", description="column of all parameters; N holds those active per token")


class Mixture(LawForm):
    """E + A (N^(1 - tau) T^tau)^-alpha + B D^-beta for N active and T total parameters.

    tau is how much of a parameter's worth comes from its being there, though few tokens use it: 0 where only active
    parameters count, 1 where all count alike.

    Source: Clark et al., "Unified scaling laws for routed language models" (arXiv 2202.01169), whose effective
    parameters are a product of powers of the dense size and the number of experts.
    """

    name = "moe"
    citation = (ROUTED,)
    positional = "total"
    Options: ClassVar[type[BaseModel]] = TotalOptions
    parameters = ("A", "alpha", "tau", "B", "beta")
    linear = ("A", "B")
    scales = {"A": ("N", "alpha"), "B": ("D", "beta")}  # noqa: RUF012 - a class attribute of the contract
    latex = r"E + A \left(N^{1-\tau} T^{\tau}\right)^{-\alpha} + B D^{-\beta}"
    template = "{A:.4g} (N^(1 - {tau:.3f}) T^{tau:.3f})^-{alpha:.4f} + {B:.4g} D^-{beta:.4f}"

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.columns = ("N", "D", self.options.total)
        self.formula = f"E + A (N^(1 - tau) {self.options.total}^tau)^-alpha + B D^-beta"

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of the search."""
        return {"A": (1e-3, 1e9), "alpha": (0.01, 2.0), "tau": (-0.5, 1.5), "B": (1e-3, 1e9), "beta": (0.01, 2.0)}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E."""
        return np.asarray(p["A"] * np.exp(-p["alpha"] * self._log_size(p, x)) + p["B"] * x["D"] ** -p["beta"])

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives."""
        log_size = self._log_size(p, x)
        size, data = np.exp(-p["alpha"] * log_size), x["D"] ** -p["beta"]
        sparsity = np.log(x[self.options.total]) - np.log(x["N"])
        return {
            "A": size,
            "alpha": -p["A"] * size * log_size,
            "tau": -p["A"] * p["alpha"] * size * sparsity,
            "B": data,
            "beta": -p["B"] * data * np.log(x["D"]),
        }

    def _log_size(self, p: Values, x: Values) -> Floats:
        return np.asarray((1 - p["tau"]) * np.log(x["N"]) + p["tau"] * np.log(x[self.options.total]))


class OtherOptions(BaseModel):
    """Options of the loss-to-loss law."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = Field(default="loss", description="column of the other loss")


class LossToLoss(LawForm):
    """E + K (L - E0)^kappa: one loss as a function of another, with the floor of each.

    Source: Brandfonbrener et al., "Loss-to-loss prediction" (arXiv 2411.12925), equation 2.
    """

    name = "loss-to-loss"
    citation = (LOSS_TO_LOSS,)
    positional = "of"
    Options: ClassVar[type[BaseModel]] = OtherOptions
    parameters = ("K", "E0", "kappa")
    linear = ("K",)
    latex = r"E + K (L - E_0)^{\kappa}"
    template = "{K:.4g} (L - {E0:.4g})^{kappa:.4f}"

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.columns = (self.options.of,)
        self.formula = f"E + K ({self.options.of} - E0)^kappa"

    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """Return the box of the search."""
        return {"K": (1e-6, 1e6), "E0": (1e-3, 1e3), "kappa": (0.05, 10.0)}

    def predict(self, p: Values, x: Values) -> Floats:
        """Return the excess above E; next to nothing where the other loss lies below its floor."""
        return np.asarray(p["K"] * self._above(p, x) ** p["kappa"])

    def gradient(self, p: Values, x: Values) -> Values:
        """Return the derivatives."""
        above = self._above(p, x)
        power = above ** p["kappa"]
        return {
            "K": power,
            "E0": np.where(above > _LEAST, -p["K"] * p["kappa"] * power / above, 0.0),
            "kappa": p["K"] * power * np.log(above),
        }

    def _above(self, p: Values, x: Values) -> Floats:
        # a search may try a floor above some of the data; a number keeps it moving, and the misfit drives it back
        return np.asarray(np.maximum(x[self.options.of] - p["E0"], _LEAST))
