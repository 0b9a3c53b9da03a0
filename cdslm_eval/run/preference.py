"""Preference: how often a model scores the better of two clips higher."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cdslm_eval.core.audio import Clip, content_digest
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.scorer import Scorer
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.stats.sample import gather
from cdslm_eval.stats.statistic import Context
from cdslm_eval.stats.weighted import Mean

__all__ = ["KINDS", "Pair", "accuracy_of", "kinds_named", "made_pairs", "preference"]

KINDS = ("wrong-continuation", "reversed", "shuffled", "speaker-switched")
"""What is made worse: the rest is another clip's, played backwards, or in pieces; or another speaker's."""
_PIECES = 4
_FADE_S = 0.01


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips that begin alike, of which a good model prefers the first.

    Attributes:
        better, worse: The clips.
        family: Pairs of one family are not independent: intervals keep them together.
        kind: What makes the worse one worse.
        context_s: Seconds that both have in common, which are not scored.
    """

    better: Clip
    worse: Clip
    family: str
    kind: str
    context_s: float = 0.0


def made_pairs(clips: Sequence[Clip], kind: str, context_s: float, seed: int = 0) -> Iterator[Pair]:
    """Yield pairs made of real clips: each as it is, and with what follows its context made worse.

    Both clips of a pair have the same length and the same context, and what is put in place is at the level of what
    it replaces, faded in over 10 ms of what really follows: neither length, loudness nor a click tells them apart.

    Args:
        clips: Real speech; clips shorter than twice the context, or without a fitting partner, make no pair.
        kind: One of `KINDS`.
        context_s: Length of the context in seconds, over 0.
        seed: Chooses partners and orders of pieces.

    Raises:
        UsageError: There is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"pairs of the kind {kind!r}: one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    usable = [clip for clip in clips if clip.seconds >= 2 * context_s and len(clip.samples)]
    for clip in usable:
        border = round(context_s * clip.rate_hz)
        rest = clip.samples[border:]
        if kind == "reversed":
            other = rest[::-1]
        elif kind == "shuffled":
            pieces = np.array_split(rest, _PIECES)
            order = np.arange(_PIECES)
            while (order == np.arange(_PIECES)).any():  # until no piece is where it was
                order = rng.permutation(_PIECES)
            other = np.concatenate([pieces[number] for number in order])
        else:
            partner = _partner(clip, usable, len(rest), rng, switched=kind == "speaker-switched")
            if partner is None:
                continue
            other = partner.samples[-len(rest) :]
        level = math.sqrt(float(np.square(rest, dtype=np.float64).mean()))
        own = math.sqrt(float(np.square(other, dtype=np.float64).mean()))
        scaled = other * (level / own if own > 0 else 1.0)
        fade = np.minimum(np.arange(1, len(rest) + 1) / max(1, round(_FADE_S * clip.rate_hz)), 1.0)
        faded = scaled * fade + rest * (1.0 - fade)
        samples = np.concatenate([clip.samples[:border], faded]).astype(np.float32).clip(-1, 1)
        digest = content_digest(samples, clip.rate_hz)
        worse = dataclasses.replace(
            clip, key=f"{clip.key} {kind}", samples=samples, digest=digest, text=None, phones=None, reference=None
        )
        yield Pair(clip, worse, clip.speaker or clip.key, kind, context_s)


def kinds_named(names: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds with these names; a word of a name stands for it, such as "speaker" for "speaker-switched".

    Raises:
        UsageError: A name stands for no kind.
    """
    kinds = []
    for name in names:
        kind = next((kind for kind in KINDS if name == kind or name in kind.split("-")), None)
        if kind is None:
            raise UsageError(f"There is no kind {name!r} of pairs. Known: {', '.join(KINDS)}.")
        kinds.append(kind)
    return tuple(dict.fromkeys(kinds))


def _partner(
    clip: Clip, clips: Sequence[Clip], length: int, rng: np.random.Generator, *, switched: bool
) -> Clip | None:
    """Return another clip that is long enough: of another speaker, or (where speakers are known) of the same one."""
    fitting = [
        other
        for other in clips
        if other is not clip
        and other.rate_hz == clip.rate_hz
        and len(other.samples) >= length
        and (switched or clip.speaker is None or other.speaker == clip.speaker)
        and not (switched and (clip.speaker is None or other.speaker in (None, clip.speaker)))
    ]
    return fitting[int(rng.integers(len(fitting)))] if fitting else None


def preference(
    scorer: Scorer, pairs: Iterable[Pair], *, system: str = "", normalised: bool = False, seed: int = 0
) -> Estimate:
    """Return the share of pairs whose better clip scores higher, ties counting half, clustered by family.

    Args:
        scorer: The model, open where it needs that.
        pairs: The pairs; clips of one pair share the random numbers of a sampled score.
        system: The name of the model.
        normalised: Compare scores per second, for pairs of different lengths.
        seed: Of sampled scores, and of the interval.

    Raises:
        UsageError: There is no pair.
    """
    differences: list[float | str] = []
    families, kinds = [], set()
    for pair in pairs:
        better, worse = scorer.scores([pair.better, pair.worse], context_s=pair.context_s, seed=seed)
        kinds |= {better.kind, worse.kind}
        values = (better.per_second, worse.per_second) if normalised else (better.total, worse.total)
        finite = all(map(math.isfinite, values))
        differences.append(values[0] - values[1] if finite else "a score that is not finite")
        families.append(pair.family)
    if not differences:
        raise UsageError("no pair to compare: name clips of at least twice the context, and their speakers")
    if len(kinds) > 1:
        raise UsageError(f"scores of different kinds ({', '.join(sorted(kinds))}) cannot be compared")
    return accuracy_of(differences, families, system=system, seed=seed)


def accuracy_of(
    differences: Sequence[float | str],
    families: Sequence[str],
    *,
    name: str = "preference",
    system: str = "",
    identity: str = "",
    seed: int = 0,
) -> Estimate:
    """Return the share of differences above 0, ties counting half, with an interval by family.

    Args:
        differences: Score of the better clip less that of the worse one; why it is not known, where it is not.
        families: Of each pair.
        name, system, identity: Of the estimate.
        seed: Of the interval.
    """
    outcomes = [
        Outcome("failed", difference, {})
        if isinstance(difference, str)
        else Outcome("ok", "", {"won": float(np.heaviside(difference, 0.5))})
        for difference in differences
    ]
    context = Context(
        name=name, metric="preference", identity=identity, system=system, unit="fraction", better="higher", seed=seed
    )
    estimate = Mean("won").estimate(gather(outcomes, families), None, context).estimates[0]
    # with ties it is a mean of 0, .5 and 1, whose interval may reach beyond what a share can be
    low, high = (float(np.clip(end, 0.0, 1.0)) for end in (estimate.low, estimate.high))
    return dataclasses.replace(estimate, low=low, high=high)
