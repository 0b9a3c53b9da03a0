"""Voice activity by the Silero network inside the `silero-vad` wheel, and cuts of long clips in its pauses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples
from cdslm_eval.plugin.models.files import distribution_file

__all__ = [
    "SILERO_INSTALL",
    "SILERO_SHA256",
    "VOICE_FRAME",
    "onnx_session",
    "pause_cuts",
    "silero_path",
    "speech_probabilities",
]

SILERO_SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
SILERO_INSTALL = "pip install --no-deps silero-vad==6.2.3"
VOICE_FRAME = 512
"""Samples of a frame, 32 ms; the network accepts no other length at 16 kHz."""
_RATE_HZ = 16_000
_CONTEXT = 64  # samples of the frame before, which the network sees again
_STATE = (2, 1, 128)
_PAUSE = 0.35  # under this probability the published detector ends speech


def silero_path() -> Path:
    """Return the verified path of the network; the code of silero-vad, which needs torch, is not imported.

    Raises:
        UsageError: silero-vad is not installed.
        EvalError: Its network is another one.
    """
    return distribution_file(
        "silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", SILERO_SHA256, install=SILERO_INSTALL
    )


def onnx_session(model: bytes | str) -> Any:
    """Return an onnxruntime session on one thread of the CPU: worker processes are what runs in parallel.

    Args:
        model: Path of an ONNX file, or its content.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def speech_probabilities(session: Any, samples: Samples) -> npt.NDArray[np.float64]:
    """Return the probability of speech in each frame, `[frames]`; the last frame is padded with zeros.

    Args:
        session: onnxruntime session of the network.
        samples: float32 `[samples]` at 16 kHz.
    """
    frames = -(-len(samples) // VOICE_FRAME)
    padded = np.zeros(_CONTEXT + frames * VOICE_FRAME, np.float32)
    padded[_CONTEXT : _CONTEXT + len(samples)] = samples
    state, rate = np.zeros(_STATE, np.float32), np.array(_RATE_HZ, np.int64)
    probabilities = np.empty(frames)
    for index in range(frames):
        window = padded[None, index * VOICE_FRAME : (index + 1) * VOICE_FRAME + _CONTEXT]
        output, state = session.run(None, {"input": window, "state": state, "sr": rate})
        probabilities[index] = output[0, 0]
    return probabilities


def pause_cuts(probabilities: npt.NDArray[np.float64], samples: int, longest: int) -> list[int]:
    """Return the bounds of pieces of a clip, cut in the middle of the longest pause within reach of each.

    A piece is at least half as long as `longest`, but for the last; where nobody pauses it is cut where speech is least
    probable.

    Args:
        probabilities: Probability of speech per frame, `[frames]`.
        samples: Length of the clip in samples.
        longest: Most samples of a piece.

    Returns:
        0, the cuts, and `samples`, ascending.

    Example:
        >>> speech = np.repeat([0.9, 0.1, 0.9], [30, 4, 20])
        >>> [bound // 512 for bound in pause_cuts(speech, 54 * 512, 40 * 512)]
        [0, 32, 54]
    """
    bounds = [0]
    while samples - bounds[-1] > longest:
        first, end = (bounds[-1] + longest // 2) // VOICE_FRAME, (bounds[-1] + longest) // VOICE_FRAME
        reach = probabilities[first:end]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], reach < _PAUSE, [False]]).astype(np.int8)))
        starts, ends = edges[::2], edges[1::2]
        if len(starts):
            pause = int(np.argmax(ends - starts))
            frame = first + int(starts[pause] + ends[pause]) // 2
        else:
            frame = first + int(np.argmin(reach))
        # an empty piece would repeat for ever
        bounds.append(max(frame * VOICE_FRAME, bounds[-1] + 1))
    return [*bounds, samples]
