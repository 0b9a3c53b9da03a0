"""Plans a suite before anything runs: opens what is there, makes the metrics, lays out the grid, checks every gate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from cdslm_eval.clips import ClipSet
from cdslm_eval.contract import Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.errors import EvalError, UsageError, did_you_mean
from cdslm_eval.generation import Order, generate_set
from cdslm_eval.host import Host, transcriber_for
from cdslm_eval.identity import Identity, identify, through
from cdslm_eval.judgement import Cell
from cdslm_eval.statistic import JensenShannon, Statistic
from cdslm_eval.suite.gates import Gate, parse_gate
from cdslm_eval.suite.load import Problems, Suite
from cdslm_eval.suite.model import GateSpec, SetSpec, SystemSpec

__all__ = ["Plan", "PlannedGate", "make_plan"]


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
            Cell(one.system, one.metric, _lacking(self, one.system, self.metrics[one.metric]), one.note)
            for one in self.cells
        ]
        return self.opened

    def _generated(self, room: str, name: str, clips: Path, say: Callable[[str], None]) -> ClipSet:
        spec, whole = self.set_spec(room, name), self.suite.spec
        prompts = None
        if at := _prompts_of(self, room, name):
            prompts = self.opened[at] if isinstance(at, tuple) else ClipSet.open(self.suite.folder / at)
        order = Order(
            _generator_spec(self, spec),
            prompts,
            spec.count or whole.count,
            spec.seconds or whole.seconds,
            whole.seed if spec.seed is None else spec.seed,
            whole.recognizer,
        )
        made = generate_set(self.host, order, clips, say)
        made.name = name
        return made


def _generator_spec(plan: Plan, spec: SetSpec) -> str:
    """Return a generator with all its options as the command line writes it."""
    name, _, rest = str(spec.generator).partition(":")
    known = plan.host.find("generator", name).component.Options.model_fields
    options = [rest] if rest else []
    for key, value in _located(plan.suite, spec.options).items():
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}.{_near(key, known)}")
        if "," in str(value):
            raise UsageError(f"option {key!r}: a value with a comma cannot be given to a generator")
        options.append(f"{key}={value}")
    return f"{name}:{','.join(options)}" if options else name


def _located(suite: Suite, options: Mapping[str, Any]) -> dict[str, Any]:
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
                near = _near(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
                raise UsageError(f"option {key!r}: {path}: no such file or directory.{near}")
            found[key] = str(path)
    return found


def make_plan(suite: Suite, host: Host, *, only: Sequence[str] = (), recorded: bool = False) -> Plan:
    """Check a suite against what is installed and on the disk, and lay out what will run.

    Args:
        suite: The file.
        host: Knows the components.
        only: Patterns of systems and metrics to keep; empty keeps all.
        recorded: Whether the run is compared with a recorded one, as gates on `recorded` need.

    Raises:
        UsageError: Anything is wrong; every problem is told, with its line and key.
    """
    plan, problems = Plan(suite, host, narrowed=bool(only)), Problems(suite.path, suite.text)
    _components(plan, problems)
    _sets(plan, problems)
    problems.tell()
    _select(plan, only)
    for system in plan.systems:
        plan.cells += [
            Cell(system, name, _lacking(plan, system, m), m.fetches() or "") for name, m in plan.metrics.items()
        ]
    _gates(plan, problems, recorded=recorded)
    problems.tell()
    return plan


def _components(plan: Plan, problems: Problems) -> None:
    """Make the recognizer, the executor (to see that it can be made), the metrics, and what writes for them."""
    spec, host = plan.suite.spec, plan.host
    for where, kind, wanted in (
        (("recognizer",), "recognizer", spec.recognizer),
        (("run", "executor"), "executor", spec.run.executor),
    ):
        try:
            made = host.make(kind, wanted)
        except EvalError as error:
            problems.add(where, str(error))
            continue
        if kind == "recognizer":
            plan.recognizer = made
    for name, options in spec.metrics.items():
        try:
            plan.metrics[name] = host.build("metric", name, _located(plan.suite, options))
        except (EvalError, OSError) as error:
            problems.add(("metrics", name), str(error))
    try:
        readers = [one for one in (*plan.metrics.values(), plan.recognizer) if one is not None]
        plan.transcriber = transcriber_for(readers, host, spec.transcriber)
    except EvalError as error:
        problems.add(("transcriber",), str(error))
    for name, metric in plan.metrics.items():
        try:
            plan.identities[name] = identify(metric, plan.givers)
        except (EvalError, OSError) as error:
            problems.add(_whose(plan, name), str(error))


def _whose(plan: Plan, name: str) -> tuple[str, ...]:
    """Return the key that is to blame when a metric's identity cannot be had: its own, or that of what it reads."""
    for key, giver in (("transcriber", plan.transcriber), ("recognizer", plan.recognizer)):
        if giver is not None and giver.gives in through(plan.metrics[name], plan.givers):
            try:
                identify(giver, plan.givers)
            except (EvalError, OSError):
                return (key,)
    return "metrics", name


def _sets(plan: Plan, problems: Problems) -> None:
    """Resolve names, find cycles, open what is there, and put generators behind their prompts."""
    spec = plan.suite.spec
    alone = next(iter(spec.references)) if len(spec.references) == 1 else None
    for where, name in (
        (("reference",), spec.reference),
        *((("systems", s, "reference"), o.reference) for s, o in spec.systems.items()),
    ):
        if name is not None and name not in spec.references:
            problems.add(where, f"there is no reference {name!r}.{_near(name, spec.references)}")
    for where, name in (
        (("baseline",), spec.baseline),
        *((("systems", s, "baseline"), o.baseline) for s, o in spec.systems.items()),
    ):
        if name is not None and name not in spec.systems:
            problems.add(where, f"there is no system {name!r}.{_near(name, spec.systems)}")
    plan.references_of = {name: one.reference or spec.reference or alone for name, one in spec.systems.items()}
    versus = [m.name for m in plan.metrics.values() if any(s.needs_reference for s in m.statistics.values())]
    for system, reference in plan.references_of.items():
        if versus and reference is None:
            why = f"{versus[0]} compares with real speech; give the system a reference"
            problems.add(("systems", system), why + (f" ({', '.join(spec.references)})" if spec.references else ""))
    _cycles({name: [one.baseline] for name, one in spec.systems.items() if one.baseline}, "baseline", problems)
    for room, names in (("references", spec.references), ("systems", spec.systems)):
        for name in names:
            _open(plan, problems, room, name)
    places = [(room, name) for room in ("references", "systems") for name in getattr(spec, room)]
    after = {at: [p] for at in places if isinstance(p := _prompts_of(plan, *at), tuple)}
    _cycles({at[1]: [p[1] for p in some] for at, some in after.items()}, "prompts", problems)
    plan.order = sorted(places, key=lambda at: (_depth(at, after), places.index(at)))


def _open(plan: Plan, problems: Problems, room: str, name: str) -> None:
    spec = plan.set_spec(room, name)
    where = (room, name, "path" if spec.path is not None else "generator")
    try:
        if spec.path is not None:
            plan.opened[room, name] = ClipSet.open(plan.suite.folder / spec.path, name=name)
            return
        made = plan.host.make("generator", _generator_spec(plan, spec))
        made.fingerprint()
        prompts = _prompts_of(plan, room, name)
        if made.prompts and prompts is None:
            problems.add(where, f"{spec.generator} works from clips; name them with prompts")
        if isinstance(prompts, str):
            ClipSet.open(plan.suite.folder / prompts)
    except (EvalError, OSError) as error:
        problems.add(where, str(error))


def _prompts_of(plan: Plan, room: str, name: str) -> tuple[str, str] | str | None:
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


def _depth(at: tuple[str, str], after: Mapping[tuple[str, str], Sequence[Any]]) -> int:
    depth, seen = 0, {at}
    while after.get(at) and after[at][0] not in seen:
        at = after[at][0]
        seen.add(at)
        depth += 1
    return depth


def _cycles(after: Mapping[str, Sequence[str | None]], what: str, problems: Problems) -> None:
    told: set[str] = set()
    for start in after:
        trail = [start]
        while (following := (after.get(trail[-1]) or [None])[0]) and following not in trail:
            trail.append(following)
        if following == start and start not in told:
            told.update(trail)
            problems.add(("systems", start, what), f"goes in a circle: {' -> '.join([*trail, start])}")


def _select(plan: Plan, only: Sequence[str]) -> None:
    """Keep what `only` names: systems, metrics, or both."""
    known = [*plan.references_of, *plan.metrics]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(f"--only {pattern!r}: no system and no metric of the suite.{_near(pattern, known)}")

    def keep(names: Iterable[str]) -> set[str]:
        """Return those of the names that are asked for; all where none of this kind is."""
        names = list(names)
        return {name for name in names if any(fnmatchcase(name, one) for one in only)} or set(names)

    systems, metrics = keep(plan.references_of), keep(plan.metrics)
    plan.references_of = {name: one for name, one in plan.references_of.items() if name in systems}
    plan.metrics = {name: one for name, one in plan.metrics.items() if name in metrics}
    wanted = {("systems", name) for name in systems} | {("references", r) for r in plan.references_of.values() if r}
    for at in reversed(plan.order):
        if at in wanted and isinstance(prompts := _prompts_of(plan, *at), tuple):
            wanted.add(prompts)
    plan.order = [at for at in plan.order if at in wanted]


def _lacking(plan: Plan, system: str, metric: Metric) -> str:
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


def _gates(plan: Plan, problems: Problems, *, recorded: bool) -> None:
    """Read every gate, and lay it out for every system that it holds for."""
    spec = plan.suite.spec
    values: dict[str, tuple[str, Statistic]] = {}
    for metric in plan.metrics.values():
        for key, statistic in metric.statistics.items():
            values |= dict.fromkeys(statistic.names(key), (metric.name, statistic))
    for number, one in enumerate(spec.gates):
        where: tuple[str | int, ...] = ("gates", number, "gate")
        for name in one.systems or ():
            if name not in spec.systems:
                problems.add(("gates", number, "systems"), f"there is no system {name!r}.{_near(name, spec.systems)}")
        try:
            gate = parse_gate(one.gate)
        except UsageError as error:
            problems.add(where, str(error))
            continue
        if gate.name in values:
            why = _senseless(gate, values[gate.name][1], recorded=recorded)
        else:
            why = f"no metric of the suite measures {gate.name!r}.{_near(gate.name, values)}"
        if not why:
            _lay_out(plan, problems, where, one, gate, values[gate.name])
        elif gate.name in values or not plan.narrowed:
            problems.add(where, why)


def _lay_out(
    plan: Plan,
    problems: Problems,
    where: tuple[str | int, ...],
    one: GateSpec,
    gate: Gate,
    measured_by: tuple[str, Statistic],
) -> None:
    """Add a gate for each of its systems that are in the run."""
    spec, (metric_name, statistic) = plan.suite.spec, measured_by
    blocked = {cell.system: cell.why_not for cell in plan.cells if cell.metric == metric_name and cell.why_not}
    for system in one.systems if one.systems is not None else plan.systems:
        if system not in plan.references_of:
            continue
        baseline = one.baseline or spec.systems[system].baseline or spec.baseline or ""
        to_baseline = gate.against == "baseline"
        if to_baseline and one.systems is None and baseline == system:
            continue
        if to_baseline and plan.narrowed and baseline in spec.systems and baseline not in plan.references_of:
            continue
        why = _bad_baseline(plan, system, baseline, statistic) if to_baseline else ""
        if not why and system in blocked:
            why = f"is not measured under {metric_name}: {blocked[system]}"
        if why:
            problems.add(where, f"{system}: {why}")
        else:
            undecided = one.undecided or spec.undecided
            plan.gates.append(PlannedGate(gate, one.name or one.gate, system, baseline, undecided))


def _senseless(gate: Gate, statistic: Statistic, *, recorded: bool) -> str:
    """Return why a gate asks for what the statistic does not have, or ""."""
    if gate.part == "held_out" and not isinstance(statistic, JensenShannon):
        return f"{gate.name} has no held-out bound; only divergences have"
    if gate.part in ("corrected", "floor") and not (statistic.needs_reference or statistic.wants_reference):
        return f"{gate.name} has no {gate.part} value; only what is compared with a reference has"
    if gate.against == "recorded" and not recorded:
        return "compares with a recorded run; name it with --against NAME"
    return ""


def _bad_baseline(plan: Plan, system: str, baseline: str, statistic: Statistic) -> str:
    if not baseline:
        return "has no baseline; name one with baseline = ..."
    if baseline not in plan.references_of:
        return f"its baseline {baseline!r} is not a system of this run.{_near(baseline, plan.references_of)}"
    if baseline == system:
        return "is its own baseline"
    if statistic.needs_reference and plan.references_of[system] != plan.references_of[baseline]:
        return f"it and its baseline {baseline} are compared with different references"
    return ""


def _near(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(name, known) or f" Known: {', '.join(known[:20]) or 'none'}."
