"""A suite's result as Markdown for a pull request's comment or a job's summary."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import format_number, format_p, format_value
from cdslm_eval.results.suite_result import Judgement, SuiteResult

__all__ = ["escape", "suite_markdown"]

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "⚠️ undecided", "unmeasured": "❌ not measured"}
_MAX_LINES = 60
_ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


def escape(text: str) -> str:
    """Keep a third-party string from becoming Markdown, HTML, a mention or a line of its own."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return "".join("\\" + letter if letter in "\\|`*_[]#~!" else letter for letter in text)


def suite_markdown(result: SuiteResult) -> str:
    """Return the verdict first, then gates, changes, and the values with their intervals."""
    failed = sum(not judgement.passed for judgement in result.judgements)
    verdict = (
        f"{failed} of {len(result.judgements)} gates failed" if failed else f"all {len(result.judgements)} gates passed"
    )
    lines = [f"## {escape(result.name)}: {verdict if result.judgements else 'measured, no gates'}", ""]
    lines += [f"- over the failure budget: {escape(budget)}" for budget in result.over_budget]
    lines += [""] if result.over_budget else []
    lines += _gates(result.judgements) + _changes(result) + _values(result)
    lines += _provenance(result)
    return "\n".join(lines) + "\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row) + " |" for row in rows[:_MAX_LINES]]
    return [*lines, "", *([f"… and {len(rows) - _MAX_LINES} more", ""] if len(rows) > _MAX_LINES else [])]


def _gates(judgements: Sequence[Judgement]) -> list[str]:
    if not judgements:
        return []
    # what stops a merge comes first
    order = sorted(judgements, key=lambda judgement: (judgement.passed, judgement.status != "undecided"))
    rows = [
        [
            MARKS[judgement.status] + (f", counts as {judgement.counts_as}" if judgement.status == "undecided" else ""),
            escape(judgement.system),
            escape(judgement.title if judgement.title == judgement.gate else f"{judgement.title} ({judgement.gate})"),
            format_value(judgement.value, judgement.low, judgement.high),
            format_number(judgement.bound),
            f"about {judgement.more_clips}" if judgement.more_clips else "",
        ]
        for judgement in order
    ]
    return _table(("verdict", "system", "gate", "measured (95 %)", "bound", "more clips to decide"), rows)


def _changes(result: SuiteResult) -> list[str]:
    moved = [change for change in result.changes if not change.same_clips]
    if not result.changes:
        return []
    against = escape(str(result.settings["suite"].get("against")))
    same = len({change.system for change in result.changes}) - len({change.system for change in moved})
    lines = [f"### Against {against}", ""]
    if same:
        lines += [f"{same} systems have the audio they had.", ""]
    order = sorted(moved, key=lambda change: (change.verdict not in ("worse", "better", "changed"), change.p_holm))
    rows = [
        [
            change.verdict,
            escape(change.system),
            escape(change.name),
            format_value(change.difference, change.low, change.high),
            format_p(change.p_holm),
        ]
        for change in order
    ]
    return lines + (_table(("verdict", "system", "value", "now − recorded (95 %)", "p (Holm)"), rows) if rows else [])


def _values(result: SuiteResult) -> list[str]:
    names = list(dict.fromkeys(estimate.name for estimate in result.scores.estimates))
    by_place = {(estimate.system, estimate.name): estimate for estimate in result.scores.estimates}
    by_name: dict[str, Estimate] = {estimate.name: estimate for estimate in result.scores.estimates}
    rows = [
        [escape(f"{name} [{by_name[name].unit}]") + _ARROWS[by_name[name].better]]
        + [_cell(by_place.get((system, name))) for system in result.scores.systems]
        for name in names
    ]
    if not rows:
        return []
    table = _table(("value", *(escape(system) for system in result.scores.systems)), rows)
    note = "Divergences and distances: corrected for the floor of the sample size where trusted, else their bounds."
    return ["<details><summary>All values, with 95 % intervals</summary>", "", note, "", *table, "</details>", ""]


def _cell(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return "—"
    return str(estimate.headline())


def _provenance(result: SuiteResult) -> list[str]:
    settings = result.settings
    versions = settings.get("versions", {})
    facts = [
        f"suite {str(settings['suite']['digest'])[:12]}",
        f"seed {settings.get('seed')}",
        f"recognizer {settings.get('recognizer')}",
        f"cdslm-eval {versions.get('cdslm_eval')}",
        f"Python {versions.get('python')}",
    ]
    facts += [
        f"{name} {clips['clips']} clips {str(clips['digest'])[:12]}" for name, clips in settings.get("sets", {}).items()
    ]
    return [f"<sub>{escape(' · '.join(facts))}</sub>"]
