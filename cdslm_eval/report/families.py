"""One HTML page of groups of runs side by side, with their figure; each group's own page lies beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core.drawing import shown
from cdslm_eval.core.errors import UsageError
from cdslm_eval.report.fit_page import Section, drawn, picture, render
from cdslm_eval.report.html import write_files
from cdslm_eval.scaling.families import Families
from cdslm_eval.scaling.output.families import families_views
from cdslm_eval.scaling.output.figures.families import caption, compared_families
from cdslm_eval.scaling.output.lines import excluded_texts

__all__ = ["write_families_figure", "write_families_report"]

NAME = "families"


def write_families_report(
    families: Families, document: Mapping[str, Any], folder: Path, pages: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write `index.html`, `fit.json`, and `figures/families.svg`, `.png` and `.pdf`.

    Args:
        families: Of `cdslm_eval.scaling.families.fit_families`.
        document: Of `cdslm_eval.scaling.output.families.families_document`.
        folder: Made when absent; files of an earlier report are replaced.
        pages: (group, address relative to the folder) of the groups' own pages.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    files: dict[str, str | bytes] = {}
    views = {view.title: view for view in families_views(families)}
    compared = Section("families", "Groups side by side", _sentences(families), list(views.values()))
    figure = compared_families(families)
    if figure is not None:
        compared.figures = [picture(figure, NAME, 0, caption(families), files)]
    sections = [compared]
    if pages:
        sections.append(Section("groups", "Each group by itself", links=pages))
    settings = document["settings"]
    files["index.html"] = render(
        title=f"How {shown(families.metric)} scales, by {shown(families.column)}",
        headline=f"{families.headline}.",
        warnings=_warnings(families),
        sections=sections,
        data=[
            ("Source", settings["source"]),
            ("SHA-256 of the rows", settings["digest"]),
            *((f"Rows of {member.name}", str(len(member.table))) for member in families.members),
            ("Compute", families.table.compute_check().sentence),
            *(("Not used", text) for text in excluded_texts(families.excluded)),
            *((f"Convention: {name}", text) for name, text in families.table.conventions.items()),
        ],
        document=document,
    )
    files["fit.json"] = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_files(folder, files)
    return folder / "index.html"


def write_families_figure(families: Families, folder: Path) -> list[Path]:
    """Write the figure alone, as SVG, PNG and PDF.

    Raises:
        UsageError: There is nothing to draw, or the folder cannot be written.
    """
    figure = compared_families(families)
    if figure is None:
        raise UsageError(f"no figure {NAME!r}: no group has a law or budgets with an optimum")
    files: dict[str, str | bytes] = {}
    drawn(figure, NAME, files)
    write_files(folder, files)
    return [folder / name for name in files]


def _sentences(families: Families) -> list[str]:
    why = [f"{families.why[0].upper()}{families.why[1:]}."] if families.why else []
    return why + [f"{multiplier.sentence}." for multiplier in families.multipliers]


def _warnings(families: Families) -> list[str]:
    doubts = [
        f"{member.name}: {flag.name.replace('_', ' ')}: {flag.sentence}."
        for member in families.members
        for flag in (() if member.fit is None else member.fit.flags)
        if flag.doubt
    ]
    missing = [f"{member.name}: {member.missing}." for member in families.members if member.missing]
    return doubts + missing
