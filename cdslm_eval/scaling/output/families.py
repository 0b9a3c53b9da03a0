"""Groups of a table as tables of text and as a JSON document."""

from __future__ import annotations

import math
from typing import Any

from cdslm_eval.results.numbers import to_json
from cdslm_eval.results.quotation import quotation
from cdslm_eval.scaling.families import Families, Member, plausible, probability
from cdslm_eval.scaling.isocurve import PowerLaw
from cdslm_eval.scaling.joint import SHARING, JointFit
from cdslm_eval.scaling.multiplier import Multiplier
from cdslm_eval.scaling.output.document import law_document, settings_document
from cdslm_eval.scaling.output.text import View, between, plain
from cdslm_eval.scaling.table import RunTable

__all__ = ["families_document", "families_views"]

_EXPONENTS = {"N_exponent": "exponent of N*", "ratio_exponent": "exponent of r*"}


def families_views(families: Families) -> tuple[View, ...]:
    """Return the tables of groups: each law, each group's budgets, the joint fits, the multipliers."""
    views = []
    if any(member.fit is not None for member in families.members):
        views.append(_law_view(families))
    if any(member.isoflops is not None and len(member.isoflops.optima) > 1 for member in families.members):
        views.append(_budget_view(families))
    if families.joint:
        views.append(_joint_view(families))
    if families.multipliers:
        views.append(_multiplier_view(families))
    return tuple(views)


def _law_view(families: Families) -> View:
    """Return each group's own law."""
    names = next(tuple(m.fit.problem.form.parameters) for m in families.members if m.fit is not None)
    rows: list[tuple[str, ...]] = []
    for member in families.members:
        if member.fit is None:
            rows.append((member.name, str(len(member.table)), *["—"] * (len(names) + 3), member.missing))
            continue
        cells = [_cell(member, name) for name in ("E", *names)]
        optimum = member.fit.law.has_optimum
        cells += [_exponent(member, name) if optimum else "—" for name in _EXPONENTS]
        remark = "; ".join(flag.name for flag in member.fit.flags if flag.doubt)
        rows.append((member.name, str(member.fit.n_rows), *cells, f"not to be trusted: {remark}" if remark else ""))
    headings = (families.column, "rows", "E", *names, *_EXPONENTS.values(), "remark")
    return View(
        f"{families.metric}: a law of each group, with {100 * families.level:g} % intervals", headings, tuple(rows)
    )


def _cell(member: Member, name: str) -> str:
    assert member.fit is not None
    value = plain(member.fit.parameters[name])
    if member.bootstrap is None or name in member.fit.problem.form.scales or (name.isupper() and name != "E"):
        return value
    low, high = member.bootstrap.interval(name)
    return f"{value} [{between(low, high, 3)}]"


def _exponent(member: Member, name: str) -> str:
    value, (low, high) = _exponent_values(member, name)
    return f"{value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f} … {high:.3f}]")


def _exponent_values(member: Member, name: str) -> tuple[float, tuple[float, float]]:
    assert member.fit is not None
    value = float(getattr(member.fit.law.curve, name))
    return value, (math.nan, math.nan) if member.bootstrap is None else member.bootstrap.interval(name)


def _budget_view(families: Families) -> View:
    """Return how the optima of each group's budgets grow."""
    rows: list[tuple[str, ...]] = []
    for member in families.members:
        isoflops = member.isoflops
        if isoflops is None:
            rows.append((member.name, "0", "—", "—", "—"))
            continue
        laws = [getattr(isoflops, f"{name}_law") for name in ("N", "ratio", "kappa")]
        count = f"{len(isoflops.optima)} of {len(isoflops.budgets)}"
        rows.append((member.name, count, *("—" if law is None else _power(law) for law in laws)))
    headings = (families.column, "budgets with an optimum", "exponent of N*", "exponent of r*", "exponent of kappa")
    return View("Each budget of each group by itself", headings, tuple(rows))


def _power(law: PowerLaw) -> str:
    low, high = law.interval
    return f"{law.exponent:.3f}" + ("" if math.isnan(low) else f" [{low:.3f} … {high:.3f}]")


def _joint_view(families: Families) -> View:
    rows = []
    for fit in families.joint:
        mark = " (chosen)" if fit is families.chosen else ""
        p = "—" if math.isnan(fit.p) else probability(fit.p).removeprefix("= ")
        cells = (str(fit.parameters), plain(fit.objective, 5), f"{fit.criterion:.1f}", p)
        rows.append((f"{fit.shared}{mark}", SHARING[fit.shared], *cells))
    headings = ("shared", "", "parameters", "objective", "AICc above best", "p against a law of each")
    return View("Joint fits", headings, tuple(rows))


def _multiplier_view(families: Families) -> View:
    """Return the compute of each group at stated values of the metric; one row where it is the same at all of them."""
    assert families.compared is not None
    # a plausible fit in which the multiplier depends on the value makes its interval depend on it
    alone = len(plausible(families.joint, families.compared)) == 1
    rows: list[tuple[str, ...]] = []
    for multiplier in families.multipliers:
        pair = (multiplier.group, multiplier.against)
        if alone and not multiplier.depends:
            cells = (_share(multiplier.value), between(*multiplier.interval, 3))
            rows.append((*pair, "every value", "—", "—", *cells, multiplier.beyond))
            continue
        for at in multiplier.at:
            budgets = (_flops(at.C), _flops(at.needed))
            rows.append((*pair, f"{at.metric:.6g}", *budgets, _share(at.value), between(*at.interval, 3), at.beyond))
    interval = f"{100 * families.level:g} %"
    headings = ("group", "against", f"{families.metric} at", "against: C [FLOP]", "group: C [FLOP]", "ratio", interval)
    # in lines, since a column of them would be wider than the rest
    marked = list(dict.fromkeys(row[-1] for row in rows if row[-1]))
    shown = tuple((*row[:-1], f"extrapolated ({marked.index(row[-1]) + 1})" if row[-1] else "") for row in rows)
    note = "; ".join(f"({number}) {text}" for number, text in enumerate(marked, 1))
    title = f"Compute of a group over that of another for the same {families.metric}"
    return View(title, (*headings, "remark"), shown, note)


def _share(value: float) -> str:
    return plain(value, 3) if math.isfinite(value) else "not reached"


def _flops(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not reached"


def families_document(families: Families, table: RunTable, options: dict[str, Any]) -> dict[str, Any]:
    """Return what `cdslm-eval fit --group COLUMN --json` writes.

    Args:
        families: The groups.
        table: All rows.
        options: What was chosen, for `settings`.
    """
    document: dict[str, Any] = to_json(
        {
            "headline": families.headline,
            "doubts": families.doubts,
            "column": families.column,
            "groups": [_member(member, families.level) for member in families.members],
            "joint": [_joint(fit) for fit in families.joint],
            "chosen": None if families.chosen is None else families.chosen.shared,
            "compared": None if families.compared is None else families.compared.shared,
            "why": families.why,
            "multipliers": [_multiplier(multiplier) for multiplier in families.multipliers],
            "missing": families.missing,
            "quote": _quote(families),
            "settings": settings_document(table, families.metric, options)
            | {"excluded": [{"line": row.line, "reason": row.reason} for row in families.excluded]},
        }
    )
    return document


def _quote(families: Families) -> dict[str, Any]:
    """Return what can be pasted into a paper: the headline as a sentence, the law's citations, BibTeX."""
    from cdslm_eval import __version__

    fits = [member.fit for member in families.members if member.fit is not None]
    citations = fits[0].problem.form.citation if fits else ()
    return quotation([f"{families.headline.rstrip('.')}; cdslm-eval {__version__}."], citations, __version__)


def _member(member: Member, level: float) -> dict[str, Any]:
    fit, draws, isoflops = member.fit, member.bootstrap, member.isoflops
    exponents = {}
    if fit is not None and fit.law.has_optimum:
        exponents = {name: _exponent_values(member, name) for name in _EXPONENTS}
    laws = {} if isoflops is None else {name: getattr(isoflops, f"{name}_law") for name in ("N", "D", "ratio", "kappa")}
    return {
        "group": member.name,
        "rows": len(member.table),
        "law": None if fit is None else law_document(fit),
        "trusted": fit is not None and fit.trusted,
        "intervals": {} if fit is None or draws is None else {p: draws.interval(p, level) for p in fit.parameters},
        "exponents": {name: {"value": value, "interval": ends} for name, (value, ends) in exponents.items()},
        "isoflops": {
            f"{name}_law": None if law is None else {"exponent": law.exponent, "interval": law.interval, "n": law.n}
            for name, law in laws.items()
        },
        "flags": [] if fit is None else list(fit.flags),
        "missing": member.missing,
    }


def _joint(fit: JointFit) -> dict[str, Any]:
    return {
        "shared": fit.shared,
        "parameters": fit.parameters,
        "objective": fit.objective,
        "aicc_above_best": fit.criterion,
        "p": fit.p,
        "laws": {name: dict(law.parameters) for name, law in fit.laws.items()},
    }


def _multiplier(multiplier: Multiplier) -> dict[str, Any]:
    fields = ("group", "against", "C", "value", "interval", "ends", "depends", "at", "beyond", "unknown", "sentence")
    return {name: getattr(multiplier, name) for name in fields}
