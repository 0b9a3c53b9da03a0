"""One HTML page of a study, with its figures as SVG, PNG and PDF; untrusted text is HTML-escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval.core.drawing import pdf, png, shown, svg
from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.report.html import environment, inline, write_files
from cdslm_eval.scaling.output import text as views
from cdslm_eval.scaling.output.document import study_document
from cdslm_eval.scaling.output.figures import FIGURES, draw
from cdslm_eval.scaling.output.figures.parts import paper_style
from cdslm_eval.scaling.output.text import View
from cdslm_eval.scaling.study import Study

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

__all__ = ["write_figures", "write_fit_report"]

_MOST_EXCLUDED = 200
# at this width the figures' 8 pt letters are as large as the page's small print
_REM_PER_INCH = 7.5


@dataclass(frozen=True, slots=True)
class _Picture:
    """A figure on the page."""

    svg: Markup
    caption: str
    width_rem: float


@dataclass(slots=True)
class _Section:
    """A part of the page."""

    anchor: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[View] = ()
    figures: list[_Picture] = field(default_factory=list)


# section -> its figures
_FIGURES = {
    "optima": ("isoflop", "optima"),
    "near": ("near-optimal", "curvature", "paper"),
    "quality": ("residuals", "predicted", "rollout", "bootstrap"),
    "downstream": ("metric-loss",),
}


def write_fit_report(study: Study, folder: Path) -> Path:
    """Write `index.html`, `fit.json`, and `figures/*.svg`, `*.png` and `*.pdf`.

    Args:
        study: Of `cdslm_eval.scaling.study.study`.
        folder: Made when absent; files of an earlier report are replaced.

    Returns:
        The page.

    Raises:
        UsageError: The folder cannot be written.
        StoreError: The disk is full.
    """
    files: dict[str, str | bytes] = {}
    pictures: dict[str, _Picture] = {}
    for index, (name, figure, caption) in enumerate(draw(study)):
        drawn = _drawn(figure, f"figures/{name}", files)
        pictures[name] = _Picture(inline(drawn, index), caption, round(_REM_PER_INCH * figure.get_figwidth() + 1, 1))
    document = study_document(study)
    sections = [
        part
        for part in (_fit(study), _optima(study), _near(study), _quality(study), _downstream(study), _verdict(study))
        if part
    ]
    for section in sections:
        section.figures = [pictures[name] for name in _FIGURES.get(section.anchor, ()) if name in pictures]
    excluded = study.table.excluded if study.fit is None else study.fit.excluded
    page = (
        environment()
        .get_template("fit.html.j2")
        .render(
            metric=shown(study.metric),
            headline=study.headline,
            verdict="" if study.verdict is None else f"{study.verdict.sentence}.",
            warnings=_warnings(study),
            sections=sections,
            data=_data(study),
            excluded=excluded,
            unused=[(entry.line, entry.reason) for entry in excluded[:_MOST_EXCLUDED]],
            most=_MOST_EXCLUDED,
            quote=document["quote"],
            settings=json.dumps(document["settings"], indent=1, ensure_ascii=False),
        )
    )
    files["fit.json"] = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files["index.html"] = page
    write_files(folder, files)
    return folder / "index.html"


def write_figures(study: Study, folder: Path, names: Sequence[str]) -> list[Path]:
    """Write figures alone, each as SVG, PNG and PDF.

    Args:
        study: Of `cdslm_eval.scaling.study.study`.
        folder: Made when absent.
        names: Of `cdslm_eval.scaling.output.figures.FIGURES`.

    Returns:
        The files.

    Raises:
        UnknownNameError: No such figure.
        UsageError: The study lacks what a figure shows, or the folder cannot be written.
    """
    files: dict[str, str | bytes] = {}
    for name in names:
        if name not in FIGURES:
            raise UnknownNameError("figure", name, FIGURES)
        figure = FIGURES[name][0](study)
        if figure is None:
            reasons = "; ".join(study.missing.values())
            raise UsageError(
                f"no figure {name!r}: this study lacks what it shows" + (f" ({reasons})" if reasons else "")
            )
        _drawn(figure, name, files)
    write_files(folder, files)
    return [folder / name for name in files]


def _drawn(figure: Figure, stem: str, files: dict[str, str | bytes]) -> str:
    """Add a figure's files, and return it as SVG."""
    with paper_style():
        drawn = svg(figure)
        # laid out by now; a second time would find the same
        figure.set_layout_engine("none")
        files |= {f"{stem}.svg": drawn, f"{stem}.png": png(figure), f"{stem}.pdf": pdf(figure)}
    return drawn


def _warnings(study: Study) -> list[str]:
    flags = [
        f"{'Doubt: ' if flag.doubt else ''}{flag.name.replace('_', ' ')}: {flag.sentence}." for flag in study.flags
    ]
    return flags + [f"No {part}: {reason}" for part, reason in study.missing.items()]


def _fit(study: Study) -> _Section | None:
    if study.fit is None:
        return None
    return _Section("fit", "The law", (views.estimator_line(study),), (views.parameter_view(study),))


def _optima(study: Study) -> _Section | None:
    paragraphs = list(views.exponent_lines(study))
    tables = []
    if study.optima is not None:
        tables.append(views.optimum_view(study.optima, study.metric, study.settings.resampling.level))
    if study.isoflops is not None:
        paragraphs.append(f"Each budget alone, without a law: {study.isoflops.headline}.")
        tables.append(views.isoflop_view(study.isoflops))
    return _Section("optima", "Compute-optimal models", paragraphs, tables) if tables else None


def _near(study: Study) -> _Section | None:
    if not study.near_optima:
        return None
    words = (
        "How far a model may be from the best size. The curvature is shown twice: by the law, whose form makes it fall "
        "with compute, and by each budget's own curve, which assumes no law."
    )
    return _Section(
        "near",
        "Near-optimal range and curvature",
        (words, *(f"{s[0].upper()}{s[1:]}." for s in (study.curvature.sentences if study.curvature else ()))),
        (views.near_view(study.near_optima[1:2], study.settings.resampling.level),),
    )


def _quality(study: Study) -> _Section | None:
    if study.fit is None:
        return None
    paragraphs = [] if study.holdout is None else [f"Held out: {study.holdout.sentence}."]
    paragraphs += [] if study.influence is None else [f"Influence: {study.influence.sentence}."]
    tables = [views.rollout_view(study.rollout)] if study.rollout else []
    return _Section("quality", "How well it predicts", paragraphs, tables)


def _downstream(study: Study) -> _Section | None:
    if study.downstream is None:
        return None
    stage = study.downstream
    tables = [views.downstream_view(stage), views.map_view(stage), views.staged_view(study)]
    if len(stage.held_out):
        tables.insert(2, views.held_out_view(stage))
    return _Section("downstream", "Through the loss", (study.downstream.headline,), tables)


def _verdict(study: Study) -> _Section | None:
    verdict = study.verdict
    if verdict is None:
        return None
    judged = (
        f"Noise of one run {verdict.noise:.3g}; changes up to {verdict.margin:.3g} count as none. The verdict rests on "
        "a regression without a law, and on a law fitted by Huber with a delta of that noise, so its limit may differ "
        "a little from the law above."
    )
    reach = () if verdict.reach is None else (f"Baseline {verdict.reach.label}: {verdict.reach.sentence}.",)
    return _Section(
        "verdict", f"Verdict: {verdict.label}", (*(f"{sentence}." for sentence in verdict.evidence), *reach, judged)
    )


def _data(study: Study) -> list[tuple[str, Any]]:
    table = study.table
    return [
        ("Source", table.source),
        ("SHA-256 of the rows", table.digest),
        ("Rows", f"{int((~study.test).sum())} to fit, {int(study.test.sum())} held out"),
        ("Compute", table.compute_check().sentence),
        *((f"Convention: {name}", text) for name, text in table.conventions.items()),
    ]
