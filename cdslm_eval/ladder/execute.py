"""Runs a ladder step by step; what exists already is not made again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.ladder.plan import Family, Plan, Preparation
from cdslm_eval.ladder.points import (
    LadderPoint,
    SampledPoint,
    Sampling,
    Training,
    ladder_trainings,
    sampled_name,
    samplings,
)
from cdslm_eval.ladder.rows import PARTS
from cdslm_eval.plugin.host import Host
from cdslm_eval.run.generation import GenerationRequest, generate_into

__all__ = ["PREPARED", "LadderRun", "find_program", "run_command"]

PREPARED = "ladder.json"


class LadderRun:
    """A plan with the folder of its output.

    Args:
        plan: The ladder.
        out: Folder of everything that is made.
        host: Knows the generators.
        log: Called with each line of progress.

    Attributes:
        plan: The ladder without the systems marked `if_installed` that are not installed.
        trainings: The training commands, the cheapest first.
        announcements: What training commands announced of themselves, by run folder.

    Raises:
        UsageError: A required system is not installed, or none is; or an axis has the name of a metric's column.
    """

    def __init__(self, plan: Plan, out: Path, host: Host, log: Callable[[str], None]) -> None:
        self.plan, self.out, self.host, self.log = plan, out, host, log
        self.announcements: dict[str, dict[str, Any]] = {}
        self._places: dict[str, str] = dict(plan.paths)
        for step in plan.prepare:
            command = self._filled(step.command, {"out": "OUT"})
            self._places[step.name] = str(out / "prepared" / f"{step.name}-{_digest(command)}")
        systems = tuple(filter(self._installed, plan.systems))
        prepare = tuple(step for step in plan.prepare if not self._is_omitted(step))
        self.plan = plan.model_copy(update={"systems": systems, "prepare": prepare})
        if not self.plan.systems:
            raise UsageError(f"{plan.name}: none of its systems is installed here")
        self.trainings = ladder_trainings(self.plan)
        self._check_axes()
        self._note_shared_reference()

    def omit(self, names: frozenset[str]) -> None:
        """Leave models out.

        Raises:
            UsageError: None is left.
        """
        self.trainings = ladder_trainings(self.plan, names)
        if not self.trainings:
            raise UsageError(f"{self.plan.name}: no model is left to train")

    def rows(self) -> list[str]:
        """Return the names of the rows of the table, in the order of the trainings."""
        points = [point for training in self.trainings for point in training.points]
        return [sampled_name(point, sampling) for point in points for sampling in self.samplings(point)]

    def preparations(self) -> list[tuple[str, Path]]:
        """Return the name and folder of what all runs share; a finished one holds `ladder.json`."""
        return [(step.name, Path(self._places[step.name])) for step in self.plan.prepare]

    def prepare(self) -> None:
        """Make what all runs share."""
        for step in self.plan.prepare:
            folder = Path(self._places[step.name])
            if _finished(folder):
                continue
            self.log(f"prepare {step.name}")
            log = folder.parent / f"{step.name}.log"
            seconds = run_command(self._filled(step.command, {"out": str(folder)}), log, show=True)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / PREPARED).write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")

    def generate(self, sampled: SampledPoint) -> ClipSet:
        """Generate from a model, or open what it generated before."""
        spec = self.generator_spec(sampled.trained.point, sampled.sampling, str(sampled.trained.folder))
        folder = self.clips_folder(sampled.trained.point, sampled.sampling)
        return self._generated(spec, sampled.name, folder)

    def samplings(self, point: LadderPoint) -> list[Sampling]:
        """Return the values of the axes of generation that a model is generated with, each combination once."""
        return samplings(self.plan, point.family)

    def generator_spec(self, point: LadderPoint, sampling: Sampling, folder: str) -> str:
        """Return the generator of a model with its options, for a folder of its run."""
        return self._one(point.family.generator, {"run": folder, **{name: str(value) for name, value in sampling}})

    def generate_controls(self) -> list[ClipSet]:
        """Generate from the controls."""
        return [
            self._generated(self._one(control, {}), name, self.control_folder(control))
            for name, control in self.controls().items()
        ]

    def controls(self) -> dict[str, str]:
        """Return the controls by name: without options where that distinguishes them."""
        specs = self.plan.generate.controls
        short = [spec.partition(",")[0] for spec in specs]
        return {name if short.count(name) == 1 else spec: spec for name, spec in zip(short, specs, strict=True)}

    def reference(self) -> ClipSet | None:
        """Return the reference set."""
        score = self.plan.score
        if not score.reference:
            return None
        return ClipSet.open(self._place(score.reference), "reference", ignore_columns=score.ignore_columns)

    def metrics(self) -> list[str]:
        """Return the required metrics, and the optional ones that can be used here."""
        names = list(self.plan.score.metrics)
        for spec in self.plan.score.if_installed:
            if why := self._lacking("metric", spec):
                self.log(f"{spec} is left out: {why}")
            else:
                names.append(spec)
        return names

    def _installed(self, family: Family) -> bool:
        """Return whether a family can be trained and generated from here; checked before anything starts."""
        command = self.train_command(Training((LadderPoint(family, family.sizes[0], family.budgets[0], 0),)), "RUN")[0]
        lacking = f"there is no command {command!r} here" if find_program(command) is None else ""
        for step in self.plan.prepare:
            if not lacking and step.name in family.places and self._is_omitted(step):
                lacking = f"there is no command for the step {step.name}"
        if why := lacking or self._lacking("generator", family.generator):
            if not family.if_installed:
                raise UsageError(
                    f"system {family.name}: {why}; install what provides it, or write if_installed = true to omit it"
                )
            self.log(f"system {family.name} is left out: {why}")
        return not why

    def _is_omitted(self, step: Preparation) -> bool:
        """Return whether a preparation is left out, as its command is not installed."""
        return step.if_installed and find_program(shlex.split(step.command)[0]) is None

    def _lacking(self, kind: str, spec: str) -> str:
        """Return what a component lacks to be used here, or nothing."""
        name = spec.partition(":")[0]
        registered = self.host.registered(kind).get(name)
        if registered is None:
            return "not installed" if kind == "metric" else f"the {kind} {name!r} is not installed"
        return registered.component.missing() or ""

    def _generated(self, spec: str, name: str, folder: Path) -> ClipSet:
        clips = self.plan.generate
        if not (folder / MANIFEST).is_file():
            self.log(f"generate {name}: {clips.count} clips of {clips.seconds:g} s")
            prompts = None
            if clips.prompts:
                prompts = ClipSet.open(self._place(clips.prompts), ignore_columns=clips.ignore_columns)
            request = GenerationRequest(
                spec, prompts, clips.count, clips.seconds, self.plan.seed, self.plan.score.recognizer
            )
            generate_into(self.host, request, folder)
        return ClipSet.open(folder, name=name)

    def _check_axes(self) -> None:
        """Refuse an axis with the name of a column of a metric: the value would replace it, row by row."""
        score = self.plan.score
        for spec in (*score.metrics, *score.if_installed):
            registered = self.host.registered("metric").get(spec.partition(":")[0])
            values = getattr(registered.component, "statistics", {}) if registered else {}
            # pjsd_2_corrected: a value, its order and a part of it
            columns = re.compile(rf"({'|'.join(map(re.escape, values))})(_\d+)?(_({'|'.join(PARTS)}))?")
            for axis in self.plan.generate.axes:
                if values and columns.fullmatch(axis):
                    raise UsageError(
                        f"{self.plan.name}: generate.axes.{axis}: the metric {spec} has a column of this name; use "
                        "another name"
                    )

    def _note_shared_reference(self) -> None:
        """Say so where the reference is speech that training watches: what is chosen by it looks better on it."""
        reference = self.plan.score.reference
        if not reference:
            return
        place = self._place(reference)
        commands = [step.command for step in self.plan.prepare] + [family.train for family in self.plan.systems]
        for command in commands:
            if place in [word.format_map(_Unfilled(self._places)) for word in shlex.split(command)]:
                self.log(f"the reference, {place}, is also given to {shlex.split(command)[0]!r}; use speech of its own")
                return

    def run_folder(self, training: Training) -> Path:
        """Return the folder of a training run."""
        key = _digest(self.train_command(training, "RUN"))
        return self.out / "runs" / f"{training.name}-{key}" / "run"

    def clips_folder(self, point: LadderPoint, sampling: Sampling = ()) -> Path:
        """Return the folder of what a model generates."""
        key = self._clips_key(self.generator_spec(point, sampling, "{run}"))
        branch = f"-{point.budget:.3g}" if point.family.is_branched else ""
        return self.run_folder(self._training_of(point)).parent / f"clips{branch}-{key}"

    def _clips_key(self, spec: str) -> str:
        """Return what distinguishes the clips of a generator: its options, prompts by their place, and the seed."""
        clips = self.plan.generate
        prompts = self._place(clips.prompts or "")
        return _digest([spec, prompts, str(clips.count), str(clips.seconds), str(self.plan.seed)])

    def _training_of(self, point: LadderPoint) -> Training:
        return next(training for training in self.trainings if point in training.points)

    def control_folder(self, control: str) -> Path:
        """Return the folder of what a control generates."""
        spec = self._one(control, {})
        return self.out / "controls" / f"{spec.partition(':')[0]}-{self._clips_key(spec)}"

    def train_command(self, training: Training, run: str, device: str = "DEVICE") -> list[str]:
        """Return the words of a training command, with the folder of its run and its device."""
        values = {**training.values(), "run": run, "device": device}
        return self._filled(training.points[0].family.train, values, training.budgets)

    def _filled(self, command: str, facts: Mapping[str, str], budgets: Sequence[float] = ()) -> list[str]:
        """Split a command, then fill it in, so that a path with blanks stays one argument.

        A word with `{budgets}` is repeated, once per budget.
        """
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"{command!r} is not a command: {error}") from error
        filled = []
        for word in words:
            each = [{**facts, "budgets": f"{budget:g}"} for budget in budgets] if "{budgets}" in word else [facts]
            filled += [self._one(word, values) for values in each]
        return filled

    def _one(self, template: str, facts: Mapping[str, str]) -> str:
        return template.format_map({**self._places, **facts})

    def _place(self, template: str) -> str:
        return self._one(template, {})


class _Unfilled(dict[str, str]):
    """Values of placeholders, in which an unknown one stays as it is."""

    def __missing__(self, name: str) -> str:
        return f"{{{name}}}"


def run_command(
    words: Sequence[str], log: Path, started: Callable[[subprocess.Popen[bytes]], None] | None = None, *, show: bool
) -> float:
    """Run a command, its output in a log; return its seconds.

    Args:
        words: The command.
        log: File that its output is added to.
        started: Called with the process.
        show: Whether its output also appears on stderr.

    Raises:
        UsageError: There is no such command.
        EvalError: It failed.
    """
    program = find_program(words[0])
    if program is None:
        raise UsageError(f"there is no command {words[0]!r} here; install what provides it")
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    guarded = [sys.executable, "-m", "cdslm_eval.ladder.watchdog", program, *words[1:]]
    with (
        log.open("ab") as file,
        subprocess.Popen(guarded, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child,
    ):
        if started:
            started(child)
        try:
            _copy(child, (file, sys.stderr.buffer) if show else (file,))
            code = child.wait()
        except BaseException:
            child.terminate()
            raise
    if code:
        raise EvalError(
            f"{shlex.join(words)} ended with exit code {code}; its output is in {log}; what is done is kept"
        )
    return time.monotonic() - start


def _copy(child: subprocess.Popen[bytes], targets: Sequence[IO[bytes]]) -> None:
    """Copy a process's output as it arrives: a progress bar has no ends of line to wait for."""
    assert child.stdout is not None
    while chunk := os.read(child.stdout.fileno(), 1 << 16):
        for target in targets:
            target.write(chunk)
            target.flush()


def find_program(name: str) -> str | None:
    """Return the program, looked for next to this Python first: a virtual environment need not be active."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _finished(folder: Path) -> bool:
    return (folder / PREPARED).is_file()


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:8]
