"""NISQA's input: 48 mel levels a frame, in overlapping segments of 15 frames, at whatever rate the clip has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view

from cdslm_eval.core.audio import Samples
from cdslm_eval_perceptual.mel import Floats, decibels, mel_filterbank

__all__ = ["segments", "too_far"]

_FRAMES_AT_ONCE = 1024
_AMPLITUDE_FLOOR = 1e-4


def too_far(samples: Samples, rate_hz: int, args: Mapping[str, Any]) -> str:
    """Return why a clip lies outside what the network takes, or ""."""
    if int(rate_hz * args["ms_win_length"]) > args["ms_n_fft"]:
        return f"a rate of {rate_hz} Hz; NISQA takes up to {int(args['ms_n_fft'] / args['ms_win_length'])} Hz"
    hop = int(rate_hz * args["ms_hop_length"])
    count = 1 + len(samples) // hop - (args["ms_seg_length"] - 1)
    if count < 1:
        return f"under {args['ms_seg_length'] * args['ms_hop_length']:g} s"
    most = args["ms_max_segments"]
    if -(-count // args["ms_seg_hop_length"]) > most:
        return f"over {most * args['ms_seg_hop_length'] * args['ms_hop_length']:g} s, the longest that NISQA takes"
    return ""


def segments(samples: Samples, rate_hz: int, args: Mapping[str, Any]) -> Floats:
    """Return a clip as the network wants it, float32 `[segments, mels, frames]`.

    Args:
        samples: float32 `[samples]`.
        rate_hz: Their rate; filters above half of it stay empty, as in training.
        args: The settings in the checkpoint.

    Source: `librosa.feature.melspectrogram` with `power=1`, then `amplitude_to_db(ref=1, amin=1e-4)`, as the published
    code has it.
    """
    fft, window = args["ms_n_fft"], int(rate_hz * args["ms_win_length"])
    hop = int(rate_hz * args["ms_hop_length"])
    # only the middle of a frame of `fft` samples lies under the window; where in the frame moves no magnitude
    before = fft // 2 - (fft - window) // 2
    padded = np.pad(samples, (before, window), mode="reflect")
    frames = sliding_window_view(padded, window)[::hop][: 1 + len(samples) // hop]
    hann = scipy.signal.get_window("hann", window).astype(np.float32)
    bank = mel_filterbank(rate_hz, fft, args["ms_n_mels"], float(args["ms_fmax"]))
    amplitude = np.concatenate(
        [
            np.abs(scipy.fft.rfft(frames[at : at + _FRAMES_AT_ONCE] * hann, fft, axis=1)) @ bank.T
            for at in range(0, len(frames), _FRAMES_AT_ONCE)
        ]
    )
    level = decibels(np.square(amplitude), 1.0, _AMPLITUDE_FLOOR**2)
    cut = sliding_window_view(level, args["ms_seg_length"], axis=0)[:: args["ms_seg_hop_length"]]
    return np.ascontiguousarray(cut)
