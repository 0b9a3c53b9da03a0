"""What each step of a ladder would cost: parameters, FLOPs, steps, epochs, hours, bytes; nothing is made."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.clips import MANIFEST
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.ladder.execute import PREPARED, LadderRun, find_program
from cdslm_eval.ladder.points import RESULT, LadderPoint, Training
from cdslm_eval.ladder.training import TIMING
from cdslm_eval.results.export import Grid
from cdslm_eval.results.numbers import UNKNOWN

__all__ = ["StepCost", "check_bounds", "cost_grid", "measured_rate", "planned_facts", "step_costs"]

_PLANNED = "plans"
_PLAN_TIME_S = 300.0
_BYTES_A_SAMPLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of one step; what is not known is NaN.

    Attributes:
        step: What is done: "train cdslm-2-4e+13".
        done: Whether it is done already: then it costs nothing more.
        parameters, steps, epochs: Of a model to train.
        flops: Of its training; of a branch, those beyond the smaller budgets' of its run.
        bytes: On disk, at the step's end; of a branch likewise.
        problem: Why it says nothing about scaling: too few steps, too many epochs.
    """

    step: str
    done: bool
    parameters: float = math.nan
    flops: float = math.nan
    steps: float = math.nan
    epochs: float = math.nan
    bytes: float = math.nan
    problem: str = ""

    def hours(self, rate: float) -> float:
        """Return the hours of a step at a rate in FLOP/s; NaN where either is not known."""
        return self.flops / rate / 3600 if rate > 0 else math.nan


def step_costs(run: LadderRun) -> list[StepCost]:
    """Return every step of a ladder, in order, with its cost.

    A model's facts come from its training command with the family's `plan_option`; without one FLOPs are the budget.

    Raises:
        EvalError: Such a command fails, or prints something else.
    """
    clips, plan = run.plan.generate, run.plan
    costs = [StepCost(step=f"prepare {name}", done=(path / PREPARED).is_file()) for name, path in run.preparations()]
    for training in run.trainings:
        before: Mapping[str, float] = {"flops": 0.0, "bytes": 0.0}
        done = (run.run_folder(training) / RESULT).is_file()
        for count, point in enumerate(training.points, 1):
            # the result of a run is that of its largest budget
            is_whole = done and count == len(training.points)
            facts = _facts(run, Training(training.points[:count]), run.run_folder(training), done=is_whole)
            numbers = {name: _number(facts, name) for name in ("parameters", "flops", "steps", "epochs", "bytes")}
            so_far = {**numbers, "flops": _number(facts, "training_flops", numbers["flops"])}
            shares = {name: so_far[name] - before[name] for name in before}
            problem = _problem(point, numbers)
            costs.append(StepCost(step=f"train {point.name}", done=done, problem=problem, **{**numbers, **shares}))
            before = {name: so_far[name] for name in before}
            # FLAC takes less: an upper bound
            size = clips.count * clips.seconds * _number(facts, "rate_hz") * _BYTES_A_SAMPLE
            made = (run.clips_folder(point) / MANIFEST).is_file()
            costs.append(StepCost(step=f"generate {point.name}", done=made, bytes=size))
    for name, control in run.controls().items():
        made = (run.control_folder(control) / MANIFEST).is_file()
        costs.append(StepCost(step=f"generate {name}", done=made))
    costs.append(StepCost(step=f"score {', '.join(plan.score.metrics)}", done=False))
    for fit in plan.fit:
        costs += [StepCost(step=f"fit {fit.metric}, {family.name}", done=False) for family in plan.systems]
    return costs


def check_bounds(run: LadderRun) -> None:
    """Find the models that say nothing about scaling; refuse the ladder or leave them out, as their family says.

    Checked is what the training command reports under the family's `plan_option`; the speech must be prepared, or
    epochs are not known.

    Raises:
        UsageError: There are such models, and their family does not leave them out; or no model is left.
        EvalError: A command fails, or prints something else.
    """
    refused, omitted = [], set()
    unchecked: dict[str, set[str]] = {}
    for training in run.trainings:
        family = training.points[0].family
        if not family.plan_option or family.out_of_bounds == "train":
            continue
        for point in training.points:
            facts = planned_facts(run, point)
            unchecked.setdefault(family.name, set()).update(name for name in facts if not math.isfinite(facts[name]))
            problem = _problem(point, facts)
            if problem and family.out_of_bounds == "omit":
                run.log(f"{point.name} is left out: {problem}")
                omitted.add(point.name)
            elif problem:
                refused.append(f"{point.name} ({problem})")
    for system, names in unchecked.items():
        if names:
            run.log(f"{system}: its training command reports no {' and no '.join(sorted(names))}, and none is checked")
    if refused:
        raise UsageError(
            f"{run.plan.name}: {len(refused)} models say nothing about scaling: {', '.join(refused[:6])}"
            f"{', ...' if len(refused) > 6 else ''}; change sizes, budgets or batches, or write "
            'out_of_bounds = "omit" or "train", min_steps or max_epochs under their system'
        )
    if omitted:
        run.omit(frozenset(omitted))


def planned_facts(run: LadderRun, point: LadderPoint) -> dict[str, float]:
    """Return the steps and epochs of a model as its training command reports them; NaN where it does not.

    They are kept in the ladder's folder: a command takes seconds to report them.
    """
    alone = Training((point,))
    folder = run.run_folder(alone)
    path = run.out / _PLANNED / f"{folder.parent.name}.json"
    facts = _read(path)
    if facts is None:
        facts = dict(_facts(run, alone, folder, done=False))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return {name: _number(facts, name) for name in ("steps", "epochs")}


def _problem(point: LadderPoint, facts: Mapping[str, float]) -> str:
    """Return what is wrong with a model's steps and epochs, or nothing; what is not known is not wrong."""
    family = point.family
    if facts["steps"] < family.min_steps:
        return f"{facts['steps']:.0f} steps, under {family.min_steps}"
    if facts["epochs"] > family.max_epochs:
        return f"{facts['epochs']:.3g} epochs, over {family.max_epochs:g}"
    return ""


def measured_rate(run: LadderRun) -> tuple[float, int]:
    """Return the training FLOP/s of this ladder's finished models and their number; (NaN, 0) without any.

    A model whose training was interrupted does not count: only its last part was timed.
    """
    flops = seconds = 0.0
    count = 0
    for training in run.trainings:
        folder = run.run_folder(training)
        timing, result = _read(folder.parent / TIMING), _read(folder / RESULT)
        if timing and result:
            flops += _number(result, "training_flops", _number(result, "flops"))
            seconds, count = seconds + _number(timing, "seconds"), count + 1
    return (flops / seconds if seconds > 0 else math.nan), count


def cost_grid(costs: Sequence[StepCost], rate: float, rate_from: str) -> Grid:
    """Return the costs as a table with the sum of what is left.

    Args:
        costs: As `step_costs` returns them.
        rate: FLOP/s; NaN where it is not known.
        rate_from: Where the rate comes from, for the note.
    """
    rows = []
    for cost in costs:
        state = "done" if cost.done else "to do"
        cells = (_short(cost.parameters), _short(cost.flops), _short(cost.steps), _short(cost.epochs))
        rows.append((state, cost.step, *cells, _short(cost.hours(rate)), _size(cost.bytes)))
    left = [cost for cost in costs if not cost.done]
    problems = [f"{cost.step}: {cost.problem}." for cost in costs if cost.problem]
    sums = (_sum(cost.flops for cost in left), _sum(cost.hours(rate) for cost in left), _sum(c.bytes for c in left))
    rows.append(("", "left to do", "", _short(sums[0]), "", "", _short(sums[1]), _size(sums[2])))
    note = f"Hours of one device: training alone, at {rate / 1e12:.3g} TFLOP/s ({rate_from})."
    if not rate > 0:
        note = "Hours: not known before a model is trained here; name a rate with --tflops."
    return Grid(
        "What it costs",
        ("", "step", "N", "FLOPs", "steps", "epochs", "hours", "disk"),
        tuple(rows),
        left=(0, 1),
        notes=(
            note,
            "Disk: the checkpoints that stay, and clips at most; prepared speech and the store are not counted.",
            *problems,
        ),
    )


def _facts(run: LadderRun, training: Training, folder: Path, *, done: bool) -> Mapping[str, Any]:
    """Return what is known of a training: what its command plans, else its result if it is done, else its budget."""
    option = training.points[0].family.plan_option
    device = next(iter(run.plan.devices), "DEVICE")
    words = [*run.train_command(training, str(folder), device), *([option] if option else [])]
    program = find_program(words[0])
    if not option or program is None:
        return {"flops": max(training.budgets), **((_read(folder / RESULT) if done else None) or {})}
    try:
        ended = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False, timeout=_PLAN_TIME_S)
    except subprocess.TimeoutExpired as error:
        raise EvalError(f"{' '.join(words)}: printed no plan within {_PLAN_TIME_S:.0f} s") from error
    if ended.returncode:
        last = (ended.stderr.strip() or "no message").splitlines()[-1]
        raise EvalError(f"{' '.join(words)} ended with exit code {ended.returncode}: {last}")
    try:
        facts = json.loads(ended.stdout)
    except ValueError as error:
        raise EvalError(f"{' '.join(words)}: must print JSON: {error}") from error
    if not isinstance(facts, dict):
        raise EvalError(f"{' '.join(words)}: must print a JSON object, not {type(facts).__name__}")
    return facts


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _number(facts: Mapping[str, Any], name: str, absent: float = math.nan) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else absent


def _sum(values: Iterator[float]) -> float:
    """Return the sum of what is known; NaN where nothing is."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) if known else math.nan


def _short(value: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{value:.3g}" if value < 1e4 or value >= 1e7 else f"{value:.0f}"


def _size(value: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
