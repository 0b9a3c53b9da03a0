"""Runs a ladder step by step; what exists already is not made again."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.ladder.plan import Family, Plan
from cdslm_eval.plugin.host import Host
from cdslm_eval.run.generation import GenerationRequest, generate_into

__all__ = ["PREPARED", "RESULT", "TIMING", "LadderPoint", "LadderRun", "find_program", "ladder_points"]

RESULT = "result.json"
PREPARED = "ladder.json"
TIMING = "train.json"
_FACTS = ("parameters", "tokens", "flops", "val_loss")


@dataclass(frozen=True, slots=True)
class LadderPoint:
    """One model to train: a size of a family at a budget.

    Attributes:
        family: The family.
        size: Its size, as the plan writes it.
        budget: FLOPs.
    """

    family: Family
    size: int | str
    budget: float

    @property
    def name(self) -> str:
        """Its name in the table: "cdslm-2-4e+13"."""
        return f"{self.family.name}-{self.size}-{self.budget:.3g}"


def ladder_points(plan: Plan) -> list[LadderPoint]:
    """Return the models of a plan, the cheapest first."""
    points = [
        LadderPoint(family, size, budget)
        for family in plan.systems
        for size in family.sizes
        for budget in family.budgets
    ]
    return sorted(points, key=lambda point: point.budget)


class LadderRun:
    """A plan with the folder of its output.

    Args:
        plan: The ladder.
        out: Folder of everything that is made.
        host: Knows the generators.
        log: Called with each line of progress.

    Attributes:
        plan: The ladder without the systems marked `if_installed` that are not installed.

    Raises:
        UsageError: A required system is not installed, or none is.
    """

    def __init__(self, plan: Plan, out: Path, host: Host, log: Callable[[str], None]) -> None:
        self.plan, self.out, self.host, self.log = plan, out, host, log
        self._places: dict[str, str] = dict(plan.paths)
        for step in plan.prepare:
            command = self._filled(step.command, {"out": "OUT"})
            self._places[step.name] = str(out / "prepared" / f"{step.name}-{_digest(command)}")
        self.plan = plan.model_copy(update={"systems": tuple(filter(self._installed, plan.systems))})
        if not self.plan.systems:
            raise UsageError(f"{plan.name}: none of its systems is installed here")

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
            seconds = self._command(self._filled(step.command, {"out": str(folder)}), log)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / PREPARED).write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")

    def train(self) -> list[dict[str, Any]]:
        """Train every model that is not trained yet; return the results in the order of `ladder_points`.

        Raises:
            EvalError: A command failed, or left no `result.json`; what was trained before is kept.
        """
        points = ladder_points(self.plan)
        spent, used = 0.0, 0.0
        results = []
        for number, point in enumerate(points, 1):
            run = self.run_folder(point)
            if not (run / RESULT).is_file():
                left = sum(later.budget for later in points[number - 1 :]) * spent / used if used else None
                hint = "" if left is None else f", about {left / 60:.0f} min of training left"
                self.log(f"train {point.name} ({number} of {len(points)}{hint})")
                run.parent.mkdir(parents=True, exist_ok=True)
                is_new = not run.exists()
                seconds = self._command(self.train_command(point, str(run)), run.parent / "train.log")
                if is_new:  # of a resumed run, only the rest was timed
                    record = json.dumps({"seconds": seconds}) + "\n"
                    (run.parent / TIMING).write_text(record, encoding="utf-8")
                spent, used = spent + seconds, used + point.budget
            results.append(_result(run))
        return results

    def generate(self) -> list[ClipSet]:
        """Generate from every model; return the sets in the order of `ladder_points`, then the controls."""
        spec_of_clips = self.plan.generate
        prompts = ClipSet.open(self._place(spec_of_clips.prompts)) if spec_of_clips.prompts else None
        sets = []
        for point in ladder_points(self.plan):
            spec = self._one(point.family.generator, {"run": str(self.run_folder(point))})
            sets.append(self._generated(spec, point.name, self.clips_folder(point), prompts))
        for control in spec_of_clips.controls:
            spec = self._one(control, {})
            sets.append(self._generated(spec, control.partition(",")[0], self.control_folder(control), prompts))
        return sets

    def reference(self) -> ClipSet | None:
        """Return the reference set."""
        path = self.plan.score.reference
        return ClipSet.open(self._place(path), name="reference") if path else None

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
        command = self.train_command(LadderPoint(family, family.sizes[0], family.budgets[0]), "RUN")[0]
        lacking = f"there is no command {command!r} here" if find_program(command) is None else ""
        if why := lacking or self._lacking("generator", family.generator):
            if not family.if_installed:
                raise UsageError(
                    f"system {family.name}: {why}; install what provides it, or write if_installed = true to omit it"
                )
            self.log(f"system {family.name} is left out: {why}")
        return not why

    def _lacking(self, kind: str, spec: str) -> str:
        """Return what a component lacks to be used here, or nothing."""
        name = spec.partition(":")[0]
        registered = self.host.registered(kind).get(name)
        if registered is None:
            return "not installed" if kind == "metric" else f"the {kind} {name!r} is not installed"
        return registered.component.missing() or ""

    def _generated(self, spec: str, name: str, folder: Path, prompts: ClipSet | None) -> ClipSet:
        clips = self.plan.generate
        if not (folder / MANIFEST).is_file():
            self.log(f"generate {name}: {clips.count} clips of {clips.seconds:g} s")
            request = GenerationRequest(
                spec, prompts, clips.count, clips.seconds, self.plan.seed, self.plan.score.recognizer
            )
            generate_into(self.host, request, folder)
        return ClipSet.open(folder, name=name)

    def run_folder(self, point: LadderPoint) -> Path:
        """Return the folder of a model's training run."""
        key = _digest(self.train_command(point, "RUN"))
        return self.out / "runs" / f"{point.name}-{key}" / "run"

    def clips_folder(self, point: LadderPoint) -> Path:
        """Return the folder of what a model generates."""
        clips = self.plan.generate
        key = _digest([point.family.generator, str(clips.prompts), str(clips.count), str(clips.seconds)])
        return self.run_folder(point).parent / f"clips-{key}"

    def control_folder(self, control: str) -> Path:
        """Return the folder of what a control generates."""
        spec = self._one(control, {})
        return self.out / "controls" / f"{spec.partition(':')[0]}-{_digest([spec, str(self.plan.generate)])}"

    def train_command(self, point: LadderPoint, run: str) -> list[str]:
        """Return the words of a model's training command, with the folder of its run."""
        facts = {"size": str(point.size), "budget": f"{point.budget:g}", "seed": str(self.plan.seed), "run": run}
        return self._filled(point.family.train, facts)

    def _filled(self, command: str, facts: Mapping[str, str]) -> list[str]:
        """Split a command, then fill it in, so that a path with blanks stays one argument."""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"{command!r} is not a command: {error}") from error
        return [self._one(word, facts) for word in words]

    def _one(self, template: str, facts: Mapping[str, str]) -> str:
        return template.format_map({**self._places, **facts})

    def _place(self, template: str) -> str:
        return self._one(template, {})

    def _command(self, words: Sequence[str], log: Path) -> float:
        """Run a command, its output on our stderr and in a log; return its seconds."""
        program = find_program(words[0])
        if program is None:
            raise UsageError(f"there is no command {words[0]!r} here; install what provides it")
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        guarded = [sys.executable, "-m", "cdslm_eval.ladder.watchdog", program, *words[1:]]
        with log.open("ab") as file:
            child = subprocess.Popen(guarded, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                _copy(child, (file, sys.stderr.buffer))
                code = child.wait()
            except BaseException:
                child.terminate()
                child.wait()
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


def _result(run: Path) -> dict[str, Any]:
    path = run / RESULT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path}: the training command must leave it, as JSON, when it is done: {error}") from error
    lacking = [name for name in _FACTS if not isinstance(record, dict) or name not in record]
    if lacking:
        raise EvalError(f"{path}: lacks {', '.join(lacking)}")
    return dict(record)


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:8]
