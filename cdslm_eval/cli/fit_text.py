"""Terminal text of `cdslm-eval fit`: the first line states the result or why it cannot be trusted; tables follow."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdslm_eval.core.printable import printable
from cdslm_eval.scaling.output import text as views
from cdslm_eval.scaling.output.lines import excluded_texts
from cdslm_eval.scaling.output.text import View

if TYPE_CHECKING:
    from cdslm_eval.scaling.families import Families
    from cdslm_eval.scaling.flags import Flag
    from cdslm_eval.scaling.frontier import Predictions
    from cdslm_eval.scaling.study import Study
    from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = [
    "downstream_text",
    "families_text",
    "isoflop_text",
    "law_text",
    "predictions_text",
    "table_text",
    "verdict_text",
]


def table_text(view: View) -> str:
    """Return a view as a terminal table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    table = Table(box=None, pad_edge=False)
    for index, heading in enumerate(view.headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for row in view.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=out, width=240, force_terminal=False).print(table)
    # a title of the table itself would be broken at the table's width
    lines = [printable(view.title), *(line.rstrip() for line in out.getvalue().splitlines())]
    return "\n".join([*lines, *([f"({view.note})"] if view.note else [])])


def _blocks(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def law_text(study: Study) -> str:
    """Return a study of a law."""
    blocks = [study.headline]
    if study.fit is not None:
        blocks += [views.estimator_line(study), table_text(views.parameter_view(study))]
        blocks.append("\n".join(views.exponent_lines(study)))
    if study.optima is not None:
        blocks.append(table_text(views.optimum_view(study.optima, study.metric, study.settings.resampling.level)))
    if study.near_optima:
        blocks.append(table_text(views.near_view(study.near_optima[1:2], study.settings.resampling.level)))
    if study.isoflops is not None:
        blocks.append(f"Each budget alone: {study.isoflops.headline}.")
        blocks.append(_curvature(study))
    if study.holdout is not None:
        blocks.append(f"Held out: {study.holdout.sentence}.")
    if study.influence is not None:
        blocks.append(f"Influence: {study.influence.sentence}.")
    if study.verdict is not None:
        blocks.append(f"Verdict: {study.verdict.sentence}.")
    blocks += [_flags(study.flags), _data(study, study.flags), _missing(study)]
    return _blocks(blocks)


def isoflop_text(study: Study) -> str:
    """Return each budget by itself."""
    isoflops = study.isoflops
    if isoflops is None:
        return _blocks([study.headline, _missing(study)])
    bent = study.curvature
    flags = (*isoflops.flags, *(() if bent is None else bent.flags))
    return _blocks(
        [
            isoflops.headline,
            table_text(views.isoflop_view(isoflops)),
            _curvature(study),
            _flags(flags),
            _data(study, flags),
        ]
    )


def families_text(families: Families) -> str:
    """Return groups of runs: their laws and budgets, the joint fits, and the compute that they need."""
    from cdslm_eval.scaling.output.families import families_views

    tables = [table_text(view) for view in families_views(families)]
    lines = [f"{families.why[0].upper()}{families.why[1:]}."] if families.why else []
    lines += [f"{multiplier.sentence}." for multiplier in families.multipliers]
    return _blocks([f"{families.headline}.", *tables, "\n".join(lines), _rows(families.table, families.excluded)])


def _curvature(study: Study) -> str:
    if study.curvature is None:
        return ""
    return "\n".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in study.curvature.sentences)


def verdict_text(study: Study) -> str:
    """Return the verdict with its evidence."""
    verdict = study.verdict
    if verdict is None:
        return _blocks([f"NO VERDICT: {study.missing.get('verdict', '')}", _data(study)])
    judged = (
        f"Noise of one run {verdict.noise:.3g}, changes up to {verdict.margin:.3g} count as none, "
        f"level {verdict.level:g}."
    )
    further = "\n".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in verdict.evidence[1:])
    first = f"{verdict.label.upper()}: {verdict.sentence}."
    return _blocks([first, further, judged, _flags(study.flags), _data(study, study.flags), _missing(study)])


def downstream_text(study: Study) -> str:
    """Return the comparison of direct, two-stage and fused fits, and the verdict."""
    downstream = study.downstream
    if downstream is None:
        return _blocks([f"NO COMPARISON: {study.missing.get('downstream', '')}", _data(study)])
    blocks = [downstream.headline]
    blocks += [table_text(view(downstream)) for view in (views.downstream_view, views.map_view)]
    blocks += [table_text(views.held_out_view(downstream))] if len(downstream.held_out) else []
    blocks.append(table_text(views.staged_view(study)))
    if study.verdict is not None:
        blocks.append(f"Verdict: {study.verdict.sentence}.")
    return _blocks([*blocks, _flags(downstream.flags), _data(study, downstream.flags), _missing(study)])


def predictions_text(predictions: Predictions) -> str:
    """Return predictions."""
    from cdslm_eval.scaling.output.predictions import predicted_view, served_view

    blocks = [predictions.headline]
    level, metric = predictions.resampling.level, predictions.fit.metric
    if predictions.optima:
        blocks.append(table_text(predicted_view(predictions.optima, metric, level, "Optima of budgets")))
    if predictions.served:
        blocks.append(table_text(served_view(predictions.served, metric, level)))
    if predictions.models:
        blocks.append(table_text(predicted_view(predictions.models, metric, level, "Models")))
    return _blocks([*blocks, _flags(predictions.flags)])


def _flags(flags: Iterable[Flag]) -> str:
    lines = [f"  {'!' if flag.doubt else '-'} {flag.name}: {flag.sentence}" for flag in flags]
    return "\n".join(["Flags (!: forbids trust in what it names):", *lines]) if lines else ""


def _data(study: Study, flags: Iterable[Flag] = ()) -> str:
    """Return where the rows come from; how compute fits them only where no printed flag states it."""
    flagged = any(flag.name == "compute_mismatch" for flag in flags)
    return _rows(study.table, study.fit.excluded if study.fit is not None else study.table.excluded, flagged)


def _rows(table: RunTable, excluded: Iterable[Excluded], flagged: bool = False) -> str:
    """Return where the rows come from, which were not used, and their conventions."""
    compute = "" if flagged else f"; {table.compute_check().sentence}"
    lines = [f"Data: {table.source}, {len(table)} rows{compute}."]
    lines += [f"Not used: {text}." for text in excluded_texts(excluded)]
    lines += [f"Convention: {name}: {text}." for name, text in table.conventions.items()]
    return "\n".join(lines)


def _missing(study: Study) -> str:
    return "\n".join(f"No {part}: {reason}" for part, reason in study.missing.items())
