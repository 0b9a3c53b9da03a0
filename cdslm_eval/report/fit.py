"""One HTML page of a study, with its figures as SVG, PNG and PDF; untrusted text is HTML-escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core.drawing import shown
from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.report.fit_page import Picture, Section, drawn, picture, render
from cdslm_eval.report.html import write_files
from cdslm_eval.scaling.output import text as views
from cdslm_eval.scaling.output.document import study_document
from cdslm_eval.scaling.output.figures import FIGURES, NEEDS, draw
from cdslm_eval.scaling.study import Study

__all__ = ["write_figures", "write_fit_report"]

# section -> its figures
_FIGURES = {
    "optima": ("isoflop", "optima"),
    "near": ("near-optimal", "curvature", "paper"),
    "quality": ("residuals", "predicted", "rollout", "bootstrap"),
    "downstream": ("ladder", "metric-loss"),
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
    pictures: dict[str, Picture] = {}
    for index, (name, figure, caption) in enumerate(draw(study)):
        pictures[name] = picture(figure, name, index, caption, files)
    document = study_document(study)
    sections = [
        part
        for part in (_fit(study), _optima(study), _near(study), _quality(study), _downstream(study), _verdict(study))
        if part
    ]
    for section in sections:
        section.figures = [pictures[name] for name in _FIGURES.get(section.anchor, ()) if name in pictures]
    files["index.html"] = render(
        title=f"How {shown(study.metric)} scales",
        headline=study.headline,
        verdict="" if study.verdict is None else f"{study.verdict.sentence}.",
        warnings=_warnings(study),
        sections=sections,
        data=_data(study),
        excluded=study.table.excluded if study.fit is None else study.fit.excluded,
        document=document,
    )
    files["fit.json"] = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
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
            need, parts = NEEDS[name]
            reasons = "; ".join(study.missing[part] for part in parts if part in study.missing)
            raise UsageError(f"no figure {name!r}: it needs {need}" + (f" ({reasons})" if reasons else ""))
        drawn(figure, name, files)
    write_files(folder, files)
    return [folder / name for name in files]


def _warnings(study: Study) -> list[str]:
    flags = [
        f"{'Doubt: ' if flag.doubt else ''}{flag.name.replace('_', ' ')}: {flag.sentence}." for flag in study.flags
    ]
    return flags + [f"No {part}: {reason}" for part, reason in study.missing.items()]


def _fit(study: Study) -> Section | None:
    if study.fit is None:
        return None
    return Section("fit", "The law", (views.estimator_line(study),), (views.parameter_view(study),))


def _optima(study: Study) -> Section | None:
    paragraphs = list(views.exponent_lines(study))
    tables = []
    if study.optima is not None:
        tables.append(views.optimum_view(study.optima, study.metric, study.settings.resampling.level))
    if study.isoflops is not None:
        paragraphs.append(f"Each budget alone, without a law: {study.isoflops.headline}.")
        tables.append(views.isoflop_view(study.isoflops))
    return Section("optima", "Compute-optimal models", paragraphs, tables) if tables else None


def _near(study: Study) -> Section | None:
    if not study.near_optima:
        return None
    words = (
        "How far a model may be from the best size. The curvature is shown twice: by the law, whose form makes it fall "
        "with compute, and by each budget's own curve, which assumes no law."
    )
    return Section(
        "near",
        "Near-optimal range and curvature",
        (words, *(f"{s[0].upper()}{s[1:]}." for s in (study.curvature.sentences if study.curvature else ()))),
        (views.near_view(study.near_optima[1:2], study.settings.resampling.level),),
    )


def _quality(study: Study) -> Section | None:
    if study.fit is None:
        return None
    paragraphs = [] if study.holdout is None else [f"Held out: {study.holdout.sentence}."]
    paragraphs += [] if study.influence is None else [f"Influence: {study.influence.sentence}."]
    tables = [views.rollout_view(study.rollout)] if study.rollout else []
    return Section("quality", "How well it predicts", paragraphs, tables)


def _downstream(study: Study) -> Section | None:
    if study.downstream is None:
        return None
    stage = study.downstream
    tables = [views.downstream_view(stage), views.map_view(stage), views.staged_view(study)]
    if len(stage.held_out):
        tables.insert(2, views.held_out_view(stage))
    return Section("downstream", "Through the loss", (study.downstream.headline,), tables)


def _verdict(study: Study) -> Section | None:
    verdict = study.verdict
    if verdict is None:
        return None
    judged = (
        f"Noise of one run {verdict.noise:.3g}; changes up to {verdict.margin:.3g} count as none. The verdict rests on "
        "a regression without a law, and on a law fitted by Huber with a delta of that noise, so its limit may differ "
        "a little from the law above."
    )
    reach = () if verdict.reach is None else (f"Baseline {verdict.reach.label}: {verdict.reach.sentence}.",)
    return Section(
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
