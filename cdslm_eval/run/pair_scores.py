"""Scores pairs of clips into a store, clip by clip, and compares them; an interrupted run resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.sources import Source, decode
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.scorer import Score, Scorer
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.preference_result import ALL_KINDS, KindAccuracy, LevelAccuracy, PairFailure
from cdslm_eval.run.pair_sets import PairSource
from cdslm_eval.run.preference import accuracy_of

__all__ = ["ScoredPair", "accuracies_of", "failures_of", "score_pairs"]

_PAIRS_AT_ONCE = 16
"""Pairs whose clips are in memory together."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair with the scores of both clips, or why they cannot be compared."""

    pair: PairSource
    better: Score | None
    worse: Score | None
    reason: str = ""


def score_pairs(
    scorer: Scorer, pairs: Sequence[PairSource], store: Store, *, seed: int = 0, progress: Progress | None = None
) -> list[ScoredPair]:
    """Return the pairs with their scores; those that the store holds are not computed again.

    Args:
        scorer: The model.
        pairs: The pairs.
        store: Takes the scores, by content of the clip, context and seed.
        seed: Of sampled scores.
        progress: Called with (pairs done, pairs to do).

    Raises:
        EvalError: No pair could be scored, with the reason of the first.
    """
    done: list[ScoredPair] = []
    for context_s, group in itertools.groupby(pairs, key=lambda pair: pair.context_s):
        identity = _identity(scorer, context_s, seed)
        store.put_identity(*identity)
        for chunk in _chunks(group):
            done += _scored(scorer, chunk, store, identity[0], context_s, seed)
            if progress is not None:
                progress(len(done), len(pairs))
    if done and all(pair.reason for pair in done):
        raise EvalError(f"no pair could be scored: {done[0].pair.better.path}: {done[0].reason}")
    return done


def _chunks(pairs: Iterator[PairSource]) -> Iterator[tuple[PairSource, ...]]:
    while chunk := tuple(itertools.islice(pairs, _PAIRS_AT_ONCE)):
        yield chunk


def _identity(scorer: Scorer, context_s: float, seed: int) -> tuple[str, Mapping[str, Any]]:
    """Return what scores must share to be compared, and its parts."""
    assert isinstance(scorer, Generator)  # a scorer is one as well
    parts = {
        "name": scorer.name,
        "version": scorer.version,
        "options": scorer.options.model_dump(mode="json"),
        "fingerprint": dict(scorer.fingerprint()),
        "code": scorer.code,
        "score": {"context_s": context_s, "seed": seed},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    return f"{scorer.name}@{scorer.version}+score#{digest}", parts


def _scored(
    scorer: Scorer, pairs: Sequence[PairSource], store: Store, identity: str, context_s: float, seed: int
) -> Iterator[ScoredPair]:
    """Yield some pairs with their scores, having written these."""
    clips: dict[str, Clip] = {}
    digests: dict[str, str] = {}
    failures: dict[str, str] = {}
    for source in {side.path: side for pair in pairs for side in (pair.better, pair.worse)}.values():
        try:
            clip = decode(source)
        except EvalError as error:
            failures[source.path] = str(error)
            continue
        digests[source.path] = clip.digest
        clips.setdefault(clip.digest, clip)
    known = {
        digest: outcome
        for digest, outcome in zip(clips, store.outcomes(identity, clips), strict=True)
        if outcome is not None and outcome.status == "ok"
    }
    missing = [digest for digest in clips if digest not in known]
    for digest, outcome in _measured(scorer, [clips[digest] for digest in missing], context_s, seed):
        known[digest] = outcome
        with store.writing():
            store.put_row(identity, digest, outcome)

    def side(source: Source) -> tuple[Score | None, str]:
        if source.path in failures:
            return None, failures[source.path]
        outcome = known[digests[source.path]]
        return (_score(outcome.row), "") if outcome.status == "ok" else (None, outcome.reason)

    for pair in pairs:
        (better, why), (worse, why_worse) = side(pair.better), side(pair.worse)
        reason = why or why_worse
        if better is not None and worse is not None and better.kind != worse.kind:
            reason = f"scores of different kinds, {better.kind} and {worse.kind}"
        yield ScoredPair(pair, better, worse, reason)


def _measured(scorer: Scorer, clips: Sequence[Clip], context_s: float, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Yield the digest and the score of each clip; one that raises fails alone."""
    start = 0
    while start < len(clips):
        scores = scorer.scores(clips[start:], context_s=context_s, seed=seed)
        for number in range(start, len(clips)):
            start = number + 1
            try:
                score = next(scores)
            except StopIteration:
                raise EvalError(f"{type(scorer).__name__} yields fewer scores than clips") from None
            except EvalError as error:
                # a generator that raised is at its end: another one scores what is left
                yield clips[number].digest, Outcome("failed", str(error), {})
                break
            if not (math.isfinite(score.total) and math.isfinite(score.per_second)):
                yield clips[number].digest, Outcome("failed", "a score that is not finite", {})
                continue
            row = dataclasses.asdict(score) | {"levels": list(score.levels), "edges": list(score.edges)}
            row["std_error"] = score.std_error if math.isfinite(score.std_error) else None
            yield clips[number].digest, Outcome("ok", "", row)


def _score(row: Mapping[str, Any]) -> Score:
    own = {**row, "levels": tuple(row["levels"]), "edges": tuple(row["edges"])}
    return Score(**own | {"std_error": math.nan if row["std_error"] is None else row["std_error"]})


def accuracies_of(
    pairs: Sequence[ScoredPair], system: str, identity: str, *, per_second: bool = False, seed: int = 0
) -> list[KindAccuracy]:
    """Return the accuracy of a model on all pairs, and on those of each kind where there are several.

    Args:
        pairs: Scored pairs.
        system: Name of the model.
        identity: Its name and version.
        per_second: Compare scores per second, for clips of different lengths.
        seed: Of the intervals.

    Raises:
        UsageError: There is no pair.
    """
    if not pairs:
        raise UsageError("no pair to compare")
    kinds = list(dict.fromkeys(scored.pair.kind for scored in pairs if scored.pair.kind))
    groups = {ALL_KINDS: list(pairs)} | {
        kind: [scored for scored in pairs if scored.pair.kind == kind] for kind in kinds if len(kinds) > 1 or kind
    }
    if len(groups) == 2 and len(groups[ALL_KINDS]) == len(groups[kinds[0]]):
        del groups[ALL_KINDS]  # one kind is all there is
    return [_kind(group, kind, system, identity, per_second, seed) for kind, group in groups.items()]


def _kind(
    group: Sequence[ScoredPair], kind: str, system: str, identity: str, per_second: bool, seed: int
) -> KindAccuracy:
    families = [scored.pair.family for scored in group]

    def estimate(differences: Sequence[float | str], name: str) -> Estimate:
        return accuracy_of(differences, families, name=name, system=system, identity=identity, seed=seed)

    differences = [_difference(scored, per_second) for scored in group]
    compared = [scored for scored in group if not scored.reason]
    numbers = np.array([difference for difference in differences if isinstance(difference, float)])
    spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    edges = {scored.better.edges for scored in compared if scored.better is not None}
    levels: tuple[LevelAccuracy, ...] = ()
    if len(edges) == 1 and len(borders := edges.pop()) > 1:
        levels = tuple(
            LevelAccuracy(low, high, estimate([_difference(scored, per_second, at) for scored in group], "preference"))
            for at, (low, high) in enumerate(itertools.pairwise(borders))
        )
    return KindAccuracy(
        system=system,
        kind=kind,
        score=", ".join(sorted({scored.better.kind for scored in compared if scored.better is not None})),
        accuracy=estimate(differences, "preference"),
        families=len({scored.pair.family for scored in compared}),
        margin=float(numbers.mean()) / spread if spread > 0 else math.nan,
        levels=levels,
    )


def _difference(scored: ScoredPair, per_second: bool, level: int | None = None) -> float | str:
    """Return better less worse, in all or at one noise level, or why it is not known."""
    if scored.reason or scored.better is None or scored.worse is None:
        return scored.reason
    sides = []
    for score in (scored.better, scored.worse):
        value = score.total if level is None else score.levels[level]
        # both have the seconds that per_second divides by
        sides.append(value * score.per_second / score.total if per_second and score.total else value)
    return sides[0] - sides[1]


def failures_of(pairs: Sequence[ScoredPair], system: str) -> list[PairFailure]:
    """Return the pairs that were not compared."""
    return [
        PairFailure(system, scored.pair.better.path, scored.pair.worse.path, scored.reason)
        for scored in pairs
        if scored.reason
    ]
