"""Writes a trained network as ONNX: samples in, log-probabilities out, its vocabulary in the metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cdslm_eval_phones.network import METADATA_KEY
from cdslm_eval_phones.train.model import FLOOR, HOP, STRIDE, PhoneNet

__all__ = ["write_onnx"]


def write_onnx(net: PhoneNet, path: Path, symbols: Sequence[str], languages: Sequence[str]) -> None:
    """Write the network; next to it, `PATH.vocab.json` holds the symbols for other programs.

    Normalisations are folded into the convolutions before them, so that the file holds nothing but convolutions.

    Args:
        net: The network.
        path: The file.
        symbols: What its outputs stand for; the blank first.
        languages: Language tags of its training data.
    """
    graph = _Graph()
    x = graph.add("Unsqueeze", "samples", graph.tensor("axis", np.array([1])))
    spectrum = graph.add("Conv", x, graph.tensor("fourier", _array(net.fourier)), strides=[HOP])
    power = graph.add("Mul", spectrum, spectrum)
    mels = graph.add("Conv", power, graph.tensor("mels", _array(net.mels)))
    logs = graph.add("Log", graph.add("Add", mels, graph.tensor("floor", np.float32(FLOOR))))
    x = graph.add("Sub", logs, graph.add("ReduceMean", logs, axes=[2], keepdims=1))
    x = graph.add(
        "Relu", graph.add("Conv", x, *graph.folded("front", net.front, net.front_norm), strides=[STRIDE], pads=[2, 2])
    )
    for number, (convolution, norm, dilation) in enumerate(
        zip(net.convolutions, net.norms, net.dilations, strict=True)
    ):
        weights = graph.folded(f"block{number}", convolution, norm)
        y = graph.add("Conv", x, *weights, dilations=[dilation], pads=[dilation, dilation])
        x = graph.add("Add", x, graph.add("Relu", y))
    head = (graph.tensor("head", _array(net.head.weight)), graph.tensor("head bias", _array(net.head.bias)))
    scores = graph.add("Transpose", graph.add("Conv", x, *head), perm=[0, 2, 1])
    graph.add("LogSoftmax", scores, axis=-1, output="scores")
    model = graph.model(len(symbols))
    helper.set_model_props(model, {METADATA_KEY: json.dumps({"symbols": list(symbols), "languages": list(languages)})})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    onnx.save(model, half)
    half.replace(path)
    path.with_suffix(".vocab.json").write_text(json.dumps(list(symbols), ensure_ascii=False) + "\n", encoding="utf-8")


class _Graph:
    """Nodes and weights of a graph in order; each node's output is named after its number."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def tensor(self, name: str, value: Any) -> str:
        self._weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def folded(self, name: str, convolution: Any, norm: Any) -> tuple[str, str]:
        """Return the weights and bias of a convolution with the affine map of a batch normalisation in them."""
        scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
        weights = _array(convolution.weight) * scale[:, None, None]
        bias = (_array(convolution.bias) - _array(norm.running_mean)) * scale + _array(norm.bias)
        return self.tensor(name, weights), self.tensor(f"{name} bias", bias)

    def model(self, symbols: int) -> Any:
        graph = helper.make_graph(
            self._nodes,
            "phones",
            [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "length"])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "frames", symbols])],
            self._weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()
