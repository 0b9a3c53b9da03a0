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
from cdslm_eval.core.errors import EvalError
from cdslm_eval.ladder.execute import PREPARED, RESULT, TIMING, LadderPoint, LadderRun, find_program, ladder_points
from cdslm_eval.results.export import Grid
from cdslm_eval.results.numbers import UNKNOWN

__all__ = ["StepCost", "cost_grid", "measured_rate", "step_costs"]

_PLAN_TIME_S = 300.0
_BYTES_A_SAMPLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of one step; what is not known is NaN.

    Attributes:
        step: What is done: "train cdslm-2-4e+13".
        done: Whether it is done already: then it costs nothing more.
        parameters, flops, steps, epochs: Of a model to train.
        bytes: On disk, at the step's end.
    """

    step: str
    done: bool
    parameters: float = math.nan
    flops: float = math.nan
    steps: float = math.nan
    epochs: float = math.nan
    bytes: float = math.nan

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
    for point in ladder_points(plan):
        facts = _facts(run, point)
        numbers = {name: _number(facts, name) for name in ("parameters", "flops", "steps", "epochs", "bytes")}
        done = (run.run_folder(point) / RESULT).is_file()
        costs.append(StepCost(step=f"train {point.name}", done=done, **numbers))
        # FLAC takes less: an upper bound
        size = clips.count * clips.seconds * _number(facts, "rate_hz") * _BYTES_A_SAMPLE
        done = (run.clips_folder(point) / MANIFEST).is_file()
        costs.append(StepCost(step=f"generate {point.name}", done=done, bytes=size))
    for control in clips.controls:
        made = (run.control_folder(control) / MANIFEST).is_file()
        costs.append(StepCost(step=f"generate {control.partition(',')[0]}", done=made))
    costs.append(StepCost(step=f"score {', '.join(plan.score.metrics)}", done=False))
    for fit in plan.fit:
        costs += [StepCost(step=f"fit {fit.metric}, {family.name}", done=False) for family in plan.systems]
    return costs


def measured_rate(run: LadderRun) -> tuple[float, int]:
    """Return the training FLOP/s of this ladder's finished models and their number; (NaN, 0) without any.

    A model whose training was interrupted does not count: only its last part was timed.
    """
    flops = seconds = 0.0
    count = 0
    for point in ladder_points(run.plan):
        folder = run.run_folder(point)
        timing, result = _read(folder.parent / TIMING), _read(folder / RESULT)
        if timing and result:
            flops, seconds, count = flops + _number(result, "flops"), seconds + _number(timing, "seconds"), count + 1
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
    sums = (_sum(cost.flops for cost in left), _sum(cost.hours(rate) for cost in left), _sum(c.bytes for c in left))
    rows.append(("", "left to do", "", _short(sums[0]), "", "", _short(sums[1]), _size(sums[2])))
    note = f"Hours: training alone, at {rate / 1e12:.3g} TFLOP/s ({rate_from})."
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
        ),
    )


def _facts(run: LadderRun, point: LadderPoint) -> Mapping[str, Any]:
    """Return what is known of a model: the result of a finished one, else what its command plans, else its budget."""
    folder = run.run_folder(point)
    option = point.family.plan_option
    words = [*run.train_command(point, str(folder)), *([option] if option else [])]
    program = find_program(words[0])
    if not option or program is None:
        return {"flops": point.budget, **(_read(folder / RESULT) or {})}
    try:
        done = subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False, timeout=_PLAN_TIME_S)
    except subprocess.TimeoutExpired as error:
        raise EvalError(f"{' '.join(words)}: printed no plan within {_PLAN_TIME_S:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EvalError(f"{' '.join(words)} ended with exit code {done.returncode}: {last}")
    try:
        facts = json.loads(done.stdout)
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


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


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
