"""Climbs a ladder step by step; whatever is there already is not done again."""

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

__all__ = ["Climb", "Rung", "rungs"]

_RESULT = "result.json"
_FACTS = ("parameters", "tokens", "flops", "val_loss")


@dataclass(frozen=True, slots=True)
class Rung:
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
        """How it is called in the table: "cdslm-2-4e+13"."""
        return f"{self.family.name}-{self.size}-{self.budget:.3g}"


def rungs(plan: Plan) -> list[Rung]:
    """Return the models of a plan, the cheapest first."""
    found = [
        Rung(family, size, budget) for family in plan.systems for size in family.sizes for budget in family.budgets
    ]
    return sorted(found, key=lambda rung: rung.budget)


class Climb:
    """A plan with a folder to put things into.

    Args:
        plan: What is wanted.
        out: Folder of everything that is made.
        host: Knows the generators.
        say: Told what is going on, line by line.

    Attributes:
        plan: What is climbed: without the systems that are wanted only if installed, and are not.

    Raises:
        UsageError: A system that is wanted is not installed, or none of them is.
    """

    def __init__(self, plan: Plan, out: Path, host: Host, say: Callable[[str], None]) -> None:
        self.plan, self.out, self.host, self.say = plan, out, host, say
        self._places: dict[str, str] = dict(plan.paths)
        for one in plan.prepare:
            command = self._filled(one.command, {"out": "OUT"})
            self._places[one.name] = str(out / "prepared" / f"{one.name}-{_digest(command)}")
        self.plan = plan.model_copy(update={"systems": tuple(filter(self._at_hand, plan.systems))})
        if not self.plan.systems:
            raise UsageError(f"{plan.name}: none of its systems is installed here")

    def state(self) -> list[tuple[str, bool]]:
        """Return each step with whether it is done."""
        steps = [(f"prepare {one.name}", _finished(Path(self._places[one.name]))) for one in self.plan.prepare]
        for rung in rungs(self.plan):
            steps.append((f"train {rung.name}", (self._run(rung) / _RESULT).is_file()))
            steps.append((f"generate {rung.name}", (self._clips(rung) / MANIFEST).is_file()))
        return steps

    def prepare(self) -> None:
        """Make what all runs share."""
        for one in self.plan.prepare:
            folder = Path(self._places[one.name])
            if _finished(folder):
                continue
            self.say(f"prepare {one.name}")
            seconds = self._command(self._filled(one.command, {"out": str(folder)}), folder.parent / f"{one.name}.log")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "ladder.json").write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")

    def train(self) -> list[dict[str, Any]]:
        """Train every model that is not trained yet; return what each came to, in the order of `rungs`.

        Raises:
            EvalError: A command failed, or left no `result.json`; what was trained before is kept.
        """
        everything = rungs(self.plan)
        spent, used = 0.0, 0.0
        results = []
        for number, rung in enumerate(everything, 1):
            run = self._run(rung)
            if not (run / _RESULT).is_file():
                left = sum(one.budget for one in everything[number - 1 :]) * spent / used if used else None
                hint = "" if left is None else f", about {left / 60:.0f} min of training left"
                self.say(f"train {rung.name} ({number} of {len(everything)}{hint})")
                run.parent.mkdir(parents=True, exist_ok=True)
                spent += self._command(self._train_command(rung, str(run)), run.parent / "train.log")
                used += rung.budget
            results.append(_result(run))
        return results

    def generate(self) -> list[ClipSet]:
        """Let every model speak; return the sets, in the order of `rungs`, then the controls."""
        wanted = self.plan.generate
        prompts = ClipSet.open(self._place(wanted.prompts)) if wanted.prompts else None
        sets = []
        for rung in rungs(self.plan):
            spec = self._one(rung.family.generator, {"run": str(self._run(rung))})
            sets.append(self._spoken(spec, rung.name, self._clips(rung), prompts))
        for control in wanted.controls:
            spec = self._one(control, {})
            folder = self.out / "controls" / f"{spec.partition(':')[0]}-{_digest([spec, str(wanted)])}"
            sets.append(self._spoken(spec, control.partition(",")[0], folder, prompts))
        return sets

    def reference(self) -> ClipSet | None:
        """Return the reference set."""
        place = self.plan.score.reference
        return ClipSet.open(self._place(place), name="reference") if place else None

    def metrics(self) -> list[str]:
        """Return the metrics that are wanted, and those of the rest that can be used here."""
        names = list(self.plan.score.metrics)
        for spec in self.plan.score.if_installed:
            if why := self._lacking("metric", spec):
                self.say(f"{spec} is left out: {why}")
            else:
                names.append(spec)
        return names

    def _at_hand(self, family: Family) -> bool:
        """Return whether a family can be trained and heard here; asked before anything is begun."""
        command = self._train_command(Rung(family, family.sizes[0], family.budgets[0]), "RUN")[0]
        lacking = f"there is no command {command!r} here" if _program(command) is None else ""
        if why := lacking or self._lacking("generator", family.generator):
            if not family.if_installed:
                raise UsageError(
                    f"system {family.name}: {why}; install what brings it, or write if_installed = true to leave it out"
                )
            self.say(f"system {family.name} is left out: {why}")
        return not why

    def _lacking(self, kind: str, spec: str) -> str:
        """Return what a component lacks to be used here, or nothing."""
        name = spec.partition(":")[0]
        found = self.host.registered(kind).get(name)
        if found is None:
            return "not installed" if kind == "metric" else f"the {kind} {name!r} is not installed"
        return found.component.missing() or ""

    def _spoken(self, spec: str, name: str, folder: Path, prompts: ClipSet | None) -> ClipSet:
        wanted = self.plan.generate
        if not (folder / MANIFEST).is_file():
            self.say(f"generate {name}: {wanted.count} clips of {wanted.seconds:g} s")
            request = GenerationRequest(
                spec, prompts, wanted.count, wanted.seconds, self.plan.seed, self.plan.score.recognizer
            )
            generate_into(self.host, request, folder)
        return ClipSet.open(folder, name=name)

    def _run(self, rung: Rung) -> Path:
        key = _digest(self._train_command(rung, "RUN"))
        return self.out / "runs" / f"{rung.name}-{key}" / "run"

    def _clips(self, rung: Rung) -> Path:
        wanted = self.plan.generate
        key = _digest([rung.family.generator, str(wanted.prompts), str(wanted.count), str(wanted.seconds)])
        return self._run(rung).parent / f"clips-{key}"

    def _train_command(self, rung: Rung, run: str) -> list[str]:
        facts = {"size": str(rung.size), "budget": f"{rung.budget:g}", "seed": str(self.plan.seed), "run": run}
        return self._filled(rung.family.train, facts)

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
        program = _program(words[0])
        if program is None:
            raise UsageError(f"there is no command {words[0]!r} here; install what brings it")
        log.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        leash = [sys.executable, "-m", "cdslm_eval.ladder.leash", program, *words[1:]]
        with log.open("ab") as file:
            child = subprocess.Popen(leash, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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
    """Pass on what a process says as it says it: a progress bar has no ends of line to wait for."""
    assert child.stdout is not None
    while chunk := os.read(child.stdout.fileno(), 1 << 16):
        for target in targets:
            target.write(chunk)
            target.flush()


def _program(name: str) -> str | None:
    """Return the program, looked for beside this Python first: a virtual environment need not be active."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def _finished(folder: Path) -> bool:
    return (folder / "ladder.json").is_file()


def _result(run: Path) -> dict[str, Any]:
    path = run / _RESULT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path}: the training command must leave it, as JSON, when it is done: {error}") from error
    lacking = [name for name in _FACTS if not isinstance(found, dict) or name not in found]
    if lacking:
        raise EvalError(f"{path}: lacks {', '.join(lacking)}")
    return dict(found)


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:8]
