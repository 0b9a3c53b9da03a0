"""The compute of a training run as a function of its parameters and tokens: C = k N^p D^q."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Cost", "fit_cost"]

Floats = npt.NDArray[np.float64]
_LEAST_SPREAD = 1e-3  # of ln N and ln D, each freed of the other, from which on its exponent can be told
_CLIP = 3.0  # spreads beyond which a row hardly counts


@dataclass(frozen=True, slots=True)
class Cost:
    """C = k N^p D^q.

    Attributes:
        k: FLOPs at N = D = 1, above 0; 6 is the usual count of a forward and backward pass.
        p, q: Exponents of parameters and tokens, above 0.
    """

    k: float = 6.0
    p: float = 1.0
    q: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether it is C = k N D."""
        return self.p == self.q == 1.0

    def flops(self, N: npt.ArrayLike, D: npt.ArrayLike) -> Floats:
        """Return C for N parameters and D tokens."""
        if self.plain:
            return np.asarray(self.k * np.asarray(N, float) * np.asarray(D, float))
        return np.asarray(np.exp(self.log_flops(np.log(np.asarray(N, float)), np.log(np.asarray(D, float)))))

    def tokens(self, C: npt.ArrayLike, N: npt.ArrayLike) -> Floats:
        """Return the tokens that a budget leaves for N parameters."""
        if self.plain:
            return np.asarray(np.asarray(C, float) / (self.k * np.asarray(N, float)))
        return np.asarray(np.exp(self.log_tokens(np.log(np.asarray(C, float)), np.log(np.asarray(N, float)))))

    def log_flops(self, log_n: Floats, log_d: Floats) -> Floats:
        """Return ln C."""
        return np.asarray(math.log(self.k) + self.p * log_n + self.q * log_d)

    def log_tokens(self, log_c: Floats, log_n: Floats) -> Floats:
        """Return ln D that a budget leaves for a size."""
        return np.asarray((log_c - math.log(self.k) - self.p * log_n) / self.q)

    def log_balanced(self, log_c: Floats, ratio: float = 1.0) -> Floats:
        """Return ln N of the model of a budget with so many tokens per parameter."""
        return np.asarray((log_c - math.log(self.k) - self.q * math.log(ratio)) / (self.p + self.q))

    def log_largest(self, log_c: Floats) -> Floats:
        """Return ln N of the largest model of a budget, which sees one token."""
        return np.asarray((log_c - math.log(self.k)) / self.p)

    def __str__(self) -> str:
        if self.plain:
            return f"{self.k:g} N D"
        powers = [
            name if exponent == 1 else f"{name}^{exponent:.4g}" for name, exponent in (("N", self.p), ("D", self.q))
        ]
        return f"{self.k:.4g} {' '.join(powers)}"


def fit_cost(N: Floats, D: Floats, C: Floats) -> Cost:
    """Fit C = k N^p D^q by robust least squares in logarithms; an exponent that the rows cannot tell is 1.

    Args:
        N, D, C: Of each run, above 0, `[rows]`.
    """
    x, y, z = np.log(N), np.log(D), np.log(C)
    x, y = x - x.mean(), y - y.mean()
    total = float(x @ x), float(y @ y), float(x @ y)
    # what each has that the other does not share: along one line of N and D only the sum of both powers shows
    own_n = total[0] - (total[2] ** 2 / total[1] if total[1] > 0 else 0.0)
    own_d = total[1] - (total[2] ** 2 / total[0] if total[0] > 0 else 0.0)
    least = _LEAST_SPREAD * len(x)
    both = own_n > least and own_d > least
    columns = [x, y] if both else [x] if total[0] > least else []
    rest = z - (0 if both else np.log(D) if columns else np.log(N) + np.log(D))
    design = np.column_stack([np.ones(len(z)), *columns])
    weight = np.ones(len(z))
    for _ in range(20):
        root = np.sqrt(weight)
        solved = np.linalg.lstsq(design * root[:, None], rest * root, rcond=None)[0]
        r = np.abs(rest - design @ solved)
        spread = max(1.4826 * float(np.median(r)), 1e-12)
        weight = np.minimum(1.0, _CLIP * spread / np.maximum(r, 1e-300))
    p = float(solved[1]) if columns else 1.0
    q = float(solved[2]) if both else 1.0
    centre = p * float(np.log(N).mean()) * bool(columns) + q * float(np.log(D).mean()) * both
    return Cost(math.exp(float(solved[0]) - centre), p, q)
