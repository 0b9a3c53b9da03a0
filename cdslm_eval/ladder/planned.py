"""What training commands announce of their models, and which of these are no evidence about scaling."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.ladder.execute import LadderRun, find_program
from cdslm_eval.ladder.points import LadderPoint, Training

__all__ = ["announced", "ask_ahead", "check_bounds", "leave_out", "number", "problem", "read_record"]

_PLAN_TIME_S = 300.0


def announced(run: LadderRun, training: Training) -> list[Mapping[str, Any]]:
    """Return what is known of each model of a training before it is trained; {} without a `plan_option`.

    Epochs that a command does not know, because its speech is not prepared yet, follow from the hours that the plan
    states of it.

    Args:
        run: The ladder.
        training: One of its trainings.

    Raises:
        EvalError: The command fails, or prints something else.
    """
    points = training.points
    if not points[0].family.plan_option or find_program(run.train_command(training, "RUN")[0]) is None:
        return [{} for _ in points]
    whole = _announcement(run, training)
    runs = whole.get("branches")
    if not isinstance(runs, list) or len(runs) != len(points):
        shorter = [_announcement(run, Training(points[:count])) for count in range(1, len(points))]
        runs = [*shorter, whole]
    return [_with_epochs(run, point, own) for point, own in zip(points, runs, strict=True)]


def ask_ahead(run: LadderRun, trainings: Sequence[Training]) -> None:
    """Run the planning commands of trainings side by side: each takes seconds to start, and a ladder has many.

    Args:
        run: The ladder, which holds what they print from then on.
        trainings: Some of its trainings.

    Raises:
        EvalError: As for `announced`.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda training: announced(run, training), trainings):
            pass


def problem(point: LadderPoint, facts: Mapping[str, Any]) -> str:
    """Return what is wrong with a model's steps and epochs, or nothing; what is not known is not wrong."""
    family, steps, epochs = point.family, number(facts, "steps"), number(facts, "epochs")
    if steps < family.min_steps:
        return f"{steps:.0f} steps, under {family.min_steps}"
    if epochs > family.max_epochs:
        return f"{epochs:.3g} epochs, over {family.max_epochs:g}"
    return ""


def leave_out(run: LadderRun) -> tuple[dict[str, str], dict[str, str]]:
    """Omit the models that are no evidence about scaling, where their family leaves them out.

    Args:
        run: The ladder.

    Returns:
        Why, by name: of the models that are left out, and of those whose family is to be refused.

    Raises:
        UsageError: No model is left.
        EvalError: A command fails, or prints something else.
    """
    omitted: dict[str, str] = {}
    refused: dict[str, str] = {}
    unchecked: dict[str, set[str]] = {}
    families = [(training.points[0].family, training) for training in run.trainings]
    checked = [own for family, own in families if family.plan_option and family.out_of_bounds != "train"]
    ask_ahead(run, checked)
    for training in checked:
        family = training.points[0].family
        for point, facts in zip(training.points, announced(run, training), strict=True):
            absent = {name for name in ("steps", "epochs") if not math.isfinite(number(facts, name))}
            unchecked.setdefault(family.name, set()).update(absent)
            if why := problem(point, facts):
                (omitted if family.out_of_bounds == "omit" else refused)[point.name] = why
    for system, names in unchecked.items():
        if names:
            run.log(f"{system}: its training command reports no {' and no '.join(sorted(names))}, and none is checked")
    if omitted:
        run.omit(frozenset(omitted))
    return omitted, refused


def check_bounds(run: LadderRun) -> None:
    """Find the models that are no evidence about scaling; refuse the ladder or leave them out, as their family states.

    Checked is what the training command reports under the family's `plan_option`; the speech must be prepared, or
    epochs are not known.

    Raises:
        UsageError: There are such models, and their family does not leave them out; or no model is left.
        EvalError: A command fails, or prints something else.
    """
    omitted, refused = leave_out(run)
    for name, why in omitted.items():
        run.log(f"{name} is left out: {why}")
    if refused:
        shown = [f"{name} ({why})" for name, why in refused.items()]
        raise UsageError(
            f"{run.plan.name}: {len(shown)} models are no evidence about scaling: {', '.join(shown[:6])}"
            f"{', ...' if len(shown) > 6 else ''}; change sizes, budgets or batches, or write "
            'out_of_bounds = "omit" or "train", min_steps or max_epochs under their system'
        )


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file; None where there is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def number(facts: Mapping[str, Any], name: str, absent: float = math.nan) -> float:
    """Return a number of a record; `absent` where it is none."""
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else absent


def _announcement(run: LadderRun, training: Training) -> dict[str, Any]:
    """Return what a training command prints under the `plan_option` of its family, run once for each ladder object.

    No file keeps it: it counts the speech that is there, which may be another one when the ladder is run again.
    """
    device = next(iter(run.plan.devices), "DEVICE")
    words = [*run.train_command(training, str(run.run_folder(training)), device), training.points[0].family.plan_option]
    key = run.run_folder(training).parent.name
    if key not in run.announcements:
        run.announcements[key] = _printed(words)
    return run.announcements[key]


def _with_epochs(run: LadderRun, point: LadderPoint, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return facts with epochs over the hours that the plan states of the speech, where they are not known yet."""
    hours = number(facts, "speech_hours")
    if math.isfinite(number(facts, "epochs")) or not math.isfinite(hours):
        return facts
    # the first that the command names is what it trains on
    stated = [step.speech_hours for name in point.family.places for step in run.plan.prepare if step.name == name]
    return {**facts, "epochs": hours / stated[0]} if stated and stated[0] else facts


def _printed(words: list[str]) -> dict[str, Any]:
    """Return the JSON object that a planning command prints."""
    program = find_program(words[0])
    assert program is not None
    shown = shlex.join(words)
    try:
        ended = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False, timeout=_PLAN_TIME_S)
    except subprocess.TimeoutExpired as error:
        raise EvalError(f"{shown}: printed no plan within {_PLAN_TIME_S:.0f} s") from error
    if ended.returncode:
        last = (ended.stderr.strip() or "no message").splitlines()[-1]
        raise EvalError(f"{shown} ended with exit code {ended.returncode}: {last}")
    try:
        facts = json.loads(ended.stdout)
    except ValueError as error:
        raise EvalError(f"{shown}: must print JSON: {error}") from error
    if not isinstance(facts, dict):
        raise EvalError(f"{shown}: must print a JSON object, not {type(facts).__name__}")
    return facts
