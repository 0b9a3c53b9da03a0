"""Derived clips: clips of a set played backwards or put through a channel, with a digest of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.channel import RATE_HZ, Channel

__all__ = ["Derivation"]

_VERSION = 1
"""Bumped by every change that moves a sample of a derived clip."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """What is done to the clips of a set; nothing where the channel is neutral and they are played forwards.

    Attributes:
        channel: The channel that clips are put through, at 16 kHz.
        backwards: Whether they are played backwards first.
    """

    channel: Channel
    backwards: bool = False

    @property
    def ident(self) -> str:
        """Identity of the derivation: a digest of every parameter; "" where it changes nothing."""
        if self.channel.is_neutral and not self.backwards:
            return ""
        channel = self.channel
        text = json.dumps(
            [
                _VERSION,
                self.backwards,
                channel.bandwidth_hz,
                channel.wet,
                channel.gain_db.tolist(),
                channel.noise_db.tolist(),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def digest(self, digest: str) -> str:
        """Return the digest of a derived clip, from that of the clip."""
        return hashlib.sha256(f"{digest} {self.ident}".encode()).hexdigest() if self.ident else digest

    def apply(self, clip: Clip) -> Clip:
        """Return the derived clip."""
        if not self.ident or not np.isfinite(clip.samples).all():
            return clip
        at_rate = dataclasses.replace(clip, reference=None).at_rate(RATE_HZ)
        samples = np.ascontiguousarray(at_rate.samples[::-1]) if self.backwards else at_rate.samples
        return dataclasses.replace(
            at_rate, samples=self.channel.apply(samples), digest=self.digest(clip.digest), reference=clip.reference
        )
