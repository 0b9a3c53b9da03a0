"""A planned suite: the grid of systems x metrics, its sets and gates; opens sets and lets generators write theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.plugin.contract import Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import Identity, through
from cdslm_eval.results.suite_result import Cell
from cdslm_eval.run.generation import GenerationRequest, generate_set
from cdslm_eval.suite.gates import Gate
from cdslm_eval.suite.load import Suite
from cdslm_eval.suite.model import SetSpec, SystemSpec

__all__ = ["Plan", "PlannedGate", "generator_spec", "lacking", "located", "near", "prompts_of"]


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """A gate for one system.

    Attributes:
        gate: The condition.
        title: What the suite calls it.
        system: Whose value it judges.
        baseline: The system that `baseline` means, or "".
        undecided: Which way it counts when undecided.
    """

    gate: Gate
    title: str
    system: str
    baseline: str
    undecided: Literal["fail", "pass"]


@dataclass(slots=True)
class Plan:
    """A suite that can be run.

    Attributes:
        suite: The file.
        host: Knows the components.
        metrics: By name.
        identities: Identity of each metric.
        recognizer: Gives phones.
        transcriber: Gives transcripts, where a metric or the recognizer reads them.
        references_of: System -> name of its reference, or None.
        order: Every set in an order in which generators find their prompts: ("references" or "systems", name).
        opened: The sets that are files, by the same names.
        cells: The grid.
        gates: Every gate for every system that it holds for.
        narrowed: Whether only a part of the grid is run; gates on what is left out are not judged.
    """

    suite: Suite
    host: Host
    metrics: dict[str, Metric] = field(default_factory=dict)
    identities: dict[str, Identity] = field(default_factory=dict)
    recognizer: Recognizer | None = None
    transcriber: Transcriber | None = None
    references_of: dict[str, str | None] = field(default_factory=dict)
    order: list[tuple[str, str]] = field(default_factory=list)
    opened: dict[tuple[str, str], ClipSet] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    gates: list[PlannedGate] = field(default_factory=list)
    narrowed: bool = False

    @property
    def givers(self) -> dict[str, Measurer]:
        """What is given to metrics ("phones", "transcript") -> who gives it."""
        return {one.gives: one for one in (self.transcriber, self.recognizer) if one is not None}

    @property
    def systems(self) -> list[str]:
        """The systems that are judged, in the order of the file."""
        return list(self.references_of)

    def set_spec(self, room: str, name: str) -> SetSpec:
        """Return what the file says of a set."""
        return self.suite.spec.references[name] if room == "references" else self.suite.spec.systems[name]

    def open_sets(self, clips: Path, say: Callable[[str], None]) -> dict[tuple[str, str], ClipSet]:
        """Return every set, letting generators write theirs under `clips` unless they are there already."""
        for room, name in self.order:
            if (room, name) not in self.opened:
                self.opened[room, name] = self._generated(room, name, clips, say)
        self.cells = [
            Cell(one.system, one.metric, lacking(self, one.system, self.metrics[one.metric]), one.note)
            for one in self.cells
        ]
        return self.opened

    def _generated(self, room: str, name: str, clips: Path, say: Callable[[str], None]) -> ClipSet:
        spec, whole = self.set_spec(room, name), self.suite.spec
        prompts = None
        if at := prompts_of(self, room, name):
            prompts = self.opened[at] if isinstance(at, tuple) else ClipSet.open(self.suite.folder / at)
        request = GenerationRequest(
            generator_spec(self, spec),
            prompts,
            spec.count or whole.count,
            spec.seconds or whole.seconds,
            whole.seed if spec.seed is None else spec.seed,
            whole.recognizer,
        )
        made = generate_set(self.host, request, clips, say)
        made.name = name
        return made


def generator_spec(plan: Plan, spec: SetSpec) -> str:
    """Return a generator with all its options as the command line writes it."""
    name, _, rest = str(spec.generator).partition(":")
    known = plan.host.find("generator", name).component.Options.model_fields
    options = [rest] if rest else []
    for key, value in located(plan.suite, spec.options).items():
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}.{near(key, known)}")
        if "," in str(value):
            raise UsageError(f"option {key!r}: a value with a comma cannot be given to a generator")
        options.append(f"{key}={value}")
    return f"{name}:{','.join(options)}" if options else name


def located(suite: Suite, options: Mapping[str, Any]) -> dict[str, Any]:
    """Let option texts that start with ./ or ../ stand from the suite's folder.

    Raises:
        UsageError: There is no such file.
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        found[key] = value
        if isinstance(value, str) and value.startswith(("./", "../")):
            path = (suite.folder / value).resolve()
            if not path.exists():
                hint = near(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
                raise UsageError(f"option {key!r}: {path}: no such file or directory.{hint}")
            found[key] = str(path)
    return found


def prompts_of(plan: Plan, room: str, name: str) -> tuple[str, str] | str | None:
    """Return what a generator works from: a set of the suite, a path, or the system's reference."""
    spec, whole = plan.set_spec(room, name), plan.suite.spec
    if spec.generator is None:
        return None
    if spec.prompts is None:
        reference = plan.references_of.get(name) if isinstance(spec, SystemSpec) else None
        return ("references", reference) if reference in whole.references and reference else None
    for other in ("references", "systems"):
        if spec.prompts in getattr(whole, other):
            return other, spec.prompts
    return spec.prompts


def lacking(plan: Plan, system: str, metric: Metric) -> str:
    """Return why a metric cannot be run on a system, or ""."""
    clips = plan.opened.get(("systems", system))
    if clips is None:
        return ""  # what a generator's clips carry is known once they are written
    offers = set(clips.offers())
    for given, giver in reversed(through(metric, plan.givers).items()):
        if set(giver.needs) <= offers | set(through(giver, plan.givers)):
            offers.add(given)
    lacking = sorted(set(metric.needs) - offers)
    return f"its clips have no {' and no '.join(lacking)}".replace("_", " ") if lacking else ""


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint after an unknown name: what was meant, else what there is."""
    known = list(known)
    return did_you_mean(name, known) or f" Known: {', '.join(known[:20]) or 'none'}."
