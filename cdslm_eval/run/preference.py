"""Preference: how often a model scores the better of two clips higher."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cdslm_eval.core.audio import Clip, Samples, content_digest
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import Outcome
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.stats.sample import gather
from cdslm_eval.stats.statistic import Context
from cdslm_eval.stats.weighted import Mean

__all__ = ["KINDS", "Pair", "accuracy_of", "kinds_named", "made_pairs"]

KINDS = ("wrong-continuation", "reversed", "shuffled", "speaker-switched")
"""What is made worse: the rest is another clip's, played backwards, or in pieces; or another speaker's."""
_PIECES = 4
_FADE_S = 0.01
_GAP_S = 0.03
"""What both clips leave out at each join, several times as long as sound is alike to itself."""


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


def made_pairs(
    clips: Sequence[Clip], kind: str, context_s: float, seed: int = 0, left_out: Counter[str] | None = None
) -> Iterator[Pair]:
    """Yield pairs made of real clips: with what follows the context, and with that made worse.

    Both clips of a pair have the same length, level and context, and the same joins: at each the better one leaves out
    30 ms and is faded over 10 ms into what comes after them, as the worse one is into what replaces it. Both are faded
    out at their ends, so that a reversed or shuffled one has the same sounds at the same levels: neither a click nor
    the place of a quiet end distinguishes them.

    Args:
        clips: Real speech; clips shorter than twice the context or than their joins need, or without a fitting partner,
            make no pair.
        kind: One of `KINDS`.
        context_s: Length of the context in seconds, over 0.
        seed: Chooses partners and orders of pieces.
        left_out: Takes the number of clips that make no pair, by reason.

    Raises:
        UsageError: There is no such kind.
    """
    left_out = Counter() if left_out is None else left_out
    if kind not in KINDS:
        raise UsageError(f"pairs of the kind {kind!r}: one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    usable = [clip for clip in clips if clip.seconds >= 2 * context_s and _piece_length(clip, kind, context_s) > 0]
    if len(usable) < len(clips):
        left_out[f"{kind}, shorter than twice the context, or than joins need"] += len(clips) - len(usable)
    for clip in usable:
        border, length = round(context_s * clip.rate_hz), _piece_length(clip, kind, context_s)
        fade, gap = (round(seconds * clip.rate_hz) for seconds in (_FADE_S, _GAP_S))
        starts = border + gap + np.arange(_joins(kind)) * (length + gap)
        right = [clip.samples[start : start + length + fade] for start in starts]
        if kind == "reversed":
            wrong = [right[0][::-1]]
        elif kind == "shuffled":
            order = np.arange(_PIECES)
            while (order == np.arange(_PIECES)).any():  # until no piece is where it was
                order = rng.permutation(_PIECES)
            wrong = [right[number] for number in order]
        else:
            partner = _partner(clip, usable, length + fade, rng, switched=kind == "speaker-switched")
            if partner is None:
                without = kind == "speaker-switched" and clip.speaker is None
                lack = "no speaker is named" if without else "no clip fits it by length, rate and speaker"
                left_out[f"{kind}, {lack}"] += 1
                continue
            other = partner.samples[-(length + fade) :]
            own = _level(other)
            wrong = [other * np.float32(_level(right[0]) / own if own > 0 else 1.0)]
        context, rest = clip.samples[:border], clip.samples[border : border + fade]
        better, worse = (np.concatenate([context, *_joined(rest, pieces)]) for pieces in (right, wrong))
        yield Pair(
            _made(clip, better, clip.key), _made(clip, worse, f"{clip.key} {kind}"), clip.speaker or clip.key, kind,
            context_s,
        )  # fmt: skip


def _joins(kind: str) -> int:
    return _PIECES if kind == "shuffled" else 1


def _piece_length(clip: Clip, kind: str, context_s: float) -> int:
    """Return the samples of each piece that follows a join, or 0 where a clip is too short for its joins."""
    fade, gap = (round(seconds * clip.rate_hz) for seconds in (_FADE_S, _GAP_S))
    length = (len(clip.samples) - round(context_s * clip.rate_hz) - fade) // _joins(kind) - gap
    return length if length >= 2 * fade else 0


def _level(samples: Samples) -> float:
    return math.sqrt(float(np.square(samples, dtype=np.float64).mean()))


def _joined(past: Samples, pieces: Sequence[Samples]) -> Iterator[Samples]:
    """Yield pieces, the first `[fade]` samples of each mixed with the last ones of the one before; the last fades out.

    The first piece is mixed with `past`, `[fade]`.
    """
    # of equal power: sounds that have nothing to do with each other keep their level
    angle = (np.arange(len(past), dtype=np.float32) + 0.5) / max(1, len(past)) * np.float32(math.pi / 2)
    for piece in pieces:
        yield piece[: len(past)] * np.sin(angle) + past * np.cos(angle)
        yield piece[len(past) : len(piece) - len(past)]
        past = piece[len(piece) - len(past) :]
    yield past * np.cos(angle)


def _made(clip: Clip, samples: Samples, key: str) -> Clip:
    """Return a clip with other samples, without what is known of the old ones."""
    clipped = samples.astype(np.float32).clip(-1, 1)
    digest = content_digest(clipped, clip.rate_hz)
    return dataclasses.replace(
        clip, key=key, samples=clipped, digest=digest, text=None, phones=None, reference=None, prompt_seconds=None
    )


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
