"""`Sample`: the rows of one system under one metric as columns, with one clustering."""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import PluginError
from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.clusters import Clusters, Ints
from cdslm_eval.stats.jsd.ngrams import PhoneSequences

__all__ = ["ClipLabel", "Sample", "SampleBuilder", "gather"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClipLabel:
    """What names a clip of a set, in results and for pairing.

    Attributes:
        key: Its key in the set.
        path: Its audio file, or "".
        digest: SHA-256 of its decoded content, or "" where it is not known.
    """

    key: str
    path: str = ""
    digest: str = ""


@dataclass(slots=True, eq=False)
class Sample:
    """The rows of one system under one metric, column by column.

    Attributes:
        numbers: float64 `[scored clips]` per numeric column, NaN where it does not apply to a clip.
        sequences: Phone-like columns.
        vectors: float32 `[scored clips, dimensions]` per vector column, NaN where it does not apply to a clip.
        scored: Index in the set of each scored clip.
        clusters: The clustering of the scored clips: every interval, floor, fold and pairing uses it.
        labels: Every clip of the set, scored or not; empty where nothing names them.
        n_failed, n_skipped: The other clips.
        reasons: Why clips are missing -> how many.
    """

    numbers: dict[str, Floats] = field(default_factory=dict)
    sequences: dict[str, PhoneSequences] = field(default_factory=dict)
    vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    scored: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    clusters: Clusters = field(default_factory=lambda: Clusters.alone(0))
    labels: Sequence[ClipLabel] = ()
    n_failed: int = 0
    n_skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scored)

    def column(self, name: str) -> Floats:
        """Return a number column `[clips]` or a vector column `[clips, dimensions]`; NaN where it is absent."""
        if name in self.vectors:
            return self.vectors[name].astype(np.float64)
        return self.numbers.get(name, np.full(len(self.scored), np.nan))

    def complete(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return which scored clips have all of some columns, `[clips]`; sequences are always there."""
        everywhere = np.ones(len(self.scored), bool)
        for name in names:
            if name not in self.sequences:
                values = self.vectors.get(name, self.numbers.get(name, np.full(len(self.scored), np.nan)))
                # a vector that is missing is a row of NaN, so that its first element tells
                everywhere &= np.isfinite(values) if values.ndim == 1 else np.isfinite(values[:, 0])
        return everywhere

    def take(self, chosen: npt.NDArray[np.bool_] | Ints) -> Sample:
        """Return some of the scored clips, by mask or by index; the counts of the others stay."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return dataclasses.replace(
            self,
            numbers={name: values[index] for name, values in self.numbers.items()},
            sequences={name: values.take(index) for name, values in self.sequences.items()},
            vectors={name: values[index] for name, values in self.vectors.items()},
            scored=self.scored[index],
            clusters=self.clusters.take(index),
        )

    def label(self, row: int) -> ClipLabel:
        """Return the label of the clip of a row."""
        return self.labels[int(self.scored[row])]

    @property
    def keys(self) -> list[str]:
        """Key of each scored clip."""
        return [self.labels[int(clip)].key for clip in self.scored]

    def why_empty(self) -> str:
        """Return why no clip was scored."""
        if not self.reasons:
            return "no clips"
        reason, count = max(self.reasons.items(), key=lambda pair: pair[1])
        return f"no clip was scored; {count} x {reason}"


def gather(
    outcomes: Iterable[Outcome], clusters: Sequence[Hashable], labels: Sequence[ClipLabel] | None = None
) -> Sample:
    """Turn outcomes into columns, reading them once.

    Args:
        outcomes: One per clip of the set.
        clusters: What each clip is resampled with: its speaker, or something of its own.
        labels: Names of the clips, one per clip of the set; None where nothing names them.
    """
    builder = SampleBuilder()
    for outcome in outcomes:
        if outcome.status == "ok":
            builder.add_row(outcome.row)
        else:
            builder.add_missing(outcome.status, outcome.reason)
    sample = builder.done()
    sample.labels = () if labels is None else labels
    # of scored clips only: a speaker without any would be drawn and count as evidence
    sample.clusters = Clusters.of(clusters[clip] for clip in sample.scored)
    return sample


class SampleBuilder:
    """Collects rows into columns, so that ten million clips need arrays and not objects."""

    def __init__(self) -> None:
        self._numbers: dict[str, array[float]] = {}
        self._sequences: dict[str, _Encoder] = {}
        self._vectors: dict[str, dict[int, npt.NDArray[np.float32]]] = {}
        self._scored: array[int] = array("q")
        self._clips = 0
        self._sample = Sample()

    def add_missing(self, status: str, reason: str) -> None:
        """Add a clip that was not scored: "failed" or "skipped", and why."""
        self._clips += 1
        self._sample.n_failed += status == "failed"
        self._sample.n_skipped += status == "skipped"
        self._sample.reasons[reason] = self._sample.reasons.get(reason, 0) + 1

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add a clip that was scored."""
        for name, value in row.items():
            if isinstance(value, list):
                self._sequences.setdefault(name, _Encoder()).add(value)
            elif isinstance(value, np.ndarray):
                self._vectors.setdefault(name, {})[len(self._scored)] = value
            elif value is None or isinstance(value, int | float):
                self._numbers.setdefault(name, array("d")).append(math.nan if value is None else float(value))
        self._scored.append(self._clips)
        self._clips += 1

    def add_numbers(self, columns: Mapping[str, Floats], rows: int) -> None:
        """Add clips that were scored and whose rows hold numbers alone, column by column, `[rows]` each."""
        for name, values in columns.items():
            self._numbers.setdefault(name, array("d")).frombytes(values.tobytes())
        self._scored.extend(range(self._clips, self._clips + rows))
        self._clips += rows

    def done(self) -> Sample:
        """Return the sample, each clip a cluster of its own, without labels."""
        sample = self._sample
        # None in a vector column was taken for a number above
        sample.numbers = {
            name: np.frombuffer(values) for name, values in self._numbers.items() if name not in self._vectors
        }
        sample.sequences = {name: encoder.done() for name, encoder in self._sequences.items()}
        sample.vectors = {name: _stacked(name, values, len(self._scored)) for name, values in self._vectors.items()}
        sample.scored = np.frombuffer(self._scored, np.int64) if self._scored else np.zeros(0, np.int64)
        sample.clusters = Clusters.alone(len(self._scored))
        return sample


def _stacked(name: str, values: Mapping[int, npt.NDArray[np.float32]], rows: int) -> npt.NDArray[np.float32]:
    """Return the vectors of a column row by row, NaN where a clip has none."""
    shapes = sorted({value.shape for value in values.values()})
    if len(shapes) > 1 or len(shapes[0]) != 1:
        raise PluginError(f"the column {name!r} holds arrays of shapes {shapes}; use one length for all clips")
    stacked = np.full((rows, *shapes[0]), np.nan, np.float32)
    for row, value in values.items():
        stacked[row] = value
    return stacked


class _Codes(dict[str, int]):
    """Numbers symbols in the order in which they are first looked up."""

    def __missing__(self, symbol: str) -> int:
        return self.setdefault(symbol, len(self))


class _Encoder:
    """Encodes sequences one by one, so that a million clips need 4 bytes a symbol."""

    def __init__(self) -> None:
        self._known = _Codes()
        self._codes: array[int] = array("i")
        self._ends: array[int] = array("q", [0])

    def add(self, symbols: Sequence[str]) -> None:
        self._codes.extend(map(self._known.__getitem__, symbols))
        self._ends.append(len(self._codes))

    def done(self) -> PhoneSequences:
        codes = np.frombuffer(self._codes, np.int32) if self._codes else np.zeros(0, np.int32)
        return PhoneSequences(codes, np.frombuffer(self._ends, np.int64), tuple(self._known))
