"""Plans a suite before anything runs: makes the metrics, lays out the grid, and tells every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.host import Host, transcriber_for
from cdslm_eval.plugin.identity import identify, through
from cdslm_eval.results.suite_result import Cell
from cdslm_eval.suite.load import Problems, Suite
from cdslm_eval.suite.plan import Plan, lacking, located, near, prompts_of
from cdslm_eval.suite.plan_gates import lay_gates
from cdslm_eval.suite.plan_sets import check_sets

__all__ = ["make_plan"]


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
    check_sets(plan, problems)
    problems.tell()
    _select(plan, only)
    for system in plan.systems:
        plan.cells += [
            Cell(system, name, lacking(plan, system, m), m.fetches() or "") for name, m in plan.metrics.items()
        ]
    lay_gates(plan, problems, recorded=recorded)
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
            plan.metrics[name] = host.build("metric", name, located(plan.suite, options))
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


def _select(plan: Plan, only: Sequence[str]) -> None:
    """Keep what `only` names: systems, metrics, or both."""
    known = [*plan.references_of, *plan.metrics]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(f"--only {pattern!r}: no system and no metric of the suite.{near(pattern, known)}")

    def keep(names: Iterable[str]) -> set[str]:
        """Return those of the names that are asked for; all where none of this kind is."""
        names = list(names)
        return {name for name in names if any(fnmatchcase(name, one) for one in only)} or set(names)

    systems, metrics = keep(plan.references_of), keep(plan.metrics)
    plan.references_of = {name: one for name, one in plan.references_of.items() if name in systems}
    plan.metrics = {name: one for name, one in plan.metrics.items() if name in metrics}
    wanted = {("systems", name) for name in systems} | {("references", r) for r in plan.references_of.values() if r}
    for at in reversed(plan.order):
        if at in wanted and isinstance(prompts := prompts_of(plan, *at), tuple):
            wanted.add(prompts)
    plan.order = [at for at in plan.order if at in wanted]
