"""What each step of a ladder would cost: parameters, FLOPs, steps, epochs, minutes, bytes; nothing is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdslm_eval.core.clips import MANIFEST
from cdslm_eval.ladder.execute import PREPARED, LadderRun
from cdslm_eval.ladder.planned import announced, ask_ahead, number, problem, read_record
from cdslm_eval.ladder.points import RESULT, LadderPoint, Sampling, Training, sampled_name
from cdslm_eval.ladder.training import TIMING
from cdslm_eval.results.export import Grid
from cdslm_eval.results.numbers import UNKNOWN

__all__ = ["StepCost", "cost_grid", "measured_rate", "step_costs"]

_BYTES_A_SAMPLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of one step; what is not known is NaN.

    Attributes:
        step: What is done: "train cdslm-2-4e+13".
        done: Whether it is done already: then it costs nothing more.
        parameters, steps, epochs: Of a model to train.
        flops: Of its training, of a branch those beyond the smaller budgets' of its run; of the network in generation.
        further_minutes: What the plan states beyond these FLOPs.
        start_minutes: Likewise of a training command, whose time a rate that was measured here has in it.
        bytes: On disk, at the step's end; of a branch likewise.
        problem: Why it is no evidence about scaling: too few steps, too many epochs.
    """

    step: str
    done: bool
    parameters: float = math.nan
    flops: float = math.nan
    steps: float = math.nan
    epochs: float = math.nan
    further_minutes: float = math.nan
    start_minutes: float = 0.0
    bytes: float = math.nan
    problem: str = ""

    def minutes(self, rate: float, *, is_measured: bool = False) -> float:
        """Return the minutes of a step; NaN where they are not known.

        Args:
            rate: In FLOP/s.
            is_measured: Whether it is that of training commands as a whole, so that their starts are in it.
        """
        stated = [self.further_minutes] if is_measured else [self.further_minutes, self.start_minutes]
        further = sum(minutes for minutes in stated if math.isfinite(minutes))
        if math.isnan(self.flops):
            return further if further > 0 else self.further_minutes
        return self.flops / rate / 60 + further if rate > 0 else math.nan


def step_costs(run: LadderRun) -> list[StepCost]:
    """Return every step of a ladder, in order, with its cost.

    A model's facts come from its training command with the family's `plan_option`; without one FLOPs are the budget.

    Raises:
        EvalError: Such a command fails, or prints something else.
    """
    costs = list(_preparation_costs(run))
    ask_ahead(run, run.trainings)
    for training in run.trainings:
        costs += _training_costs(run, training)
    # controls have no network: what the plan states of a set of clips is all that is known
    minutes = run.plan.generate.minutes or math.nan
    for name, control in run.controls().items():
        made = (run.control_folder(control) / MANIFEST).is_file()
        costs.append(StepCost(step=f"generate {name}", done=made, further_minutes=minutes))
    score = run.plan.score
    minutes = math.nan if score.minutes is None else score.minutes
    costs.append(StepCost(step=f"score {', '.join(score.metrics)}", done=False, further_minutes=minutes))
    for fit in run.plan.fit:
        costs += [StepCost(step=f"fit {fit.metric}, {family.name}", done=False) for family in run.plan.systems]
    return costs


def _preparation_costs(run: LadderRun) -> Iterator[StepCost]:
    """Yield the costs of the preparations: as the plan states them, and the disk of what is made."""
    for step, (name, folder) in zip(run.plan.prepare, run.preparations(), strict=True):
        done = (folder / PREPARED).is_file()
        size = math.nan if step.gigabytes is None else step.gigabytes * 1e9
        if done:
            size = float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        minutes = math.nan if step.minutes is None else step.minutes
        yield StepCost(step=f"prepare {name}", done=done, further_minutes=minutes, bytes=size)


def _training_costs(run: LadderRun, training: Training) -> Iterator[StepCost]:
    """Yield the costs of the models of a training, and of generating from each."""
    family = training.points[0].family
    finished = read_record(run.run_folder(training) / RESULT)
    before: Mapping[str, float] = {"flops": 0.0, "bytes": 0.0}
    for count, (point, announcement) in enumerate(zip(training.points, announced(run, training), strict=True), 1):
        # the result of a run is that of its largest budget
        known = (finished or {}) if count == len(training.points) else {}
        facts = announcement or {"flops": point.budget, **known}
        own = {name: number(facts, name) for name in ("parameters", "flops", "steps", "epochs", "bytes")}
        so_far = {"flops": number(facts, "training_flops", own["flops"]), "bytes": own["bytes"]}
        yield StepCost(
            step=f"train {point.name}",
            done=finished is not None,
            problem=problem(point, facts),
            start_minutes=family.minutes if count == 1 else 0.0,
            **{**own, **{name: so_far[name] - before[name] for name in before}},
        )
        before = so_far
        for sampling in run.samplings(point):
            yield _generation_cost(run, point, sampling, facts)


def _generation_cost(run: LadderRun, point: LadderPoint, sampling: Sampling, facts: Mapping[str, Any]) -> StepCost:
    """Return the cost of generating from a model once: the network's FLOPs over all windows of all clips."""
    clips = run.plan.generate
    generator = run.host.resolve("generator", run.generator_spec(point, sampling, "RUN"))
    windows = math.nan
    if (window_s := number(facts, "evaluation_seconds")) > 0:
        windows = clips.count * math.ceil(clips.seconds / window_s - 1e-9)
    return StepCost(
        step=f"generate {sampled_name(point, sampling)}",
        done=(run.clips_folder(point, sampling) / MANIFEST).is_file(),
        flops=windows * number(facts, "evaluation_flops") * generator.evaluations(),
        further_minutes=clips.minutes,
        # FLAC takes less: an upper bound
        bytes=clips.count * clips.seconds * number(facts, "rate_hz") * _BYTES_A_SAMPLE,
    )


def measured_rate(run: LadderRun) -> tuple[float, int]:
    """Return the training FLOP/s of this ladder's finished models and their number; (NaN, 0) without any.

    A model whose training was interrupted does not count: only its last part was timed.
    """
    flops = seconds = 0.0
    count = 0
    for training in run.trainings:
        folder = run.run_folder(training)
        timing, result = read_record(folder.parent / TIMING), read_record(folder / RESULT)
        if timing and result:
            flops += number(result, "training_flops", number(result, "flops"))
            seconds, count = seconds + number(timing, "seconds"), count + 1
    return (flops / seconds if seconds > 0 else math.nan), count


def cost_grid(costs: Sequence[StepCost], rate: float, rate_from: str, *, is_measured: bool = False) -> Grid:
    """Return the costs as a table with the sum of what is left.

    Args:
        costs: As `step_costs` returns them.
        rate: FLOP/s; NaN where it is not known.
        rate_from: Where the rate comes from, for the note.
        is_measured: Whether it was measured on this ladder's training commands as a whole, with their starts.
    """
    minutes = {cost.step: cost.minutes(rate, is_measured=is_measured) for cost in costs}
    rows = []
    for cost in costs:
        state = "done" if cost.done else "to do"
        cells = (_short(cost.parameters), _short(cost.flops), _short(cost.steps), _short(cost.epochs))
        rows.append((state, cost.step, *cells, _short(minutes[cost.step]), _size(cost.bytes)))
    left = [cost for cost in costs if not cost.done]
    problems = [f"{cost.step}: {cost.problem}." for cost in costs if cost.problem]
    for what, steps in (*((f"{name}, in all", _of_kind(left, name)) for name in _KINDS), ("left to do", left)):
        sums = (_sum(c.flops for c in steps), _sum(minutes[c.step] for c in steps), _sum(c.bytes for c in steps))
        rows.append(("", what, "", _short(sums[0]), "", "", _short(sums[1]), _size(sums[2])))
    note = (
        f"Minutes of one device: FLOPs of training and generating at {rate / 1e12:.3g} TFLOP/s ({rate_from}), and what "
        f"the plan states beyond them{', but the starts of training, which the rate has in it' if is_measured else ''}."
    )
    if not rate > 0:
        note = "Minutes: not known before a model is trained here; name a rate with --tflops."
    return Grid(
        "What it costs",
        ("", "step", "N", "FLOPs", "steps", "epochs", "minutes", "disk"),
        tuple(rows),
        left=(0, 1),
        notes=(note, "Disk: the checkpoints that stay, and clips at most; the store is not counted.", *problems),
    )


_KINDS = ("prepare", "train", "generate", "score")


def _of_kind(costs: Sequence[StepCost], kind: str) -> list[StepCost]:
    return [cost for cost in costs if cost.step.startswith(f"{kind} ")]


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
