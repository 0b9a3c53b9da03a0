"""The sets of a plan: resolves names, finds circles, opens what is there, puts generators behind their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_eval.suite.load import Problems
from cdslm_eval.suite.plan import Plan, generator_spec, near, prompts_of

__all__ = ["check_sets"]


def check_sets(plan: Plan, problems: Problems) -> None:
    """Resolve names, find cycles, open what is there, and put generators behind their prompts."""
    spec = plan.suite.spec
    alone = next(iter(spec.references)) if len(spec.references) == 1 else None
    for key, what, known in (("reference", "reference", spec.references), ("baseline", "system", spec.systems)):
        named: list[tuple[tuple[str, ...], str | None]] = [((key,), getattr(spec, key))]
        named += [(("systems", system, key), getattr(one, key)) for system, one in spec.systems.items()]
        for where, name in named:
            if name is not None and name not in known:
                problems.add(where, f"there is no {what} {name!r}.{near(name, known)}")
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
    after = {at: [p] for at in places if isinstance(p := prompts_of(plan, *at), tuple)}
    _cycles({at[1]: [p[1] for p in some] for at, some in after.items()}, "prompts", problems)
    plan.order = sorted(places, key=lambda at: (_depth(at, after), places.index(at)))


def _open(plan: Plan, problems: Problems, room: str, name: str) -> None:
    spec = plan.set_spec(room, name)
    where = (room, name, "path" if spec.path is not None else "generator")
    try:
        if spec.path is not None:
            plan.opened[room, name] = ClipSet.open(plan.suite.folder / spec.path, name=name)
            return
        made = plan.host.make("generator", generator_spec(plan, spec))
        made.fingerprint()
        prompts = prompts_of(plan, room, name)
        if made.prompts and prompts is None:
            problems.add(where, f"{spec.generator} works from clips; name them with prompts")
        if isinstance(prompts, str):
            ClipSet.open(plan.suite.folder / prompts)
    except (EvalError, OSError) as error:
        problems.add(where, str(error))


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
