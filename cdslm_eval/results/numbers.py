"""Numbers for machines and for readers: one JSON encoder, one format of a value with its interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

__all__ = [
    "UNKNOWN",
    "decimals_beside",
    "decimals_of",
    "format_interval",
    "format_number",
    "format_p",
    "format_value",
    "to_json",
]

UNKNOWN = "—"
_MAX_DECIMALS = 6


def to_json(value: Any) -> Any:
    """Convert a value to what strict JSON holds: NaN and infinities become null, dataclasses objects.

    Example:
        >>> to_json({"low": float("nan"), "orders": (1, 2)})
        {'low': None, 'orders': [1, 2]}
    """
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without importing numpy
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decimals_of(low: float, high: float) -> int | None:
    """Return the decimals that an interval deserves: two digits of its half-width; None where it has no width.

    Example:
        >>> decimals_of(0.31, 0.42), decimals_of(120.0, 160.0), decimals_of(1.0, float("nan"))
        (3, 0, None)
    """
    half = (high - low) / 2
    if not math.isfinite(half) or half <= 0:
        return None
    return min(_MAX_DECIMALS, max(0, 1 - math.floor(math.log10(half))))


def decimals_beside(low: float, high: float, bound: float) -> int | None:
    """Return the decimals of an interval that is read against a bound: enough that neither end looks like the bound.

    Example:
        >>> decimals_beside(0.0196, 0.0604, 0.02), decimals_beside(0.0112, 0.0604, 0.02)
        (4, 3)
    """
    decimals = decimals_of(low, high)
    if decimals is None or not math.isfinite(bound):
        return decimals
    while decimals < _MAX_DECIMALS and any(
        end != bound and round(end, decimals) == round(bound, decimals) for end in (low, high)
    ):
        decimals += 1
    return decimals


def format_number(value: float | None, decimals: int | None = None) -> str:
    """Format a number with its decimals, by default with four significant digits.

    Example:
        >>> format_number(0.123456), format_number(0.123456, 2), format_number(float("nan")), format_number(12000.0)
        ('0.1235', '0.12', '—', '12000')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if decimals is not None:
        text = f"{value:.{decimals}f}"
        return text.removeprefix("-") if float(text) == 0 else text
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def format_p(value: float) -> str:
    """Format a p value with two digits; below a ten-thousandth no digit of it is worth quoting.

    Example:
        >>> format_p(0.04706), format_p(6.5e-7), format_p(float("nan"))
        ('0.047', '<0.0001', '—')
    """
    return "<0.0001" if value < 1e-4 else format_number(float(f"{value:.2g}"))


def format_value(value: float, low: float, high: float) -> str:
    """Format a value with its interval, as precisely as the interval deserves; bounds alone where there is no value.

    Example:
        >>> format_value(0.12345, 0.1, 0.15), format_value(float("nan"), 0.1, 0.15)
        ('0.123 (0.100 … 0.150)', 'within 0.100 … 0.150')
        >>> format_value(0.5, 0.25, float("nan"))
        '0.5 (0.25 … open)'
    """
    if not math.isfinite(value):
        return f"within {format_interval(low, high)}" if math.isfinite(high) else UNKNOWN
    if not (math.isfinite(low) or math.isfinite(high)):
        return format_number(value)
    return f"{format_number(value, decimals_of(low, high))} ({format_interval(low, high)})"


def format_interval(low: float, high: float, decimals: int | None = None) -> str:
    """Format an interval; "open" for an end that is not known, a dash where neither is.

    Example:
        >>> format_interval(0.123, 0.456, 2), format_interval(3.5, float("nan"))
        ('0.12 … 0.46', '3.5 … open')
    """
    if not (math.isfinite(low) or math.isfinite(high)):
        return UNKNOWN
    decimals = decimals_of(low, high) if decimals is None else decimals
    ends = (format_number(end, decimals) if math.isfinite(end) else "open" for end in (low, high))
    return " … ".join(ends)
