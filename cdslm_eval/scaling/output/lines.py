"""Lines of a table as text: which were not used, and why."""

from __future__ import annotations

from collections.abc import Iterable

from cdslm_eval.scaling.table import Excluded

__all__ = ["excluded_texts", "lines_text"]


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


def excluded_texts(excluded: Iterable[Excluded]) -> list[str]:
    """Return which lines were not used, a text for each reason.

    Example:
        >>> excluded_texts([Excluded(3, "loss is missing"), Excluded(4, "loss is missing")])
        ['lines 3-4: loss is missing']
    """
    reasons: dict[str, list[int]] = {}
    for row in excluded:
        reasons.setdefault(row.reason, []).append(row.line)
    return [f"line{'s' * (len(where) > 1)} {lines_text(where)}: {reason}" for reason, where in reasons.items()]
