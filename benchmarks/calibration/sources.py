"""Sources of known truth: phones and vectors of speakers that differ from each other."""

from __future__ import annotations

import numpy as np

from cdslm_eval.stats.jsd import PhoneSequences

__all__ = ["KINDS", "SpeakerSource", "divergences", "speaker_vectors"]

KINDS = 38
_BURN_IN = 10
_SYMBOLS = tuple(str(code) for code in range(KINDS))


class SpeakerSource:
    """First-order Markov chain over 38 phones, its rows tilted per speaker: clips of one speaker are alike.

    Args:
        rng: Draws the chain, which all clips of the source share.
        tilt: Standard deviation of the log-normal tilt of a speaker.
    """

    def __init__(self, rng: np.random.Generator, tilt: float = 0.5) -> None:
        self.tilt = tilt
        self.rows = rng.dirichlet(np.full(KINDS, 0.3) + 2.0 / np.arange(1, KINDS + 1), KINDS)

    def mixed(self, other: SpeakerSource, share: float) -> SpeakerSource:
        """Return the source whose transitions are this one's, with `share` of the other's."""
        source = SpeakerSource.__new__(SpeakerSource)
        source.tilt, source.rows = self.tilt, (1 - share) * self.rows + share * other.rows
        return source

    def clips(
        self, speakers: int, clips_each: int, phones: int, rng: np.random.Generator
    ) -> tuple[PhoneSequences, np.ndarray]:
        """Return clips of `phones` phones and the speaker of each."""
        return self.clips_of(np.full((speakers, clips_each), phones), rng)

    def clips_of(self, lengths: np.ndarray, rng: np.random.Generator) -> tuple[PhoneSequences, np.ndarray]:
        """Return clips with the lengths `[speakers, clips of each]`, and the speaker of each."""
        codes, longest = [], int(lengths.max())
        for own_lengths in lengths:
            cumulative = np.cumsum(self._speaker(rng), axis=1)
            state = rng.integers(0, KINDS, len(own_lengths))
            drawn = np.empty((len(own_lengths), longest), np.int32)
            for step in range(-_BURN_IN, longest):
                uniform = rng.random(len(own_lengths))[:, None]
                state = np.minimum((cumulative[state] < uniform).sum(axis=1), KINDS - 1)
                if step >= 0:
                    drawn[:, step] = state
            codes += [row[:length] for row, length in zip(drawn, own_lengths, strict=True)]
        offsets = np.concatenate([[0], np.cumsum(lengths.ravel())]).astype(np.int64)
        owners = np.repeat(np.arange(len(lengths)), lengths.shape[1])
        return PhoneSequences(np.concatenate(codes), offsets, _SYMBOLS), owners

    def law(self, order: int, speakers: int = 1500) -> np.ndarray:
        """Return the probability of every n-gram, `[38 ** order]`, averaged over many speakers."""
        rng, total = np.random.default_rng(12), np.zeros(KINDS**order)
        for _ in range(speakers if self.tilt else 1):
            rows = self._speaker(rng)
            grams = np.linalg.matrix_power(rows.T, 64)[:, 0]
            for _ in range(order - 1):
                grams = (grams.reshape(-1, KINDS)[:, :, None] * rows).ravel()
            total += grams
        return total / total.sum()

    def _speaker(self, rng: np.random.Generator) -> np.ndarray:
        rows = self.rows * np.exp(self.tilt * rng.standard_normal(KINDS))
        speaker: np.ndarray = rows / rows.sum(axis=1, keepdims=True)
        return speaker


def divergences(a: SpeakerSource, b: SpeakerSource, orders: tuple[int, ...]) -> dict[int, float]:
    """Return the true divergence of two sources for each order, in bits."""
    from scipy.spatial.distance import jensenshannon

    return {order: float(jensenshannon(a.law(order), b.law(order), base=2) ** 2) for order in orders}


def speaker_vectors(
    speakers: int, clips_each: int, dimensions: int, rng: np.random.Generator, share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of unit variance, `share` of which is their speaker's, and the speaker of each."""
    own = rng.standard_normal((speakers, dimensions)) * np.sqrt(share)
    owners = np.repeat(np.arange(speakers), clips_each)
    return own[owners] + np.sqrt(1 - share) * rng.standard_normal((len(owners), dimensions)), owners
