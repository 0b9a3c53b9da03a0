"""A suite's result as Markdown for a pull request's comment or a job's summary."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import format_number, format_value
from cdslm_eval.results.suite_result import Judgement, SuiteResult

__all__ = ["escape", "suite_markdown"]

MARKS = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "⚠️ undecided", "unmeasured": "❌ not measured"}
_MAX_LINES = 60
_ARROWS = {"lower": " ↓", "higher": " ↑", "neither": ""}


def escape(text: str) -> str:
    """Keep a stranger's string from becoming Markdown, HTML, a mention or a line of its own."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    return "".join("\\" + letter if letter in "\\|`*_[]#~!" else letter for letter in text)


def suite_markdown(result: SuiteResult) -> str:
    """Return the verdict first, then gates, changes, and the values with their intervals."""
    failed = sum(not one.passed for one in result.judgements)
    verdict = (
        f"{failed} of {len(result.judgements)} gates failed" if failed else f"all {len(result.judgements)} gates passed"
    )
    lines = [f"## {escape(result.name)}: {verdict if result.judgements else 'measured, no gates'}", ""]
    lines += [f"- over the failure budget: {escape(one)}" for one in result.over_budget]
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
    # what stops a merge stands first
    order = sorted(judgements, key=lambda one: (one.passed, one.status != "undecided"))
    rows = [
        [
            MARKS[one.status] + (f", counts as {one.counts_as}" if one.status == "undecided" else ""),
            escape(one.system),
            escape(one.title if one.title == one.gate else f"{one.title} ({one.gate})"),
            format_value(one.value, one.low, one.high),
            format_number(one.bound),
            f"about {one.more_clips}" if one.more_clips else "",
        ]
        for one in order
    ]
    return _table(("verdict", "system", "gate", "measured (95 %)", "bound", "more clips to decide"), rows)


def _changes(result: SuiteResult) -> list[str]:
    moved = [one for one in result.changes if not one.same_clips]
    if not result.changes:
        return []
    against = escape(str(result.settings["suite"].get("against")))
    same = len({one.system for one in result.changes}) - len({one.system for one in moved})
    lines = [f"### Against {against}", ""]
    if same:
        lines += [f"{same} systems have the audio they had.", ""]
    order = sorted(moved, key=lambda one: (one.verdict not in ("worse", "better", "changed"), one.p_holm))
    rows = [
        [
            one.verdict,
            escape(one.system),
            escape(one.name),
            format_value(one.difference, one.low, one.high),
            format_number(one.p_holm),
        ]
        for one in order
    ]
    return lines + (_table(("says", "system", "value", "now − recorded (95 %)", "p (Holm)"), rows) if rows else [])


def _values(result: SuiteResult) -> list[str]:
    names = list(dict.fromkeys(one.name for one in result.scores.estimates))
    by_place = {(one.system, one.name): one for one in result.scores.estimates}
    some: dict[str, Estimate] = {one.name: one for one in result.scores.estimates}
    rows = [
        [escape(f"{name} [{some[name].unit}]") + _ARROWS[some[name].better]]
        + [_cell(by_place.get((system, name))) for system in result.scores.systems]
        for name in names
    ]
    if not rows:
        return []
    table = _table(("value", *(escape(one) for one in result.scores.systems)), rows)
    note = "Divergences and distances: corrected for the floor of the sample size where trusted, else their bounds."
    return ["<details><summary>All values, with 95 % intervals</summary>", "", note, "", *table, "</details>", ""]


def _cell(one: Estimate | None) -> str:
    if one is None or math.isnan(one.value):
        return "—"
    return str(one.headline())


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
        f"{name} {one['clips']} clips {str(one['digest'])[:12]}" for name, one in settings.get("sets", {}).items()
    ]
    return [f"<sub>{escape(' · '.join(facts))}</sub>"]
