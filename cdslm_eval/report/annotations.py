"""A suite's failed and undecided gates as annotations that GitHub shows beside the suite's file."""

from __future__ import annotations

from cdslm_eval.results.suite_result import Judgement, SuiteResult

__all__ = ["github_annotations"]

_TITLE = "cdslm-eval"


def github_annotations(result: SuiteResult) -> list[str]:
    """Return workflow commands, one line each: errors for what fails the run, warnings for what is undecided.

    A third-party text cannot end a command or begin another: line ends and the separators of properties are escaped.

    Args:
        result: The run.
    """
    lines = [_command("error", f"{_TITLE}: failure budget", sentence, {}) for sentence in result.over_budget]
    for judgement in result.judgements:
        if not judgement.passed or judgement.status == "undecided":
            level = "warning" if judgement.passed else "error"
            title = f"{_TITLE}: {judgement.system}: {judgement.title}"
            lines.append(_command(level, title, judgement.sentence, _place(result, judgement)))
    return lines


def _place(result: SuiteResult, judgement: Judgement) -> dict[str, str]:
    """Return the suite's file and the line of the gate in it."""
    suite = result.settings.get("suite", {})
    text, path = str(suite.get("text", "")), str(suite.get("path", ""))
    numbers = [number for number, line in enumerate(text.splitlines(), 1) if judgement.gate in line]
    if not path or not numbers:
        return {}
    return {"file": path, "line": str(numbers[0])}


def _command(level: str, title: str, message: str, place: dict[str, str]) -> str:
    properties = ",".join(f"{name}={_property(value)}" for name, value in {**place, "title": title}.items())
    return f"::{level} {properties}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
