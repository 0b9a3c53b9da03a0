"""Curves of isoFLOPs that can be chosen, and `cdslm-eval fit power-law`: optima that are known already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli.fit_options import JsonToOption, deliver
from cdslm_eval.core.errors import UsageError

if TYPE_CHECKING:
    from cdslm_eval.scaling.isocurve import PowerLaw

__all__ = ["Curves", "power_law"]


@dataclass(frozen=True, slots=True)
class Curves:
    """Which curve is fitted to each budget, and to which of its rows."""

    curve: Annotated[
        str | None,
        typer.Option(
            "--curve",
            help="skewed (default: a law's shape, its exponents from the budgets' curves), polynomial in ln N, akima "
            "(interpolation), or law (the shape of the fitted law).",
        ),
    ] = None
    degree: Annotated[
        int | None, typer.Option("--degree", help="2 or 3 of the polynomial; default: the better by AICc.")
    ] = None
    window: Annotated[
        float | None,
        typer.Option("--window", help="Use rows within this share of the least metric of their budget: 0.05."),
    ] = None

    def options(self) -> dict[str, Any]:
        """Return the options of `fit_isoflops`."""
        return {"curve": self.curve, "degree": self.degree, "window": self.window}


def power_law(
    optima: Annotated[str, typer.Argument(metavar="OPTIMA", help="A table with a row per optimum.")],
    y: Annotated[str, typer.Option("--y", help="Column of the optima, such as n_star.")],
    x: Annotated[
        str | None, typer.Option("--x", help="Column of the budgets. Default: C, or what C is usually called.")
    ] = None,
    log_std: Annotated[
        str | None, typer.Option("--log-std", help="Column of the standard deviation of ln y, for weights.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Keep rows of which all hold: decay=cosine.")
    ] = None,
    level: Annotated[float, typer.Option("--level", min=0.5, max=0.999, help="Of the interval.")] = 0.95,
    json_to: JsonToOption = None,
) -> None:
    """Fit y = coefficient C^exponent to a table of optima; rows that repeat an optimum count once."""
    from cdslm_eval.results.numbers import to_json
    from cdslm_eval.scaling.isocurve import fit_power_law

    names, points = _points(optima, [x, y, *([log_std] if log_std else [])], where or [])
    columns = list(zip(*points, strict=True))
    law = fit_power_law(columns[0], columns[1], columns[2] if log_std else None, level)
    document = {
        "exponent": law.exponent,
        "interval": law.interval,
        "level": law.level,
        "log_coefficient": law.log_coefficient,
        "n": law.n,
        "points": [dict(zip(names, point, strict=True)) for point in points],
    }
    deliver(to_json(document), lambda: _text(law, names[0], y, points), json_to)


def _points(path: str, columns: Sequence[str | None], rules: list[str]) -> tuple[list[str], list[tuple[float, ...]]]:
    """Return the names of some columns, of which None is that of C, and their distinct rows, in order.

    Raises:
        UsageError: A column is missing, a cell is no number, or no row is left.
    """
    import numpy as np

    from cdslm_eval.core.errors import did_you_mean
    from cdslm_eval.core.records import parse_quantity, read_records
    from cdslm_eval.scaling.columns import matches, usual

    records = read_records(path)
    known = list(dict.fromkeys(str(name) for _, row in records for name in row))
    budgets = usual("C", known)
    # two columns of budgets leave the choice to the user, whom the message lists both
    names = [(budgets[0] if len(budgets) == 1 else "C") if name is None else name for name in columns]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{path}: no column {name!r}.{did_you_mean(name, known) or ' It has: ' + ', '.join(known)}"
            )
    texts: dict[str, Any] = {
        name: np.array([str(row.get(name, "")) for _, row in records], dtype=str) for name in known
    }
    texts["line"] = np.array([line for line, _ in records])
    keep = np.ones(len(records), bool)
    for rule in rules:
        keep &= matches(texts, rule)
    points = []
    for (line, row), kept in zip(records, keep, strict=True):
        if kept:
            try:
                points.append(tuple(parse_quantity(row.get(name)) for name in names))
            except ValueError as error:
                raise UsageError(f"{path}, line {line}: {error}") from error
    if not points:
        raise UsageError(f"{path}: no row is left")
    return names, list(dict.fromkeys(points))


def _text(law: PowerLaw, x: str, y: str, points: list[tuple[float, ...]]) -> str:
    from cdslm_eval.cli.fit_text import table_text
    from cdslm_eval.scaling.output.text import View, between, plain

    low, high = law.interval
    first = (
        f"{y} goes as {x}^{law.exponent:.4f} ({100 * law.level:g} % interval {between(low, high)}) over {law.n} optima."
    )
    rows = []
    for point in points:
        least, most = (float(end) for end in law.band(point[0], law.level))
        fitted = float(law.value(point[0]))
        rows.append(
            (
                plain(point[0], 3),
                plain(point[1]),
                plain(fitted),
                between(least, most),
                f"{point[1] / fitted - 1:+.1%}",
            )
        )
    headings = (x, y, "law", f"{100 * law.level:g} %", "off by")
    return f"{first}\n\n{table_text(View('Optima', headings, tuple(rows)))}\n"
