"""Judges gates on confidence bounds: pass, fail, undecided; and how many more clips would decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.suite_result import Judgement
from cdslm_eval.suite.gates import Gate

__all__ = ["Measured", "judge", "measured_difference", "measured_value"]

_OUTCOME: dict[tuple[bool, bool], Literal["pass", "fail", "undecided"]] = {
    (True, True): "pass",
    (False, False): "fail",
    (True, False): "undecided",
    (False, True): "undecided",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What a gate is judged on.

    Attributes:
        quantity: What it is, in words.
        value, low, high: The quantity and its interval.
        centre: What the interval closes in on as clips are added; NaN where that is not known.
        clips: Clips behind it.
        exact: The quantity is compared as it stands: it has no interval, by its nature.
        doubt: Why it must not decide, or "".
        missing: Why it is not known, or "".
    """

    quantity: str
    value: float
    low: float
    high: float
    centre: float
    clips: int
    exact: bool = False
    doubt: str = ""
    missing: str = ""


def _of_value(one: Estimate) -> Measured:
    # bounds close in on the true divergence, which `corrected` estimates; a bootstrap interval on the value
    centre = one.corrected if one.interval == "bounds" else one.value
    return Measured("value", one.value, one.low, one.high, centre, one.n_scored, missing=_why(one, one.value))


def _of_corrected(one: Estimate) -> Measured:
    doubt = "its trust is bounds_only: gate on value, whose bounds hold" if one.trust == "bounds_only" else ""
    return Measured(
        "corrected",
        one.corrected,
        one.corrected_low,
        one.corrected_high,
        one.corrected,
        one.n_scored,
        doubt=doubt,
        missing=_why(one, one.corrected),
    )


def _of_held_out(one: Estimate) -> Measured:
    value = one.held_out_common if one.common_phones else one.held_out
    return Measured("held-out", value, value, value, value, one.n_scored, exact=True, missing=_why(one, value))


def _of_floor(one: Estimate) -> Measured:
    return Measured("floor", one.floor, one.floor, one.floor, one.floor, one.n_scored, True, "", _why(one, one.floor))


def _why(one: Estimate, value: float) -> str:
    return "" if math.isfinite(value) else one.reason or "it is not known"


_PARTS: dict[str, Callable[[Estimate], Measured]] = {
    "value": _of_value,
    "corrected": _of_corrected,
    "held_out": _of_held_out,
    "floor": _of_floor,
}


def measured_value(gate: Gate, one: Estimate) -> Measured:
    """Return what a gate with a plain bound is judged on."""
    return _PARTS[gate.part](one)


def measured_difference(one: Difference, other: str, clips: int) -> Measured:
    """Return what a gate against another system or run is judged on.

    Args:
        one: System minus the other.
        other: How the other is called.
        clips: Clips of the system.
    """
    missing = "" if math.isfinite(one.difference) else one.reason or "it is not known"
    kind = "" if one.quantity == "value" else f" of {one.quantity} values"
    what = f"difference{kind} to {other}{', paired' if one.paired else ''}"
    return Measured(what, one.difference, one.low, one.high, one.difference, clips, missing=missing)


def judge(gate: Gate, title: str, system: str, found: Measured, undecided: Literal["fail", "pass"]) -> Judgement:
    """Judge one gate for one system.

    The gate passes when the whole interval satisfies it, fails when none of it does, and is undecided between. An end
    that was named on the lenient side (`.low <`, `.high >`) is compared alone: it asks only that the contrary was not
    shown.

    Args:
        gate: The condition.
        title: What the suite calls it.
        system: Whose value it is.
        found: The quantity.
        undecided: Which way the gate counts when it is undecided.
    """
    bound = gate.number
    base = {"gate": gate.text, "title": title, "system": system, "quantity": found.quantity, "bound": bound}
    numbers = {"value": found.value, "low": found.low, "high": found.high, "clips": found.clips}
    if found.missing:
        sentence = f"{system}: {gate.name} is not known: {found.missing}"
        return Judgement(**base, **numbers, status="unmeasured", counts_as="fail", sentence=sentence)  # type: ignore[arg-type]
    ends = [found.low, found.high]
    lenient = gate.end == ("low" if gate.upper else "high")
    if lenient:
        ends = [getattr(found, gate.end)] * 2
    if found.doubt or not all(math.isfinite(end) for end in ends):
        status: Literal["pass", "fail", "undecided"] = "undecided"
        why = found.doubt or "it has no interval (too few clips)"
    else:
        status = _OUTCOME[gate.holds(ends[0], bound), gate.holds(ends[1], bound)]
        why = ""
    more = _more_clips(found, bound) if status == "undecided" and not why else None
    counts: Literal["fail", "pass"] = undecided if status == "undecided" else status
    said = _sentence(gate, system, found, status)
    if status == "undecided":
        said += f"; {why}" if why else ""
        said += f"; about {more} more clips would decide it if the value stays" if more else ""
        said += f"; the suite counts that as a {counts}"
    return Judgement(**base, **numbers, status=status, counts_as=counts, more_clips=more, sentence=said)  # type: ignore[arg-type]


def _sentence(gate: Gate, system: str, found: Measured, status: str) -> str:
    interval = "" if found.exact else f" ({found.low:.4g} … {found.high:.4g})"
    verb = {"pass": "holds", "fail": "does not hold", "undecided": "is undecided"}[status]
    against = f" [{found.quantity}]" if gate.against or gate.part != "value" else ""
    measured = f"{found.value:.4g}{interval}{against}"
    return f"{system}: {gate.text} {verb}: {measured}, bound {gate.number:.4g}, {found.clips} clips"


def _more_clips(found: Measured, bound: float) -> int | None:
    """Estimate how many more clips move the interval off the bound: its width goes as one over the root of n."""
    distance = abs(bound - found.centre)
    end = found.high if bound >= found.centre else found.low
    half = abs(end - found.centre)
    if not math.isfinite(distance) or distance <= 0 or not math.isfinite(half) or found.clips < 2:
        return None
    needed = found.clips * (half / distance) ** 2 - found.clips
    return max(1, math.ceil(round(needed, 6))) if needed < 1e7 else None
