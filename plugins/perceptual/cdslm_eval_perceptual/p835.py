"""DNSMOS P.835, cut in two so that overlapping windows share the costly half.

The network is a stack of convolutions that ends in a global maximum. Nine tenths of its work are the four at full
resolution, before anything is pooled; there a window that starts a second later sees the same thing shifted by 100
frames, but for four frames at either end, where convolutions meet the window's edge. So the lower half runs once over
everything that is scored, and on eight frames at each edge of each window; the upper half runs per window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cdslm_eval.core.audio import Samples
from cdslm_eval.plugin.models import onnx_session
from cdslm_eval_perceptual.mel import Floats
from cdslm_eval_perceptual.windows import BLOCK, WINDOW_BLOCKS, Windows

__all__ = ["P835Network"]

FRAME = 320
FRAMES = WINDOW_BLOCKS - 1
_HALO = 4  # four 3x3 convolutions: this many frames at an edge know that it is one
_CHUNK = 256
_BATCH = 4
_FRAMES_IN = ("adjusted_input7", "adjusted_input8")
_POOLED = "mos_estimator_logpow/conv2d_3/Relu:0_pooling0"
_SCORES = "Identity:0"
_WIDTH, _BINS = 32, 80


class P835Network:
    """The two halves of the network, each an onnxruntime session on one thread.

    Args:
        path: `sig_bak_ovr.onnx`, plain or personalised.
    """

    def __init__(self, path: Path) -> None:
        lower, upper = _halves(path)
        self._lower, self._upper = onnx_session(lower), onnx_session(upper)

    def scores(self, windows: Windows) -> Floats:
        """Return raw SIG, BAK, OVRL of each different window, float32 `[windows, 3]`."""
        frames = sliding_window_view(windows.samples, FRAME)[::BLOCK]
        shared, edges = self._shared(windows, frames), self._edges(windows, frames)
        half = _HALO // 2
        inner = np.arange(half, FRAMES // 2 - half)
        scores = []
        for at in range(0, len(windows.starts), _BATCH):
            pooled = np.stack(
                [
                    np.concatenate([left[:half], shared[(start // 2 + inner) % len(shared)], right[-half:]])
                    for start, left, right in zip(
                        windows.starts[at : at + _BATCH], *edges[:, at : at + _BATCH], strict=True
                    )
                ]
            )
            scores.append(self._upper.run([_SCORES], {_POOLED: pooled.transpose(0, 2, 1, 3)})[0])
        return np.concatenate(scores)

    def _shared(self, windows: Windows, frames: Samples) -> Floats:
        """Return the pooled lower half over all frames, or over one period of a repeated clip, `[frames / 2, 32, 80]`.

        The first and last frames of what does not repeat come out wrong; no window uses them.
        """
        repeats = windows.period < len(windows.samples) and windows.period % (2 * BLOCK) == 0
        count = min(len(frames), windows.period // BLOCK) if repeats else len(frames)
        parts = []
        for at in range(0, count, _CHUNK):
            end = min(at + _CHUNK, count + count % 2)
            pooled = self._low(frames[np.arange(at - _HALO, end + _HALO) % count][None])[0]
            parts.append(pooled[_HALO // 2 : -_HALO // 2])
        return np.concatenate(parts)

    def _edges(self, windows: Windows, frames: Samples) -> Floats:
        """Return the pooled lower half at both edges of each window, `[2, windows, 4, 32, 80]`."""
        starts = np.array(windows.starts)
        strips = np.concatenate([starts, starts + FRAMES - 2 * _HALO])[:, None] + np.arange(2 * _HALO)
        return self._low(frames[strips]).reshape(2, len(starts), _HALO, _WIDTH, _BINS)

    def _low(self, frames: Samples) -> Floats:
        """Return the pooled lower half of frames `[rows, frames, 320]`, `[rows, frames / 2, 32, 80]`."""
        columns = np.ascontiguousarray(frames.transpose(0, 2, 1))
        pooled = self._lower.run([_POOLED], dict.fromkeys(_FRAMES_IN, columns))[0]
        return np.asarray(pooled.transpose(0, 2, 1, 3))


def _halves(path: Path) -> tuple[bytes, bytes]:
    """Return the network up to its first pooling, from framed samples, and the rest, as two models."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(path))

    def cut(inputs: dict[str, list[Any]], output: str, shape: list[Any]) -> bytes:
        """Return the part of the network between some of its values."""
        wanted, nodes = {output}, []
        for node in reversed(model.graph.node):
            if wanted & set(node.output):
                nodes.append(node)
                wanted |= set(node.input) - set(inputs)
        graph = helper.make_graph(
            nodes[::-1],
            "part",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            [one for one in model.graph.initializer if one.name in wanted],
        )
        part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        return bytes(part.SerializeToString())

    columns = ["rows", FRAME, "frames"]
    return (
        cut(dict.fromkeys(_FRAMES_IN, columns), _POOLED, ["rows", _WIDTH, "pooled", _BINS]),
        cut({_POOLED: ["rows", _WIDTH, FRAMES // 2, _BINS]}, _SCORES, ["rows", 3]),
    )
