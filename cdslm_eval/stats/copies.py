"""Names clips that repeat each other or copy the reference: by content, and by vectors that are all but equal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from cdslm_eval.results.score_result import Exemplar
from cdslm_eval.run import Measurement
from cdslm_eval.stats.distances import near_copies
from cdslm_eval.stats.estimate import Sample

__all__ = ["Copies", "copies", "repeated"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Copies:
    """Clips of a system that copy reference clips: sentences, and the nearest ones to listen to."""

    warnings: tuple[str, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()


def repeated(one: Measurement) -> list[str]:
    """Return a sentence when clips of a system are the same audio, sample by sample."""
    keys = [source.key for source in one.request.clips.sources]
    counts = Counter(digest for digest in one.digests() if digest)
    again = {digest for digest, count in counts.items() if count > 1}
    if not again:
        return []
    same = [key for key, digest in zip(keys, one.digests(), strict=True) if digest in again]
    named = ", ".join(same[:_SHOWN]) + (", ..." if len(same) > _SHOWN else "")
    return [f"{one.request.clips.name}: {len(same)} clips are {len(again)} repeated sample by sample: {named}"]


def copies(one: Measurement, real: Measurement, sample: Sample, reference: Sample, column: str) -> Copies:
    """Return which clips of a system are reference clips, or all but.

    Args:
        one, real: The system and the reference.
        sample, reference: Their rows.
        column: The vector column that tells how near two clips are.
    """
    system = one.request.clips.name
    digests = one.digests()
    known = {digest: place for place, digest in enumerate(real.digests()) if digest}
    exact = {place: known[digest] for place, digest in enumerate(digests) if digest in known}
    found: list[tuple[int, int, float]] = [(place, other, 0.0) for place, other in exact.items()]
    own, theirs = sample.vectors.get(column), reference.vectors.get(column)
    if own is not None and theirs is not None:
        has = [np.flatnonzero(np.isfinite(one[:, 0])) for one in (own, theirs)]
        near = near_copies(own[has[0]], theirs[has[1]])
        for place, other, distance in zip(near.places, near.neighbours, near.distances, strict=True):
            clip = int(sample.scored[has[0][place]])
            if clip not in exact:
                found.append((clip, int(reference.scored[has[1][other]]), float(distance)))
    if not found:
        return Copies()
    sources, originals = one.request.clips.sources, real.request.clips.sources
    named = ", ".join(f"{sources[clip].key} of {originals[other].key}" for clip, other, _ in found[:_SHOWN])
    sentence = (
        f"{system}: {len(exact)} clips are clips of the reference and {len(found) - len(exact)} all but copy one "
        f"({named}{', ...' if len(found) > _SHOWN else ''}): was it memorised?"
    )
    heard = tuple(
        Exemplar(
            system=system,
            place="copy",
            key=sources[clip].key,
            path=sources[clip].path,
            score=distance,
            measure=f"standard deviations from {originals[other].key}",
            original=originals[other].path,
        )
        for clip, other, distance in found[:_SHOWN]
    )
    return Copies((sentence,), heard)
