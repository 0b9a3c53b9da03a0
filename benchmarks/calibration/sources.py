"""Sources of known truth: phones and vectors of speakers that differ from each other."""

from __future__ import annotations

import numpy as np

from cdslm_eval.stats.jsd import PhoneSequences

__all__ = ["KINDS", "SpeakerSource", "speaker_vectors"]

KINDS = 38


class SpeakerSource:
    """First-order Markov chain over 38 phones, its rows tilted per speaker: clips of one speaker are alike.

    Args:
        rng: Draws the chain, which all clips of the source share.
        tilt: Standard deviation of the log-normal tilt of a speaker.
    """

    def __init__(self, rng: np.random.Generator, tilt: float = 0.5) -> None:
        self.tilt = tilt
        self.rows = rng.dirichlet(np.full(KINDS, 0.3) + 2.0 / np.arange(1, KINDS + 1), KINDS)

    def clips(
        self, speakers: int, clips_each: int, phones: int, rng: np.random.Generator
    ) -> tuple[PhoneSequences, np.ndarray]:
        """Return clips and the speaker of each."""
        lists, owners = [], []
        for speaker in range(speakers):
            rows = self.rows * np.exp(self.tilt * rng.standard_normal(KINDS))
            cumulative = np.cumsum(rows / rows.sum(axis=1, keepdims=True), axis=1)
            state = rng.integers(0, KINDS, clips_each)
            codes = np.empty((clips_each, phones), np.int64)
            for step in range(-10, phones):
                uniform = rng.random(clips_each)[:, None]
                state = np.minimum((cumulative[state] < uniform).sum(axis=1), KINDS - 1)
                if step >= 0:
                    codes[:, step] = state
            lists += [[str(code) for code in row] for row in codes]
            owners += [speaker] * clips_each
        return PhoneSequences.from_lists(lists), np.array(owners)


def speaker_vectors(
    speakers: int, clips_each: int, dimensions: int, rng: np.random.Generator, share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of unit variance, `share` of which is their speaker's, and the speaker of each."""
    own = rng.standard_normal((speakers, dimensions)) * np.sqrt(share)
    owners = np.repeat(np.arange(speakers), clips_each)
    return own[owners] + np.sqrt(1 - share) * rng.standard_normal((len(owners), dimensions)), owners
