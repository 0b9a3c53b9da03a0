"""Compares a run with a recorded one: the same metrics by identity, the same reference by content, pair by pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.differences import Difference, with_holm
from cdslm_eval.results.suite_result import Change
from cdslm_eval.suite.plan import Plan
from cdslm_eval.suite.record import Record

__all__ = ["changes", "differing_parts", "refuse_other_identities"]


def refuse_other_identities(plan: Plan, record: Record) -> None:
    """Make sure that the run measures what the recorded one did.

    Raises:
        UsageError: A metric's identity is another one; every part that differs is named.
    """
    told: dict[str, None] = {}
    for system in plan.systems:
        for name in plan.metrics if system in record.sets else ():
            then, now = record.identity(system, name), plan.identities[name]
            if then is not None and then != now.ident:
                parts = differing_parts(record.store.identity(then) or {}, now.parts)
                told[f"{name}: {'; '.join(parts) or f'{then} then, {now.ident} now'}"] = None
    if told:
        raise UsageError(
            f"the recorded run {record.name!r} cannot be compared, it was measured otherwise:\n  "
            + "\n  ".join(told)
            + "\nRun with the old settings, leave the metric out with --only, or record anew."
        )


def differing_parts(then: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """Return a sentence for every part of an identity that is not what it was.

    Example:
        >>> differing_parts({"version": "1", "options": {"k": 1}}, {"version": "1", "options": {"k": 2}})
        ['options.k: 1 recorded, 2 now']
    """
    found: list[str] = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differing_parts(before, after, f"{inside}{name}.")
        elif before != after:
            found.append(f"{inside}{name}: {before!r} recorded, {after!r} now")
    return found


def changes(found: Mapping[str, Sequence[Difference]], same_clips: Mapping[str, bool]) -> tuple[Change, ...]:
    """Return all differences to the recorded run with one Holm correction over those whose audio changed.

    Args:
        found: System -> now minus recorded, per value.
        same_clips: System -> whether its audio is what it was.
    """
    flat = [(system, one) for system, some in found.items() for one in some]
    open_ones = [one for system, one in flat if not same_clips[system]]
    corrected = iter(with_holm(open_ones))
    rows = []
    for system, one in flat:
        settled = one if same_clips[system] else next(corrected)
        shared = {f.name for f in dataclasses.fields(Change)} & {f.name for f in dataclasses.fields(Difference)}
        rows.append(
            Change(
                system=system,
                recorded=one.b,
                now=one.a,
                same_clips=same_clips[system],
                **{name: getattr(settled, name) for name in shared},
            )
        )
    return tuple(rows)


def comparable(plan: Plan, record: Record, digests: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """Yield the systems and metrics that both runs measured.

    Raises:
        UsageError: The reference of a metric is not what it was.
    """
    then = record.settings["sets"]
    for system in plan.systems:
        for name, metric in plan.metrics.items():
            if system not in record.sets or record.identity(system, name) is None:
                continue
            if any(statistic.needs_reference for statistic in metric.statistics.values()):
                key = record.settings["references"].get(system)
                own = plan.references_of[system]
                before, now = then.get(f"reference {key}", {}), digests.get(f"reference {own}", {})
                if before.get("digest") != now.get("digest"):
                    raise UsageError(
                        f"{name} of {system} cannot be compared with {record.name!r}: its reference is other audio "
                        f"({before.get('clips')} clips then, {now.get('clips')} now); record anew"
                    )
            yield system, metric
