"""Scores pairs of clips into a store, clip by clip, and compares them; an interrupted run resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.sources import Source, decode
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.failures import describe
from cdslm_eval.plugin.scorer import Score, Scorer
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.preference_result import ALL_KINDS, KindAccuracy, LevelAccuracy, PairFailure
from cdslm_eval.run.pair_sets import PairSource
from cdslm_eval.run.preference import accuracy_of

__all__ = [
    "ScoredPair",
    "accuracies_of",
    "failed_pairs",
    "failures_of",
    "identity_of",
    "pairs_digest",
    "score_pairs",
]

_PAIRS_AT_ONCE = 16
"""Pairs whose clips are in memory together."""
_SAME_S = 1e-6
"""Lengths within which no further sample lies, at any rate of audio."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A pair with the scores of both clips, or why they cannot be compared.

    Attributes:
        pair: The pair.
        better, worse: Scores of its clips; None where there is none.
        reason: Why they cannot be compared, or "".
        digests: Of the content of both clips; "" for one that cannot be read.
        seconds: Of both clips, without what is their context; NaN for one that cannot be read.
    """

    pair: PairSource
    better: Score | None
    worse: Score | None
    reason: str = ""
    digests: tuple[str, str] = ("", "")
    seconds: tuple[float, float] = (math.nan, math.nan)

    @property
    def differs_in_length(self) -> bool:
        """Whether one of its clips has more seconds to score than the other; a clip with none fails by itself."""
        better_s, worse_s = self.seconds
        return min(better_s, worse_s) > 0 and abs(better_s - worse_s) > _SAME_S


def score_pairs(
    scorer: Scorer,
    pairs: Sequence[PairSource],
    store: Store,
    *,
    seed: int = 0,
    one_length: bool = False,
    progress: Progress | None = None,
) -> list[ScoredPair]:
    """Return the pairs with their scores; those that the store holds are not computed again.

    Args:
        scorer: The model.
        pairs: The pairs.
        store: Takes the scores, by content of the clip, context and seed.
        seed: Of sampled scores.
        one_length: Whether pairs whose clips differ in length are refused, before any clip of theirs is scored.
        progress: Called with (pairs done, pairs to do).

    Raises:
        UsageError: The clips of a pair differ in length and `one_length`.
    """
    done: list[ScoredPair] = []
    model = _parts(scorer)
    for context_s, group in itertools.groupby(pairs, key=lambda pair: pair.context_s):
        parts = model | {"score": {"context_s": context_s, "seed": seed}}
        identity = f"{parts['name']}@{parts['version']}+score#{_digest(parts)}"
        store.put_identity(identity, parts)
        for chunk in _chunks(group):
            done += _scored(scorer, chunk, store, identity, context_s, seed, one_length=one_length)
            if progress is not None:
                progress(len(done), len(pairs))
    return done


def failed_pairs(pairs: Sequence[PairSource], reason: str) -> list[ScoredPair]:
    """Return pairs none of which could be scored, for one reason."""
    return [ScoredPair(pair, None, None, reason) for pair in pairs]


def _chunks(pairs: Iterator[PairSource]) -> Iterator[tuple[PairSource, ...]]:
    while chunk := tuple(itertools.islice(pairs, _PAIRS_AT_ONCE)):
        yield chunk


def identity_of(scorer: Scorer) -> tuple[str, Mapping[str, Any]]:
    """Return what identifies a model whatever it scores, and its parts: options, digests of weights, code."""
    parts = _parts(scorer)
    return f"{parts['name']}@{parts['version']}#{_digest(parts)}", parts


def pairs_digest(pairs: Sequence[ScoredPair]) -> str:
    """Return a digest of the content of all clips, and of families, kinds and contexts, in their order."""
    rows = [[*scored.digests, scored.pair.family, scored.pair.kind, scored.pair.context_s] for scored in pairs]
    return _digest(rows)


def _parts(scorer: Scorer) -> dict[str, Any]:
    assert isinstance(scorer, Generator)  # a scorer is one as well
    return {
        "name": scorer.name,
        "version": scorer.version,
        "options": scorer.options.model_dump(mode="json"),
        "fingerprint": dict(scorer.fingerprint()),
        "code": scorer.code,
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _scored(
    scorer: Scorer,
    pairs: Sequence[PairSource],
    store: Store,
    identity: str,
    context_s: float,
    seed: int,
    *,
    one_length: bool,
) -> list[ScoredPair]:
    """Return some pairs with their scores, having written these."""
    clips: dict[str, Clip] = {}
    read: dict[Hashable, Clip | str] = {}
    for source in {_place(side): side for pair in pairs for side in (pair.better, pair.worse)}.values():
        try:
            clip = decode(source)
        except EvalError as error:
            read[_place(source)] = f"{source.address}: {error}"
        else:
            read[_place(source)] = clips.setdefault(clip.digest, clip)
    decoded = [_with_clips(pair, read) for pair in pairs]
    if one_length and (unequal := next((scored for scored in decoded if scored.differs_in_length), None)):
        better_s, worse_s = unequal.seconds
        raise UsageError(
            f"{unequal.pair.better.address} has {better_s:g} s to score, and {unequal.pair.worse.address} {worse_s:g} "
            "s: totals would prefer the shorter clip. Use: --per-second (per_second=True), or --total (False) if that "
            "is meant"
        )
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
    return [_with_scores(scored, known) for scored in decoded]


def _place(source: Source) -> Hashable:
    """Return what two sources of the same sound have in common: a file has several parts, a set several derivations."""
    derivation = source.derivation.ident if source.derivation else ""
    return source.address, source.allow_truncated, derivation, id(source.decoded)


def _with_clips(pair: PairSource, read: Mapping[Hashable, Clip | str]) -> ScoredPair:
    """Return a pair with the digests and lengths of its clips, or why one cannot be read."""
    sides = [read[_place(side)] for side in (pair.better, pair.worse)]
    digests = ["" if isinstance(side, str) else side.digest for side in sides]
    seconds = [math.nan if isinstance(side, str) else side.seconds - pair.context_s for side in sides]
    reason = next((side for side in sides if isinstance(side, str)), "")
    return ScoredPair(pair, None, None, reason, (digests[0], digests[1]), (seconds[0], seconds[1]))


def _with_scores(scored: ScoredPair, known: Mapping[str, Outcome]) -> ScoredPair:
    """Return a pair with the scores of its clips, or why they cannot be compared."""
    outcomes = [known.get(digest) for digest in scored.digests]
    better, worse = (_score(own.row) if own is not None and own.status == "ok" else None for own in outcomes)
    reason = scored.reason or next((own.reason for own in outcomes if own is not None and own.reason), "")
    if better is not None and worse is not None and better.kind != worse.kind:
        reason = f"scores of different kinds, {better.kind} and {worse.kind}"
    return dataclasses.replace(scored, better=better, worse=worse, reason=reason)


def _measured(scorer: Scorer, clips: Sequence[Clip], context_s: float, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Yield the digest and the score of each clip; one that raises fails alone."""
    start = 0
    while start < len(clips):
        scores: Iterator[Score] | None = None
        for number in range(start, len(clips)):
            start = number + 1
            try:
                if scores is None:
                    scores = scorer.scores(clips[number:], context_s=context_s, seed=seed)
                score = next(scores)
            except StopIteration:
                for clip in clips[number:]:
                    yield clip.digest, Outcome("failed", f"{type(scorer).__name__} yields fewer scores than clips", {})
                return
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and other models are compared
                # a generator that raised is at its end: another one scores what is left
                yield clips[number].digest, Outcome("failed", describe(error, type(scorer).__module__), {})
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

    There is one for each kind of score where a model has several, such as gains and, without a context, bounds.

    Args:
        pairs: Scored pairs.
        system: Name of the model.
        identity: Of the model.
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
    return [
        _kind(own, kind, system, identity, per_second, seed)
        for kind, group in groups.items()
        for own in _by_score(group)
    ]


def _by_score(pairs: Sequence[ScoredPair]) -> list[list[ScoredPair]]:
    """Return pairs by the kind of their scores: a gain and a bound are no accuracy together.

    Pairs that failed have no kind of score: each accuracy counts them as failed.
    """
    scores = dict.fromkeys(scored.better.kind for scored in pairs if scored.better is not None and not scored.reason)
    return [
        [scored for scored in pairs if scored.reason or (scored.better is not None and scored.better.kind == score)]
        for score in scores
    ] or [list(pairs)]


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
        PairFailure(system, str(scored.pair.better.address), str(scored.pair.worse.address), scored.reason)
        for scored in pairs
        if scored.reason
    ]
