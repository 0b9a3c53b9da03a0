"""MeasurerGraph: the measurers of a run by number, what each depends on, and the identity of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdslm_eval.core.errors import EvalError, PluginError
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Measurer, Metric
from cdslm_eval.plugin.identity import Identity, content_needs, depends_on, identify

__all__ = ["MeasurerGraph", "resolve"]


@dataclass(frozen=True, slots=True, eq=False)
class MeasurerGraph:
    """The measurers of a run; metrics that read the same rows share a number.

    Attributes:
        providers: Upstream feature ("phones", "transcript") -> the measurer that provides it.
        measurers: By number, upstream ones first.
        identities: Of the rows of each number.
        depends_on: The upstream features that each number reads.
        needs: The parts of a clip that decide the row of each number.
        unusable: Name of each metric that could not be identified (no weights, for instance) -> why.
    """

    providers: Mapping[str, Measurer]
    measurers: tuple[Measurer, ...]
    identities: tuple[Identity, ...]
    depends_on: tuple[frozenset[str], ...]
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

    def stored_identities(self) -> list[Identity]:
        """Return the identities that a store must know, each once."""
        known = {
            identity.ident: identity for identity in (*self.identities, *self._identity.values()) if identity.parts
        }
        return list(known.values())


def resolve(metrics: Iterable[Metric], providers: Mapping[str, Measurer]) -> MeasurerGraph:
    """Number metrics and the upstream measurers that must run before them.

    Args:
        metrics: The metrics of the run; one object may come several times.
        providers: Upstream feature -> the measurer that provides it.

    Raises:
        PluginError: Two metrics claim to read the same rows, and measure them differently.
    """
    requested: list[Measurer] = list({id(metric): metric for metric in metrics}.values())
    for feature in reversed(UPSTREAM_FEATURES):  # a recognizer may read transcripts, a transcriber never phones
        if any(feature in depends_on(measurer, providers) for measurer in requested):
            requested.insert(0, providers[feature])
    unusable: dict[str, str] = {}
    identity = {id(measurer): _identified(measurer, providers, unusable) for measurer in requested}
    number_of_rows: dict[str, int] = {}
    number: dict[int, int] = {}
    measurers: list[Measurer] = []
    for measurer in requested:
        rows = identity[id(measurer)].stored.ident
        own = number[id(measurer)] = number_of_rows.setdefault(rows, len(measurers))
        if own == len(measurers):
            measurers.append(measurer)
        elif type(measurer).measure is not type(measurers[own]).measure:
            raise PluginError(f"{measurer.name} and {measurers[own].name} both claim the rows {measurer.rows!r}")
    return MeasurerGraph(
        providers,
        tuple(measurers),
        tuple(identity[id(measurer)].stored for measurer in measurers),
        tuple(frozenset(depends_on(measurer, providers)) for measurer in measurers),
        tuple(content_needs(measurer, providers) for measurer in measurers),
        unusable,
        number,
        identity,
    )


def _identified(measurer: Measurer, providers: Mapping[str, Measurer], unusable: dict[str, str]) -> Identity:
    """Return a measurer's identity, or an empty one: its clips fail with the reason, other metrics are measured."""
    try:
        return identify(measurer, providers)
    except EvalError as error:
        unusable[measurer.name] = str(error)
        return Identity(f"{measurer.name}@{measurer.version}#unknown", {})
