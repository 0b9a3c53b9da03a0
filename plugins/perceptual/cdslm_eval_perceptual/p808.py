"""DNSMOS P.808: our own log-mel front end, and the network in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from cdslm_eval.core.audio import Samples
from cdslm_eval_perceptual.mel import Floats, decibels, mel_filterbank
from cdslm_eval_perceptual.windows import BLOCK, RATE_HZ, WINDOW, Windows

__all__ = ["log_mels", "p808"]

MELS = 120
FFT = 321
FRAMES = 900
_HEARD = WINDOW - BLOCK  # the published code hands over the window without its last block
_BATCH = 8
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)


def log_mels(windows: Windows) -> Floats:
    """Return the features of each different window, float32 `[windows, 900 frames, 120 mels]`.

    Windows overlap by eight seconds, so frames are computed once; only the first and the last frame of a window reach
    beyond it into zeros, and are its own.

    Source: `librosa.feature.melspectrogram(sr=16000, n_fft=321, hop_length=160, n_mels=120)`, then
    `(power_to_db(ref=max) + 40) / 40`, as the published code has it.
    """
    samples = windows.samples
    margin = FFT // 2
    shared = _mel_power(sliding_window_view(samples, FFT)[::BLOCK])  # frame i is centred on block i + 1
    features = np.empty((len(windows.starts), FRAMES, MELS), np.float32)
    for row, start in enumerate(windows.starts):
        own = np.pad(samples[start * BLOCK : start * BLOCK + _HEARD], margin)
        ends = np.stack([own[:FFT], own[(FRAMES - 1) * BLOCK :][:FFT]])
        first, last = _mel_power(ends)
        power = np.concatenate([first[None], shared[start : start + FRAMES - 2], last[None]])
        features[row] = (decibels(power, float(power.max()), 1e-10) + 40.0) / 40.0
    return features


def p808(session: Any, windows: Windows) -> Floats:
    """Return the P.808 MOS of each different window, float32 `[windows]`.

    Args:
        session: An onnxruntime session of `model_v8.onnx`.
        windows: As `scored_windows` returns them.
    """
    features = log_mels(windows)
    parts = [
        session.run(None, {"input_1": features[at : at + _BATCH]})[0][:, 0] for at in range(0, len(features), _BATCH)
    ]
    return np.concatenate(parts)


def _mel_power(frames: Samples) -> Floats:
    """Return the mel power of frames `[frames, 321]`, float32 `[frames, 120]`."""
    spectrum = scipy.fft.rfft(frames * _HANN, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mels: Floats = power @ mel_filterbank(RATE_HZ, FFT, MELS, RATE_HZ / 2).T
    return mels
