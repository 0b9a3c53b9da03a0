"""The plan of a suite: metrics, sets, grid and gates, checked against this machine before anything runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.defaults import RECOGNIZER
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.core.toml import Problems
from cdslm_eval.plugin.contract import Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.host import Host, transcriber_for
from cdslm_eval.plugin.identity import Identity, depends_on, identify
from cdslm_eval.results.suite_result import Cell
from cdslm_eval.run.channel import profiler_for
from cdslm_eval.stats.statistic import Statistic
from cdslm_eval.suite.gates import Gate, parse_gate
from cdslm_eval.suite.schema import GateSpec, Suite, SuiteSpec
from cdslm_eval.suite.sets import PlannedSet, SetKey, absolute_options, cycles, hint, plan_sets

__all__ = ["Plan", "PlannedGate", "make_plan", "missing_inputs"]


_MATCHED = re.compile(r"\.matched\b")


@dataclass(frozen=True, slots=True)
class PlannedGate:
    """A gate for one system.

    Attributes:
        gate: The condition.
        title: Its name in reports.
        system: The system whose value is judged.
        baseline: The system that `baseline` refers to, or "".
        undecided: How it counts when it is undecided.
    """

    gate: Gate
    title: str
    system: str
    baseline: str
    undecided: Literal["fail", "pass"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A suite that can be run.

    Attributes:
        suite: The file.
        host: Makes the components.
        metrics: Metrics by name.
        identities: Identity of each metric.
        recognizer: Provides phones.
        transcriber: Provides transcripts, where a metric or the recognizer depends on them.
        references_of: System -> name of its reference, or None; the systems in the order of the file.
        sets: Every set of the run, prompts before the generators that need them.
        profiler: The metric whose rows are channel profiles, where channels are measured.
        cells: The grid of systems and metrics.
        gates: Every gate for every system that it applies to.
    """

    suite: Suite
    host: Host
    metrics: Mapping[str, Metric]
    identities: Mapping[str, Identity]
    recognizer: Recognizer
    transcriber: Transcriber | None
    references_of: Mapping[str, str | None]
    sets: tuple[PlannedSet, ...]
    profiler: Metric | None = None
    cells: tuple[Cell, ...] = ()
    gates: tuple[PlannedGate, ...] = ()

    @property
    def recognizer_spec(self) -> str:
        """The recognizer as the suite names it; what is used here where it names the default."""
        spec = self.suite.spec.recognizer
        return self.recognizer.name if spec == RECOGNIZER else spec

    @property
    def upstream(self) -> dict[str, Measurer]:
        """Feature that metrics depend on ("phones", "transcript") -> its provider."""
        return {provider.provides: provider for provider in (self.transcriber, self.recognizer) if provider is not None}

    @property
    def systems(self) -> list[str]:
        """The systems, in the order of the file."""
        return list(self.references_of)

    def clips(self, key: SetKey) -> ClipSet | None:
        """Return the clips of a set that is files; None for one that a generator will write."""
        return next((entry.clips for entry in self.sets if entry.key == key), None)


def make_plan(
    suite: Suite, host: Host, *, only: Sequence[str] = (), recorded: bool = False, allow_outside: bool = False
) -> Plan:
    """Check a suite against what is installed and on the disk, and lay out what will run.

    Args:
        suite: The file.
        host: Makes the components.
        only: Patterns of systems and metrics to keep; empty keeps all.
        recorded: Whether the run is compared with a recorded one, as gates on `recorded` need.
        allow_outside: Let generators read texts that lie outside the suite's folder.

    Raises:
        UsageError: Anything is wrong; every problem is reported, with its line and key.
    """
    problems = Problems(suite.path, suite.text)
    whole = _plan_components(suite, host, problems, allow_outside=allow_outside)
    problems.raise_if_any()
    assert whole is not None  # what could not be made is a problem
    plan = _selected(whole, only)
    plan = dataclasses.replace(plan, cells=tuple(_grid(plan)))
    gates = tuple(_plan_gates(plan, problems, narrowed=bool(only), recorded=recorded))
    problems.raise_if_any()
    return dataclasses.replace(plan, gates=gates)


def _plan_components(suite: Suite, host: Host, problems: Problems, *, allow_outside: bool) -> Plan | None:
    """Make everything that the suite names; None where the recognizer cannot be made."""
    spec = suite.spec
    recognizer = None
    try:
        recognizer = host.make("recognizer", spec.recognizer)
    except EvalError as error:
        problems.add(("recognizer",), str(error))
    try:
        host.make("executor", spec.run.executor)
    except EvalError as error:
        problems.add(("run", "executor"), str(error))
    metrics: dict[str, Metric] = {}
    for name, options in spec.metrics.items():
        try:
            metrics[name] = host.build("metric", name, absolute_options(suite, options))
        except (EvalError, OSError) as error:
            problems.add(("metrics", name), str(error))
    transcriber = None
    try:
        readers = [*metrics.values(), *([recognizer] if recognizer is not None else [])]
        transcriber = transcriber_for(readers, host, spec.transcriber)
    except EvalError as error:
        problems.add(("transcriber",), str(error))
    upstream = {provider.provides: provider for provider in (transcriber, recognizer) if provider is not None}
    identities = {}
    for name, metric in metrics.items():
        try:
            identities[name] = identify(metric, upstream)
        except (EvalError, OSError) as error:
            problems.add(_failing_key(metric, upstream), str(error))
    references_of = _references(spec, metrics, problems)
    sets = plan_sets(suite, host, references_of, problems, allow_outside=allow_outside)
    if recognizer is None:
        return None
    profiler = _profiler(suite, host, metrics, recognizer, problems)
    return Plan(suite, host, metrics, identities, recognizer, transcriber, references_of, sets, profiler)


def _profiler(
    suite: Suite, host: Host, metrics: Mapping[str, Metric], recognizer: Recognizer, problems: Problems
) -> Metric | None:
    """Return the metric that profiles channels, where the suite or one of its gates wants them measured."""
    wanted = suite.spec.channel
    if wanted is None and any(_MATCHED.search(entry.gate) for entry in suite.spec.gates):
        wanted = True
    try:
        return profiler_for(host, list(metrics.values()), recognizer, wanted)
    except EvalError as error:
        problems.add(("channel",) if suite.spec.channel else ("recognizer",), str(error))
        return None


def _failing_key(metric: Metric, upstream: Mapping[str, Measurer]) -> tuple[str, ...]:
    """Return the key of the component whose identity cannot be computed: what a metric depends on, or the metric."""
    for key, feature in (("transcriber", "transcript"), ("recognizer", "phones")):
        if feature in depends_on(metric, upstream):
            try:
                identify(upstream[feature], upstream)
            except (EvalError, OSError):
                return (key,)
    return "metrics", metric.name


def _references(spec: SuiteSpec, metrics: Mapping[str, Metric], problems: Problems) -> dict[str, str | None]:
    """Return the reference of every system, after checking the names of references and baselines."""
    for key, what, known in (("reference", "reference", spec.references), ("baseline", "system", spec.systems)):
        named: list[tuple[tuple[str, ...], str | None]] = [((key,), getattr(spec, key))]
        named += [(("systems", name, key), getattr(system, key)) for name, system in spec.systems.items()]
        for where, name in named:
            if name is not None and name not in known:
                problems.add(where, f"there is no {what} {name!r}.{hint(name, known)}")
    only_one = next(iter(spec.references)) if len(spec.references) == 1 else None
    references_of = {name: system.reference or spec.reference or only_one for name, system in spec.systems.items()}
    comparing = [m.name for m in metrics.values() if any(s.needs_reference for s in m.statistics.values())]
    for name, reference in references_of.items():
        if comparing and reference is None:
            reason = f"{comparing[0]} compares with real speech; give the system a reference"
            problems.add(("systems", name), reason + (f" ({', '.join(spec.references)})" if spec.references else ""))
    for cycle in cycles({name: system.baseline for name, system in spec.systems.items() if system.baseline}):
        problems.add(("systems", cycle[0], "baseline"), f"goes in a circle: {' -> '.join([*cycle, cycle[0]])}")
    return references_of


def _selected(plan: Plan, only: Sequence[str]) -> Plan:
    """Keep the systems and metrics that match the patterns; all of a kind where none of that kind matches."""
    known = [*plan.references_of, *plan.metrics]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(f"--only {pattern!r}: no system and no metric of the suite.{hint(pattern, known)}")

    def matching(names: Sequence[str]) -> set[str]:
        return {name for name in names if any(fnmatchcase(name, pattern) for pattern in only)} or set(names)

    systems, metrics = matching(list(plan.references_of)), matching(list(plan.metrics))
    references_of = {name: reference for name, reference in plan.references_of.items() if name in systems}
    needed: set[SetKey] = {("systems", name) for name in systems}
    needed |= {("references", reference) for reference in references_of.values() if reference}
    for entry in reversed(plan.sets):
        if entry.key in needed and entry.call is not None and isinstance(entry.call.prompts, tuple):
            needed.add(entry.call.prompts)
    return dataclasses.replace(
        plan,
        references_of=references_of,
        metrics={name: metric for name, metric in plan.metrics.items() if name in metrics},
        sets=tuple(entry for entry in plan.sets if entry.key in needed),
    )


def _grid(plan: Plan) -> Iterator[Cell]:
    for system in plan.systems:
        clips = plan.clips(("systems", system))
        for name, metric in plan.metrics.items():
            yield Cell(system, name, missing_inputs(metric, clips, plan.upstream), metric.fetches() or "")


def missing_inputs(metric: Metric, clips: ClipSet | None, upstream: Mapping[str, Measurer]) -> str:
    """Return why a metric cannot measure a set, or "".

    Args:
        metric: The metric.
        clips: The set; None where a generator has not written it yet, so that its inputs are not known.
        upstream: Providers of phones and transcripts.
    """
    if clips is None:
        return ""
    available = set(clips.offers())
    for feature, provider in reversed(depends_on(metric, upstream).items()):
        if set(provider.needs) <= available | set(depends_on(provider, upstream)):
            available.add(feature)
    missing = sorted(set(metric.needs) - available)
    return f"its clips have no {' and no '.join(missing)}".replace("_", " ") if missing else ""


def _plan_gates(plan: Plan, problems: Problems, *, narrowed: bool, recorded: bool) -> Iterator[PlannedGate]:
    """Yield every gate for every system that it applies to; report those that cannot be judged.

    A narrowed plan skips the gates on what it leaves out.
    """
    spec = plan.suite.spec
    values: dict[str, tuple[Metric, Statistic]] = {}
    for metric in plan.metrics.values():
        for key, statistic in metric.statistics.items():
            values |= dict.fromkeys(statistic.names(key), (metric, statistic))
    for number, entry in enumerate(spec.gates):
        for name in entry.systems or ():
            if name not in spec.systems:
                problems.add(("gates", number, "systems"), f"there is no system {name!r}.{hint(name, spec.systems)}")
        where = ("gates", number, "gate")
        try:
            gate = parse_gate(entry.gate)
        except UsageError as error:
            problems.add(where, str(error))
            continue
        if gate.name not in values:
            if not narrowed:
                problems.add(where, f"no metric of the suite measures {gate.name!r}.{hint(gate.name, values)}")
            continue
        metric, statistic = values[gate.name]
        if reason := _unfit(gate, statistic, recorded=recorded, channels=plan.profiler is not None):
            problems.add(where, reason)
            continue
        for system in _systems_of(plan, entry, gate, narrowed=narrowed):
            baseline = _baseline_of(spec, entry, system)
            if reason := _cannot_be_judged(plan, gate, system, baseline, metric, statistic):
                problems.add(where, f"{system}: {reason}")
            else:
                yield PlannedGate(gate, entry.name or entry.gate, system, baseline, entry.undecided or spec.undecided)


def _systems_of(plan: Plan, entry: GateSpec, gate: Gate, *, narrowed: bool) -> Iterator[str]:
    """Yield the systems of the run that a gate applies to."""
    spec = plan.suite.spec
    for system in entry.systems if entry.systems is not None else plan.systems:
        if system not in plan.references_of:
            continue
        if gate.against == "baseline":
            baseline = _baseline_of(spec, entry, system)
            if entry.systems is None and baseline == system:
                continue
            if narrowed and baseline in spec.systems and baseline not in plan.references_of:
                continue
        yield system


def _baseline_of(spec: SuiteSpec, entry: GateSpec, system: str) -> str:
    return entry.baseline or spec.systems[system].baseline or spec.baseline or ""


def _unfit(gate: Gate, statistic: Statistic, *, recorded: bool, channels: bool) -> str:
    """Return why a gate names a quantity that the statistic does not have, or ""."""
    if gate.part not in statistic.quantities:
        return f"{gate.name} has no {gate.part} value; it has: {', '.join(statistic.quantities)}"
    if gate.part == "matched" and not channels:
        return "reads the matched value, and channel = false turns it off"
    if gate.part == "matched" and gate.against:
        return f"matched is not compared with {gate.against}; Use: {gate.name}.matched {gate.op} NUMBER"
    if gate.against == "recorded" and not recorded:
        return "compares with a recorded run; name it with --against NAME"
    return ""


def _cannot_be_judged(plan: Plan, gate: Gate, system: str, baseline: str, metric: Metric, statistic: Statistic) -> str:
    """Return why a gate has no value for a system, or ""."""
    if gate.against == "baseline":
        if not baseline:
            return "has no baseline; name one with baseline = ..."
        if baseline not in plan.references_of:
            return f"its baseline {baseline!r} is not a system of this run.{hint(baseline, plan.references_of)}"
        if baseline == system:
            return "is its own baseline"
        if statistic.needs_reference and plan.references_of[system] != plan.references_of[baseline]:
            return f"it and its baseline {baseline} are compared with different references"
    blocked = next(
        (cell.why_not for cell in plan.cells if (cell.system, cell.metric) == (system, metric.name) and cell.why_not),
        "",
    )
    return f"is not measured under {metric.name}: {blocked}" if blocked else ""
