"""Change of a divergence from the first window of clips to the last, by a straight line through all windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cdslm_eval.results.differences import Difference
from cdslm_eval.stats.change import POSITION
from cdslm_eval.stats.jsd.corrected import TRUSTED_FLOOR, Corrected, corrected, total_variance, window_counts
from cdslm_eval.stats.jsd.estimator import MAX_PHONES
from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable
from cdslm_eval.stats.jsd.plug_in import Floats, clustered_variance
from cdslm_eval.stats.resampling import pooled_error, t_half_width, t_test
from cdslm_eval.stats.sample import Sample
from cdslm_eval.stats.statistic import Context, Estimation, Statistic

__all__ = ["JensenShannonChange"]

_LEAST_SPEAKING = 5
"""Clips (or speakers) with phones that every window needs: fewer are little evidence of their spread."""


@dataclass(frozen=True, kw_only=True)
class JensenShannonChange(Statistic):
    """Change of the corrected divergence of each order, at one n-gram count in every window.

    The error is that of the influence of every cluster on all windows together: what a clip, or a speaker, does to
    each of its windows, and a clip of the reference to all of them, cancels where it is the same.

    Attributes:
        column: The sequence column.
        orders: Values of n.
        windows: How many windows each clip has, at least 2.
    """

    needs_reference: ClassVar[bool] = True

    column: str
    orders: tuple[int, ...]
    windows: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The sequences, and the number of the window."""
        return (self.column, POSITION)

    def names(self, name: str) -> tuple[str, ...]:
        """Return one name per order."""
        return tuple(f"{name}_{order}" for order in self.orders)

    def estimate(self, sample: Sample, reference: Sample | None, context: Context) -> Estimation:
        """Return the change of each order with its 95 % interval."""
        names = self.names(context.name)
        reason = self._unknown(sample, reference)
        if reason or reference is None:
            return Estimation(tuple(context.estimate(sample, math.nan, name=name, reason=reason) for name in names))
        position = sample.numbers[POSITION]
        rows = [np.flatnonzero(position == window) for window in range(self.windows)]
        rng = np.random.default_rng([context.seed, 0x6A7364])
        real, real_rows = reference.sequences[self.column].draw(MAX_PHONES, rng)
        theirs = reference.clusters.numbers[real_rows]
        own = []
        for window, of_window in enumerate(rows):
            sequences, drawn = sample.sequences[self.column].take(of_window).draw(MAX_PHONES, rng)
            own.append(sequences)
            rows[window] = of_window[drawn]
        counts = {
            n: min(int(window_counts(sequences.lengths, n).sum()) for sequences in (*own, real)) for n in self.orders
        }
        results = []
        for sequences, of_window in zip(own, rows, strict=True):
            clusters = sample.clusters.numbers[of_window]
            joint = np.concatenate([clusters, theirs + sample.clusters.count])
            table = NgramTable(sequences, real, orders=max(self.orders))
            # the same draws of the reference for every window
            results.append(corrected(table, self.orders, np.random.default_rng([context.seed, 1]), counts, joint))
        speaking = min(
            len(np.unique(sample.clusters.numbers[of_window][sequences.lengths > 0]))
            for sequences, of_window in zip(own, rows, strict=True)
        )
        few = min(speaking, reference.clusters.count)
        clusters = sample.clusters.numbers[np.concatenate(rows)]
        estimates = []
        for name, order in zip(names, self.orders, strict=True):
            of_order = [result[order] for result in results]
            value, second, se = _line(of_order, clusters, theirs)
            half = t_half_width(se, few - 1) if few > 1 else math.nan
            low, high = min(value, second) - half, max(value, second) + half
            worst, reason = max(result.floor for result in of_order), ""
            # negated, so that an unknown floor has no interval either
            if not worst <= TRUSTED_FLOOR:
                reason = f"at a floor of {worst:.2f} in a window its change has no interval"
            elif few < _LEAST_SPEAKING:
                reason = f"with phones of {few} clips (or speakers) in a window its change has no interval"
            if reason:
                low = high = math.nan
            estimates.append(
                context.estimate(
                    sample,
                    value,
                    (low, high),
                    error=(se, few - 1),
                    name=name,
                    method="95% t",
                    reference=reference,
                    reason=reason,
                )
            )
        return Estimation(tuple(estimates))

    def difference(
        self, a: Sample, b: Sample, reference: Sample | None, context: Context, *, paired: bool
    ) -> Sequence[Difference]:
        """Compare the changes of two systems, as of independent samples: careful where clips are paired."""
        sides = [self.estimate(side, reference, context).estimates for side in (a, b)]
        return [
            context.difference(
                t_test(own.value - other.value, *pooled_error((own.se, other.se), (own.degrees, other.degrees))),
                name=own.name,
                method="influence of clips (or speakers), t",
                paired=paired,
                sides=(own.value, other.value),
                reason=own.reason or other.reason,
            )
            for own, other in zip(*sides, strict=True)
        ]

    def _unknown(self, sample: Sample, reference: Sample | None) -> str:
        """Return why the change is not known, or ""."""
        for side, whose in ((sample, ""), (reference, "the reference has no rows: ")):
            if side is not None and self.column not in side.sequences:
                return whose + side.why_empty()
        position = sample.numbers[POSITION]
        lengths = sample.sequences[self.column].lengths
        for window in range(self.windows):
            if not lengths[position == window].sum():
                return f"window {window + 1} of {self.windows} has no phones"
        return ""


def _line(results: Sequence[Corrected], clusters: Ints, theirs: Ints) -> tuple[float, float, float]:
    """Return the change by both estimates, and the standard error of the first.

    Args:
        results: One per window.
        clusters: Cluster number of each row of the system, windows one after the other.
        theirs: Cluster number of each clip of the reference.
    """
    times = np.arange(len(results)) - (len(results) - 1) / 2
    shares: Floats = times / np.square(times).sum() * (len(results) - 1)
    value, second, drawn = (
        float(shares**power @ np.array([getattr(result, name) for result in results]))
        for name, power in (("value", 1), ("second", 1), ("drawn", 2))
    )
    own = np.concatenate(
        [share * result.influence[: -len(theirs)] for share, result in zip(shares, results, strict=True)]
    )
    real = sum((share * result.influence[-len(theirs) :] for share, result in zip(shares, results, strict=True)))
    first_order = clustered_variance(own, clusters) + clustered_variance(np.asarray(real), theirs)
    # what the reference's own fluctuation does to every window alike is no change
    spread = np.sqrt([result.noise for result in results])
    of_reference = shares * spread * [result.reference_share for result in results]
    noise = float(np.square(shares * spread).sum() + of_reference.sum() ** 2 - np.square(of_reference).sum())
    return value, second, float(np.sqrt(total_variance(results[0].order, first_order, max(noise, 0.0)) + drawn))
