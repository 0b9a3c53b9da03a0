"""Matches a channel: finds what gives clips the spectrum, noise, band and reverberation of another set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.channel import RATE_HZ, Channel, ChannelProfile, decibels, pooled, profile

__all__ = ["match_channel"]

Floats = npt.NDArray[np.float64]

_MAX_GAIN_DB = 20.0
_MIN_BAND_STEP_HZ = 400.0
_MATCH_S = 6.0
_MATCH_CLIPS = 12
_WETS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_LOUD_DB, _SLIGHT_DB, _SLIGHT_WET = 40.0, 3.0, 0.03


def match_channel(target: ChannelProfile, clips: Sequence[Samples]) -> Channel:
    """Return the channel that gives clips the profile of another set, found step by step on a few of them.

    Args:
        target: Profile of the set whose channel is wanted.
        clips: Clips at 16 kHz that are to be put through it; six seconds of twelve of them are tried.

    Returns:
        The neutral channel where the profiles differ by no more than 3 dB of colour, noise 6 dB under what is there
        and a hint of reverberation. Else a channel in rounded steps: without reverberation where the clips decay as
        slowly as the target already, without a band limit where they are as narrow, without noise where as noisy.
    """
    short = [clip[: round(_MATCH_S * RATE_HZ)] for clip in clips]
    tried = [clip for clip in short if profile(clip) is not None][:_MATCH_CLIPS]
    plain = Channel.neutral()
    if not tried:
        return plain
    own = _through(plain, tried)
    if target.bandwidth_hz < own.bandwidth_hz - _MIN_BAND_STEP_HZ:
        plain = replace(plain, bandwidth_hz=target.bandwidth_hz)
    # noise fills the gaps after sounds as reverberation does: each candidate gets its noise before decays are compared
    best, least = plain, np.inf
    for wet in _WETS:
        candidate = _coloured(replace(plain, wet=wet), target, tried)
        error = abs(_through(candidate, tried).decay_db_s - target.decay_db_s)
        if error >= least:
            break
        best, least = candidate, error
    return Channel.neutral() if _is_slight(best, own) else best.rounded()


def _is_slight(channel: Channel, own: ChannelProfile) -> bool:
    """Return whether a channel is no more than what sentences and voices make of a profile.

    Such a channel would put the reference through a colour of what the system says.

    Args:
        channel: The match.
        own: Profile of the clips that it was matched on.
    """
    loud = own.spectrum_db > own.spectrum_db.max() - _LOUD_DB
    colour_db = float(np.sqrt(np.mean(channel.gain_db[loud] ** 2)))
    added, noise = (float(np.sum(10 ** (power / 10))) for power in (channel.noise_db, own.noise_db))
    dry = channel.bandwidth_hz is None and channel.wet <= _SLIGHT_WET
    return dry and colour_db < _SLIGHT_DB and added < noise / 4


def _coloured(channel: Channel, target: ChannelProfile, clips: Sequence[Samples]) -> Channel:
    """Return a channel with the gains and the noise that bring the clips' spectrum and noise floor to the target's."""
    own = _through(channel, clips)
    speech = _less_noise(target.spectrum_db, target.noise_db) - _less_noise(own.spectrum_db, own.noise_db)
    gain = np.clip(speech, -_MAX_GAIN_DB, _MAX_GAIN_DB)
    channel = replace(channel, gain_db=gain - np.average(gain, weights=10 ** (own.spectrum_db / 10)))
    own = _through(channel, clips)
    lacking = 10 ** (target.noise_db / 10) - 10 ** (own.noise_db / 10)
    return replace(channel, noise_db=decibels(np.maximum(lacking, 0.0)))


def _through(channel: Channel, clips: Sequence[Samples]) -> ChannelProfile:
    profiles = [profile(channel.apply(clip)) for clip in clips]
    return pooled([profile for profile in profiles if profile is not None])


def _less_noise(spectrum_db: Floats, noise_db: Floats) -> Floats:
    """Return the power of speech in each band; where noise covers it, what hides 10 dB under the noise."""
    whole, noise = 10 ** (spectrum_db / 10), 10 ** (noise_db / 10)
    return decibels(np.maximum(whole - noise, 0.1 * noise))
