"""How numbers and choices of a fit are said to people: on a terminal, on the page."""

from __future__ import annotations

import math

__all__ = ["between", "count", "estimator_words", "lines_text", "plain", "sign_words"]

_PREFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def plain(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, or a dash where it is not known.

    Example:
        >>> plain(0.34731051), plain(2143.417), plain(3.2e21), plain(float("nan")), plain(0.0)
        ('0.3473', '2143', '3.2e21', '—', '0')
    """
    if not math.isfinite(value):
        return "—"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = f"{value:#.{digits}g}" if value else "0"
        return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else text.rstrip(".")
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def count(value: float, digits: int = 3) -> str:
    """Return a number of parameters or tokens as people write it.

    Example:
        >>> count(7.03e9), count(1.4e12), count(123.0), count(2.5e17)
        ('7.03B', '1.40T', '123', '2.5e17')
    """
    if not math.isfinite(value):
        return "—"
    for unit, letter in _PREFIXES:
        if unit <= value < 1e15:
            return f"{plain(value / unit, digits)}{letter}"
    return plain(value, digits)


def between(low: float, high: float, digits: int = 4, *, counts: bool = False) -> str:
    """Return an interval, or a dash where it is not known.

    Example:
        >>> between(1.769, 1.871, 3), between(7e9, 9.1e9, 2, counts=True), between(float("nan"), 1.0)
        ('1.77 … 1.87', '7.0B … 9.1B', '—')
    """
    if math.isnan(low) or math.isnan(high):
        return "—"
    write = count if counts else plain
    ends = [("−∞" if end < 0 else "∞") if math.isinf(end) else write(end, digits) for end in (low, high)]
    return " … ".join(ends)


def estimator_words(estimator: str, delta: float, link: str, metric: str) -> str:
    """Return which estimator was used, plainly: Huber's and least absolute deviations are often confused.

    Example:
        >>> estimator_words("huber", 1e-3, "log", "loss")
        'Huber loss (sum, delta 0.001) on log loss'
        >>> estimator_words("lad", 0.0, "identity", "mos")
        'least absolute deviations (LAD) on mos'
    """
    on = {"log": f"log {metric}", "logit": f"logit {metric}"}.get(link, metric)
    words = {
        "huber": f"Huber loss (sum, delta {delta:g})",
        "lad": "least absolute deviations (LAD)",
        "least_squares": "least squares",
    }
    return f"{words[estimator]} on {on}"


def sign_words(name: str, value: float, low: float, high: float, level: float) -> str:
    """Return what data say about an exponent of C: it rises, falls, or its sign is not established.

    Example:
        >>> sign_words("r* = D*/N*", -0.027, -0.112, 0.039, 0.95)
        'r* = D*/N* goes as C^-0.027 (95 % interval -0.112 … 0.039): its sign is not established by these data'
    """
    said = f"{name} goes as C^{value:.3f}"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{said} (no interval: its sign is not established)"
    said += f" ({100 * level:g} % interval {low:.3f} … {high:.3f})"
    if low <= 0 <= high:
        return f"{said}: its sign is not established by these data"
    return f"{said}: it {'rises' if low > 0 else 'falls'} with compute"


def lines_text(lines: list[int], most: int = 12) -> str:
    """Return line numbers, runs of them joined, the rest counted.

    Example:
        >>> lines_text([3, 4, 5, 9]), lines_text([1, 3, 5, 7], most=2)
        ('3-5, 9', '1, 3 and 2 more')
    """
    runs: list[list[int]] = []
    for line in sorted(set(lines)):
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    left = sum(len(run) for run in runs[most:])
    return ", ".join(texts[:most]) + (f" and {left} more" if left else "")
