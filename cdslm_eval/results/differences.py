"""`Difference` of two systems under one value, and Holm's correction over many of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Difference", "holm", "with_holm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A - B under one value name.

    Attributes:
        name, unit, better, identity: What was compared.
        quantity: "corrected" for divergences (at one phone count) and distances of sets, "value" otherwise.
        a, b: Both values; NaN where only the difference is computed.
        difference, low, high: A - B and its 95 % interval.
        p_value, p_holm: Two-sided p of no difference, as it is and Holm-corrected over the names.
        detectable: The difference that samples such as these show with 80 % power at the 5 % level.
        paired: Whether clips were compared key by key.
        n_unpaired: Clips whose key only one side has, which a paired comparison leaves out.
        method: The test.
        reason: Why numbers are NaN, or "".
    """

    name: str
    unit: str
    better: str
    identity: str
    quantity: str
    difference: float
    low: float
    high: float
    p_value: float
    detectable: float
    paired: bool
    method: str
    a: float = math.nan
    b: float = math.nan
    p_holm: float = math.nan
    n_unpaired: int = 0
    reason: str = ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p values; NaN stays and does not count.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if math.isfinite(p))
    adjusted = [math.nan] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p))
        adjusted[index] = running
    return adjusted


def with_holm(differences: Sequence[Difference]) -> list[Difference]:
    """Return differences with their p values Holm-corrected over all of them."""
    adjusted = holm([difference.p_value for difference in differences])
    return [dataclasses.replace(difference, p_holm=p) for difference, p in zip(differences, adjusted, strict=True)]
