"""Roster: who measures in a run, by number, what each asks of the others, and the identity of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdslm_eval.core.errors import EvalError, PluginError
from cdslm_eval.plugin.contract import GIVEN, Measurer, Metric
from cdslm_eval.plugin.identity import Identity, content_needs, identify, through

__all__ = ["Roster", "enlist"]


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The measurers of a run; metrics that read the same rows share a number.

    Attributes:
        givers: What is given to metrics ("phones", "transcript") -> who gives it.
        measurers: By number, those that give something to others before these.
        identities: Of the rows of each number.
        asks: What others give to each number.
        needs: What of a clip decides the row of each number.
        unusable: Name of each metric that could not even be identified (no weights, say) -> why.
    """

    givers: Mapping[str, Measurer]
    measurers: tuple[Measurer, ...]
    identities: tuple[Identity, ...]
    asks: tuple[frozenset[str], ...]
    needs: tuple[frozenset[str], ...]
    unusable: Mapping[str, str]
    _number: Mapping[int, int]
    _identity: Mapping[int, Identity]

    def number(self, measurer: Measurer) -> int:
        """Return the number of a measurer of the run."""
        return self._number[id(measurer)]

    def identity(self, measurer: Measurer) -> Identity:
        """Return the identity of a measurer of the run; that of its rows is `stored` of it."""
        return self._identity[id(measurer)]

    def written(self) -> list[Identity]:
        """Return the identities that a store must know, each once."""
        known = {one.ident: one for one in (*self.identities, *self._identity.values()) if one.parts}
        return list(known.values())


def enlist(metrics: Iterable[Metric], givers: Mapping[str, Measurer]) -> Roster:
    """Number metrics and whoever must run before them.

    Args:
        metrics: Those that are wanted; one object may come several times.
        givers: What may be given to them -> who gives it.

    Raises:
        PluginError: Two metrics claim to read the same rows, and measure them differently.
    """
    asking: list[Measurer] = list({id(metric): metric for metric in metrics}.values())
    for name in reversed(GIVEN):  # what gives phones may ask for a transcript, never the other way round
        if any(name in through(measurer, givers) for measurer in asking):
            asking.insert(0, givers[name])
    unusable: dict[str, str] = {}
    identity = {id(measurer): _identified(measurer, givers, unusable) for measurer in asking}
    places: dict[str, int] = {}
    number: dict[int, int] = {}
    measurers: list[Measurer] = []
    for measurer in asking:
        place = number[id(measurer)] = places.setdefault(identity[id(measurer)].stored.ident, len(measurers))
        if place == len(measurers):
            measurers.append(measurer)
        elif type(measurer).measure is not type(measurers[place]).measure:
            raise PluginError(f"{measurer.name} and {measurers[place].name} both claim the rows {measurer.rows!r}")
    return Roster(
        givers,
        tuple(measurers),
        tuple(identity[id(measurer)].stored for measurer in measurers),
        tuple(frozenset(through(measurer, givers)) for measurer in measurers),
        tuple(content_needs(measurer, givers) for measurer in measurers),
        unusable,
        number,
        identity,
    )


def _identified(measurer: Measurer, givers: Mapping[str, Measurer], unusable: dict[str, str]) -> Identity:
    """Return a measurer's identity, or an empty one: its clips are told why, and the other metrics are measured."""
    try:
        return identify(measurer, givers)
    except EvalError as error:
        unusable[measurer.name] = str(error)
        return Identity(f"{measurer.name}@{measurer.version}#unknown", {})
