"""Texts of options of `cdslm-eval fit` as values: epsilons, bounds, NAME=COLUMN pairs, amounts such as 7B."""

from __future__ import annotations

import math

from cdslm_eval.core.errors import UsageError

__all__ = ["bounds", "epsilons", "numbers", "pairs", "quantities"]


def epsilons(texts: list[str] | None) -> tuple[tuple[float, bool], ...]:
    """Return (epsilon, whether it is a share of the optimum's value) of each text; none without texts.

    Raises:
        UsageError: One is no number above 0, or no share below 1.
    """
    chosen = []
    for part in (piece.strip() for text in texts or [] for piece in text.split(",")):
        relative = part.endswith("%")
        try:
            value = float(part.removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0 and not (relative and value >= 1)):
            raise UsageError(
                f"--epsilon {part!r}: write a share of the optimum's value, 1%, or an amount above 0, 0.01"
            )
        chosen.append((value, relative))
    return tuple(chosen)


def pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """Return KEY=VALUE texts as a mapping; one text may hold several, separated by commas.

    Raises:
        UsageError: One has no "=", or a key appears twice.
    """
    out: dict[str, str] = {}
    for part in _split(texts or []):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {part!r}: write NAME=COLUMN, such as N='Model Size',C=flops")
        if key.strip() in out:
            raise UsageError(f"{option}: {key.strip()} appears twice")
        out[key.strip()] = value.strip()
    return out


def _split(texts: list[str]) -> list[str]:
    """Split at the commas after which a new "KEY=" begins: a column's own name may hold commas."""
    parts: list[str] = []
    for text in texts:
        fresh = True
        for piece in text.split(","):
            if fresh or "=" in piece:
                parts.append(piece)
            else:
                parts[-1] += f",{piece}"
            fresh = False
    return parts


def bounds(text: str | None) -> tuple[float, float] | None:
    """Return the lower and the upper bound of "1,5"; None without a text.

    Raises:
        UsageError: It is not two finite numbers, the lower first.
    """
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--bounds {text!r}: two numbers, the lower first: 1,5") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"--bounds {text!r}: two finite numbers, the lower first")
    return low, high


def numbers(option: str, texts: list[str]) -> list[float]:
    """Return finite numbers; one text may hold several, separated by commas.

    Raises:
        UsageError: One is no finite number.
    """
    values = []
    for part in ",".join(texts).split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"{option} {part.strip()!r}: a number, such as 2.5; several are separated by commas")
        values.append(value)
    return values


def quantities(option: str, texts: list[str] | None) -> list[float]:
    """Return amounts such as 1e23, 7B or 1.5T; one text may hold several, separated by commas.

    Raises:
        UsageError: One is not a positive number.
    """
    from cdslm_eval.core.records import parse_quantity

    values = []
    for text in ",".join(texts or []).split(","):
        if text.strip():
            try:
                value = parse_quantity(text)
            except ValueError as error:
                raise UsageError(f"{option} {text!r}: {error}") from error
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{option} {text!r}: a number above 0, such as 1e23, 7B or 1.5T")
            values.append(value)
    return values
