"""The language of gates: a quantity, a comparison, a bound; a grammar of its own, nothing is evaluated.

gate     = quantity op bound
quantity = NAME [ "." part ] [ "." end ]
part     = "value" | "corrected" | "held_out" | "floor"
end      = "low" | "high"
op       = "<" | "<=" | ">" | ">="
bound    = NUMBER | ( "baseline" | "recorded" ) [ ( "+" | "-" ) NUMBER ]
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from cdslm_eval.core.errors import UsageError, did_you_mean

__all__ = ["Gate", "parse_gate"]

PARTS = ("value", "corrected", "held_out", "floor")
ENDS = ("low", "high")
OTHERS = ("baseline", "recorded")
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


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        text: As it was written.
        name: Name of the value.
        part: "value", "corrected", "held_out" or "floor".
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
    def upper(self) -> bool:
        """Whether the gate bounds from above."""
        return self.op.startswith("<")

    def holds(self, value: float, bound: float) -> bool:
        """Return whether a number satisfies the comparison."""
        return OPERATORS[self.op](value, bound)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                at = place + len(text[place:]) - len(text[place:].lstrip())
                raise self.wrong(at, f"{text[at]!r} means nothing here")
            self.tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        self.place = 0

    def wrong(self, at: int, why: str) -> UsageError:
        return UsageError(f"{self.text!r}, at character {at + 1}: {why}")

    def peek(self) -> str:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def take(self, kind: str, what: str) -> tuple[str, int]:
        """Return the next token, which must be of a kind."""
        if self.peek() != kind:
            at = self.tokens[self.place][2] if self.place < len(self.tokens) else len(self.text)
            said = f"not {self.tokens[self.place][1]!r}" if self.place < len(self.tokens) else "and the text ends"
            raise self.wrong(at, f"{what} is wanted here, {said}")
        _, text, at = self.tokens[self.place]
        self.place += 1
        return text, at

    def signed(self) -> float:
        sign = self.take("sign", "a sign")[0] if self.peek() == "sign" else "+"
        return float(f"{sign}{self.take('number', 'a number')[0]}")


def parse_gate(text: str) -> Gate:
    """Read a gate.

    Raises:
        UsageError: It is not one; the message names the character.

    Example:
        >>> gate = parse_gate("pjsd_2.corrected.high < 0.35")
        >>> gate.name, gate.part, gate.end, gate.op, gate.number
        ('pjsd_2', 'corrected', 'high', '<', 0.35)
    """
    reader = _Reader(text)
    name, part, end = _quantity(reader)
    op, at = reader.take("op", "a comparison (< <= > >=)")
    if op not in OPERATORS:
        raise reader.wrong(at, f"{op!r} cannot be judged on an interval; use < <= > or >=")
    against, number = "", 0.0
    if reader.peek() == "word":
        against, at = reader.take("word", "")
        if against not in OTHERS:
            hint = did_you_mean(against, OTHERS) or " A bound is a number, 'baseline' or 'recorded'."
            raise reader.wrong(at, f"{against!r} is no bound.{hint}")
        if reader.peek() == "sign":
            number = reader.signed()
        if end or part in ("held_out", "floor"):
            written = end or part
            raise reader.wrong(0, f"a difference to {against} has an interval of its own; leave out .{written}")
    else:
        number = reader.signed()
    if reader.peek():
        _, rest, at = reader.tokens[reader.place]
        raise reader.wrong(at, f"{rest!r} is one thing too many")
    return Gate(text, name, part, end, op, against, number)


def _quantity(reader: _Reader) -> tuple[str, str, str]:
    word, at = reader.take("word", "the name of a value")
    name, *rest = word.split(".")
    part, end = "value", ""
    for place, one in enumerate(rest):
        if one in ENDS and place == len(rest) - 1:
            end = one
        elif one in PARTS and place == 0:
            part = one
        else:
            hint = did_you_mean(one, PARTS + ENDS) or f" Known: {', '.join(PARTS + ENDS)}."
            raise reader.wrong(at, f"a value has no part {one!r}.{hint}")
    if end and part in ("held_out", "floor"):
        raise reader.wrong(at, f"{part} is one number; it has no .{end}")
    return name, part, end
