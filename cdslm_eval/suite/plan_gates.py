"""The gates of a plan: each is read, checked against what is measured, and laid out for every system it holds for."""

from __future__ import annotations

from cdslm_eval import Statistic
from cdslm_eval.core.errors import UsageError
from cdslm_eval.suite.gates import Gate, parse_gate
from cdslm_eval.suite.load import Problems
from cdslm_eval.suite.model import GateSpec
from cdslm_eval.suite.plan import Plan, PlannedGate, near

__all__ = ["lay_gates"]


def lay_gates(plan: Plan, problems: Problems, *, recorded: bool) -> None:
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
                problems.add(("gates", number, "systems"), f"there is no system {name!r}.{near(name, spec.systems)}")
        try:
            gate = parse_gate(one.gate)
        except UsageError as error:
            problems.add(where, str(error))
            continue
        if gate.name in values:
            why = _senseless(gate, values[gate.name][1], recorded=recorded)
        else:
            why = f"no metric of the suite measures {gate.name!r}.{near(gate.name, values)}"
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
    if gate.part not in statistic.parts:
        if gate.part == "held_out":
            return f"{gate.name} has no held-out bound; only divergences have"
        return f"{gate.name} has no {gate.part} value; only what is compared with a reference has"
    if gate.against == "recorded" and not recorded:
        return "compares with a recorded run; name it with --against NAME"
    return ""


def _bad_baseline(plan: Plan, system: str, baseline: str, statistic: Statistic) -> str:
    if not baseline:
        return "has no baseline; name one with baseline = ..."
    if baseline not in plan.references_of:
        return f"its baseline {baseline!r} is not a system of this run.{near(baseline, plan.references_of)}"
    if baseline == system:
        return "is its own baseline"
    if statistic.needs_reference and plan.references_of[system] != plan.references_of[baseline]:
        return f"it and its baseline {baseline} are compared with different references"
    return ""
