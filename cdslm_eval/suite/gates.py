"""Gates: a small grammar for conditions, and their judgement on confidence bounds.

Nothing of a gate's text is evaluated as code.

gate     = quantity op bound
quantity = NAME [ "." part ] [ "." end ]
part     = "value" | "corrected" | "matched" | "held_out" | "floor"
end      = "low" | "high"
op       = "<" | "<=" | ">" | ">="
bound    = NUMBER | ( "baseline" | "recorded" ) [ ( "+" | "-" ) NUMBER ]
"""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import UNKNOWN, decimals_beside, format_interval, format_number
from cdslm_eval.results.sample_size import Needed, clips_for_width
from cdslm_eval.results.suite_result import Judgement

__all__ = ["Gate", "GatedQuantity", "judge", "parse_gate", "quantity_of_difference", "quantity_of_estimate"]

Outcome = Literal["fail", "pass"]
PARTS = ("value", "corrected", "matched", "held_out", "floor")
ENDS = ("low", "high")
COMPARED_WITH = ("baseline", "recorded")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<op><=|>=|<|>|==|!=|=)|(?P<number>{_NUMBER})|(?P<sign>[+-])|(?P<word>[A-Za-z_][\w.-]*))"
)
# what people write from habit -> what the grammar has for it
_INSTEAD = {
    "%": "write a share as a number: 2% is 0.02",
    "*": "a factor has no interval; write a difference: baseline + 0.02",
    "/": "a ratio has no interval; write a difference: baseline + 0.02",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        text: As it was written.
        name: Name of the value.
        part: "value", "corrected", "matched", "held_out" or "floor".
        end: "low" or "high" where an end of the interval was named, else "".
        op: "<", "<=", ">" or ">=".
        against: "baseline", "recorded", or "" for a plain number.
        number: The bound, or what is added to the other system's value.
    """

    text: str
    name: str
    part: str
    end: str
    op: str
    against: str
    number: float

    @property
    def is_upper(self) -> bool:
        """Whether the gate bounds from above."""
        return self.op.startswith("<")

    def holds(self, value: float, bound: float) -> bool:
        """Return whether a number satisfies the comparison."""
        return OPERATORS[self.op](value, bound)


def parse_gate(text: str) -> Gate:
    """Parse a gate.

    Raises:
        UsageError: It does not fit the grammar; the message names the character.

    Example:
        >>> gate = parse_gate("pjsd_2.corrected.high < 0.35")
        >>> gate.name, gate.part, gate.end, gate.op, gate.number
        ('pjsd_2', 'corrected', 'high', '<', 0.35)
    """
    tokens = _Tokens(text)
    name, part, end = _parse_quantity(tokens)
    op, at = tokens.take("op", "a comparison (< <= > >=)")
    if op not in OPERATORS:
        raise tokens.error(at, f"{op!r} cannot be judged on an interval; use < <= > or >=")
    against, number = "", 0.0
    if tokens.peek() == "word":
        against, at = tokens.take("word", "")
        if against not in COMPARED_WITH:
            hint = did_you_mean(against, COMPARED_WITH) or " A bound is a number, 'baseline' or 'recorded'."
            raise tokens.error(at, f"{against!r} is no bound.{hint}")
        if tokens.peek() == "sign":
            number = tokens.take_number()
        if end or part in ("held_out", "floor"):
            raise tokens.error(0, f"a difference to {against} has an interval of its own; leave out .{end or part}")
    else:
        number = tokens.take_number()
    if tokens.peek():
        rest, at = tokens.take(tokens.peek(), "")
        raise tokens.error(at, f"{rest!r} is one thing too many")
    return Gate(text, name, part, end, op, against, number)


def _parse_quantity(tokens: _Tokens) -> tuple[str, str, str]:
    word, at = tokens.take("word", "the name of a value")
    name, *suffixes = word.split(".")
    part, end = "value", ""
    for position, suffix in enumerate(suffixes):
        if suffix in ENDS and position == len(suffixes) - 1:
            end = suffix
        elif suffix in PARTS and position == 0:
            part = suffix
        else:
            hint = did_you_mean(suffix, PARTS + ENDS) or f" Known: {', '.join(PARTS + ENDS)}."
            raise tokens.error(at, f"a value has no part {suffix!r}.{hint}")
    if end and part in ("held_out", "floor"):
        raise tokens.error(at, f"{part} is one number; it has no .{end}")
    return name, part, end


class _Tokens:
    """The tokens of a gate's text, taken one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        self._next = 0
        start = 0
        while text[start:].strip():
            match = _TOKEN.match(text, start)
            if match is None or match.lastgroup is None:
                at = start + len(text[start:]) - len(text[start:].lstrip())
                instead = _INSTEAD.get(text[at])
                raise self.error(at, f"{text[at]!r} means nothing here{f'; {instead}' if instead else ''}")
            self._tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            start = match.end()

    def error(self, at: int, reason: str) -> UsageError:
        """Return an error about the character at a position."""
        return UsageError(f"{self._text!r}, at character {at + 1}: {reason}")

    def peek(self) -> str:
        """Return the kind of the next token, or ""."""
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def take(self, kind: str, expected: str) -> tuple[str, int]:
        """Return the text and position of the next token, which must be of a kind."""
        if self.peek() != kind:
            ends = self._next >= len(self._tokens)
            at = len(self._text) if ends else self._tokens[self._next][2]
            instead = "and the text ends" if ends else f"not {self._tokens[self._next][1]!r}"
            raise self.error(at, f"{expected} is expected here, {instead}")
        _, text, at = self._tokens[self._next]
        self._next += 1
        return text, at

    def take_number(self) -> float:
        """Return the next number, with its sign if it has one."""
        sign = self.take("sign", "a sign")[0] if self.peek() == "sign" else "+"
        return float(f"{sign}{self.take('number', 'a number')[0]}")


@dataclass(frozen=True, slots=True)
class GatedQuantity:
    """The quantity that a gate is judged on.

    Attributes:
        label: What it is, for reports.
        value, low, high: The quantity and its interval; NaN where an end is open.
        centre: What the interval converges to as clips are added; NaN where that is not known.
        clips: Clips behind it.
        is_exact: Whether the number alone is compared, since it has no interval by its nature.
        open_reason: Why an end of the interval is not known, or "".
        doubt: Why it must not decide, or "".
        missing: Why it is not known, or "".
        remark: What a reader of the judgement must know, or "".
        reference, reference_share: Clips of the reference, and its share of the variance (0..1).
    """

    label: str
    value: float
    low: float
    high: float
    centre: float
    clips: int
    is_exact: bool = False
    open_reason: str = ""
    doubt: str = ""
    missing: str = ""
    remark: str = ""
    reference: int = 0
    reference_share: float = 0.0


def quantity_of_estimate(gate: Gate, estimate: Estimate) -> GatedQuantity:
    """Return the quantity that a gate with a plain bound is judged on."""
    known = _QUANTITIES[gate.part](estimate)
    quantity = dataclasses.replace(known, reference=estimate.n_reference, reference_share=estimate.reference_share)
    if estimate.trust == "acoustic" and gate.part in ("value", "corrected"):
        remark = "its channel alone makes real speech differ as much; gate on matched to compare within the channel"
        return dataclasses.replace(quantity, remark=remark)
    return quantity


def quantity_of_difference(difference: Difference, other: str, clips: int) -> GatedQuantity:
    """Return the quantity that a gate against another system or run is judged on.

    Args:
        difference: System minus the other.
        other: Name of the other.
        clips: Clips of the system.
    """
    value = difference.difference
    kind = "" if difference.quantity == "value" else f" of {difference.quantity} values"
    label = f"difference{kind} to {other}{', paired' if difference.paired else ''}"
    missing = "" if math.isfinite(value) else difference.reason or "it is not known"
    ends = difference.low, difference.high
    return GatedQuantity(label, value, *ends, value, clips, open_reason=difference.reason, missing=missing)


def _value(estimate: Estimate) -> GatedQuantity:
    # bounds converge to the true divergence, which `corrected` estimates; any other interval to the value
    centre = estimate.corrected if estimate.interval == "bounds" else estimate.value
    missing = _why_missing(estimate, estimate.value)
    return GatedQuantity(
        "value",
        estimate.value,
        estimate.low,
        estimate.high,
        centre,
        estimate.n_scored,
        open_reason=estimate.reason,
        missing=missing,
    )


def _corrected(estimate: Estimate) -> GatedQuantity:
    value = estimate.corrected
    doubt = "its trust is bounds_only: gate on value, whose bounds hold" if estimate.trust == "bounds_only" else ""
    return GatedQuantity(
        "corrected",
        value,
        estimate.corrected_low,
        estimate.corrected_high,
        value,
        estimate.n_scored,
        doubt=doubt,
        missing=_why_missing(estimate, value),
    )


def _matched(estimate: Estimate) -> GatedQuantity:
    own = estimate.acoustics
    if own is None or not math.isfinite(own.matched):
        missing = estimate.reason or "the reference was not put through the system's channel"
        return GatedQuantity("matched", math.nan, math.nan, math.nan, math.nan, estimate.n_scored, missing=missing)
    doubt = ""
    if own.inaudible:
        doubt = "the recognizer cannot tell languages apart in this audio"
    elif estimate.trust == "bounds_only":
        doubt = "its trust is bounds_only: a divergence of this order is not known at this sample size"
    return GatedQuantity(
        "matched", own.matched, own.matched_low, own.matched_high, own.matched, estimate.n_scored, doubt=doubt
    )


def _held_out(estimate: Estimate) -> GatedQuantity:
    return _exact("held-out", estimate, estimate.held_out_common if estimate.common_phones else estimate.held_out)


def _floor(estimate: Estimate) -> GatedQuantity:
    return _exact("floor", estimate, estimate.floor)


def _exact(label: str, estimate: Estimate, value: float) -> GatedQuantity:
    missing = _why_missing(estimate, value)
    return GatedQuantity(label, value, value, value, value, estimate.n_scored, is_exact=True, missing=missing)


def _why_missing(estimate: Estimate, value: float) -> str:
    return "" if math.isfinite(value) else estimate.reason or "it is not known"


_QUANTITIES: Mapping[str, Callable[[Estimate], GatedQuantity]] = {
    "value": _value,
    "corrected": _corrected,
    "matched": _matched,
    "held_out": _held_out,
    "floor": _floor,
}


def judge(gate: Gate, title: str, system: str, quantity: GatedQuantity, undecided: Outcome) -> Judgement:
    """Judge one gate for one system.

    The gate passes when the whole interval satisfies it, fails when none of it does, and is undecided between. An end
    that was named on the lenient side (`.low <`, `.high >`) is compared alone: it requires only that the contrary was
    not shown.

    Args:
        gate: The condition.
        title: Its name in reports.
        system: The system.
        quantity: What is judged.
        undecided: How the gate counts when it is undecided.
    """
    common = {"gate": gate.text, "title": title, "system": system, "quantity": quantity.label, "bound": gate.number}
    numbers = {"value": quantity.value, "low": quantity.low, "high": quantity.high, "clips": quantity.clips}
    if quantity.missing:
        sentence = f"{system}: {gate.name} is not known: {quantity.missing}"
        return Judgement(**common, **numbers, status="unmeasured", counts_as="fail", sentence=sentence)  # type: ignore[arg-type]
    status, doubt = _status(gate, quantity)
    needed = _needed(quantity, gate.number) if status == "undecided" and not doubt else None
    more = needed.more if needed else None
    counts = undecided if status == "undecided" else status
    sentence = _sentence(gate, system, quantity, status) + (f"; {quantity.remark}" if quantity.remark else "")
    if status == "undecided":
        sentence += f"; {doubt}" if doubt else ""
        sentence += f"; {needed.text} would decide it if the value stays" if needed else ""
        sentence += f"; the suite counts that as a {counts}"
    return Judgement(**common, **numbers, status=status, counts_as=counts, more_clips=more, sentence=sentence)  # type: ignore[arg-type]


def _status(gate: Gate, quantity: GatedQuantity) -> tuple[Literal["pass", "fail", "undecided"], str]:
    """Return the status, and why nothing can be decided where that is so."""
    open_reason = quantity.open_reason or "it has no interval (too few clips)"
    # an open end may be anywhere on its side
    low = quantity.low if math.isfinite(quantity.low) else -math.inf
    high = quantity.high if math.isfinite(quantity.high) else math.inf
    ends = [low, high]
    is_lenient = gate.end == ("low" if gate.is_upper else "high")
    if is_lenient:
        ends = [low if gate.end == "low" else high] * 2
    if quantity.doubt:
        return "undecided", quantity.doubt
    if not (math.isfinite(low) or math.isfinite(high)):
        if is_lenient and gate.holds(quantity.value, gate.number):
            return "pass", ""
        return "undecided", open_reason
    holds = [gate.holds(end, gate.number) for end in ends]
    if all(holds):
        return "pass", ""
    if not any(holds):
        return "fail", ""
    return "undecided", "" if all(math.isfinite(end) for end in ends) else open_reason


def _sentence(gate: Gate, system: str, quantity: GatedQuantity, status: str) -> str:
    decimals = decimals_beside(quantity.low, quantity.high, gate.number)
    ends = format_interval(quantity.low, quantity.high, decimals)
    interval = "" if quantity.is_exact or ends == UNKNOWN else f" ({ends})"
    verb = {"pass": "holds", "fail": "does not hold", "undecided": "is undecided"}[status]
    label = f" [{quantity.label}]" if gate.against or gate.part != "value" else ""
    measured = f"{format_number(quantity.value, decimals)}{interval}{label}"
    return f"{system}: {gate.text} {verb}: {measured}, bound {gate.number:.4g}, {quantity.clips} clips"


def _needed(quantity: GatedQuantity, bound: float) -> Needed | None:
    """Estimate which clips move the interval off the bound: its width falls as one over the root of their number."""
    distance = abs(bound - quantity.centre)
    end = quantity.high if bound >= quantity.centre else quantity.low
    half = abs(end - quantity.centre)
    if not math.isfinite(distance) or not math.isfinite(half) or half <= 0:
        return None
    return clips_for_width(distance / half, quantity.clips, quantity.reference, quantity.reference_share)
