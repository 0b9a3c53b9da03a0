"""`Scorer`: the optional door of a generator that rates given speech: its likelihood, or a bound of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cdslm_eval.core.audio import Clip

__all__ = ["Score", "Scorer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How likely a model finds a clip; higher is more likely.

    Attributes:
        total: Of the scored part of the clip.
        per_second: The same over its seconds.
        frames: Frames or tokens that were scored.
        std_error: Standard error of `total` where it is sampled; 0 where it is exact.
        kind: "nats" (an exact log-probability), "bound" (a lower bound of one), "gain" (how much the context adds to a
            bound: a difference of two, and no bound itself) or "denoising" (minus a denoising error, which orders clips
            and is no probability). Scores of different kinds are never compared.
        levels: Parts of `total` by noise level, the noisiest first, where the model has noise levels.
        edges: Log-SNR at the borders of `levels`, one more than these.
    """

    total: float
    per_second: float
    frames: int
    std_error: float
    kind: Literal["nats", "bound", "gain", "denoising"]
    levels: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()


class Scorer(ABC):
    """A generator that scores clips as well derives from this class next to `Generator`."""

    @abstractmethod
    def scores(self, clips: Sequence[Clip], *, context_s: float = 0.0, seed: int = 0) -> Iterator[Score]:
        """Yield the score of each clip, in order.

        Args:
            clips: Speech of any rate.
            context_s: Seconds at the beginning of each clip that are its context: they condition the rest, which alone
                is scored. What two clips share must not decide between them.
            seed: Keys the random numbers of scores that are sampled: clips of one call share them.

        Raises:
            UsageError: A clip is no longer than its context.
        """
