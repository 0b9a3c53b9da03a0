"""A CTC network as an ONNX file with its vocabulary: where both lie, what they must hold, and one forward pass."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.models import distribution_file, sha256_of

__all__ = [
    "METADATA_KEY",
    "Network",
    "Scores",
    "Vocabulary",
    "bundled",
    "bundled_vocabulary",
    "digest",
    "metadata_vocabulary",
    "read_vocabulary",
    "session",
]

_REQUIREMENT = "hama==1.3.10"
_INSTALL = f"pip install --no-deps {_REQUIREMENT}"
_KNOWN = {
    "hama/assets/asr_waveform_fp16.onnx": "a884b5ac55f8bbc00673e8cf6d2dd601aa76e5031dd85cf3de2f25b5987cd59a",
    "hama/assets/g2p_vocab.json": "520d19e4e6ae58658eed53594e0feab8ea8e1b4b04a7746e25e50c16c29b91bf",
}
_MODEL, _SYMBOLS = _KNOWN
_CUDA = "CUDAExecutionProvider"
_INSTALL_CUDA = "Install: pip install onnxruntime-gpu, with the CUDA and cuDNN that it names; Use: --device cpu"
_GPU_BATCH = 16
_BLANKS = ("<blank>", "<blk>", "<pad>", "[PAD]", "<eps>", "_")
Scores = np.ndarray[Any, np.dtype[np.float32]]
METADATA_KEY = "cdslm_phones"
"""Key of the ONNX metadata under which `cdslm-phones train` keeps the vocabulary and the languages, as JSON."""


@dataclass(frozen=True)
class Vocabulary:
    """What a network's outputs stand for.

    Attributes:
        symbols: Name of each output.
        blank: Index of the CTC blank.
        languages: Language tags of its training data; empty where nobody declared them.
    """

    symbols: tuple[str, ...]
    blank: int
    languages: tuple[str, ...] = ()


def bundled() -> Path:
    """Return the ONNX file of the installed distribution hama, whose code is not imported.

    Raises:
        EvalError: hama is not installed, or its file is not the known one.
    """
    return _installed(_MODEL)


def bundled_vocabulary() -> Vocabulary:
    """Return the vocabulary of the bundled network: hama's IPA symbols, a word boundary and the blank.

    Raises:
        EvalError: hama is not installed, or its file is not the known one.
    """
    symbols = json.loads(_installed(_SYMBOLS).read_text(encoding="utf-8"))["decoder"]
    # the network has two more outputs than the list, which belongs to hama's text-to-phone model
    return Vocabulary((*symbols, "<wb>", "<blank>"), len(symbols) + 1, ("en",))


def read_vocabulary(path: Path) -> Vocabulary:
    """Return the vocabulary in a file: a JSON list, a JSON object symbol -> index, or text with one symbol per line.

    Args:
        path: The file; one of its symbols must be the blank.

    Raises:
        EvalError: The file is unreadable, or has no blank.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise EvalError(f"{path}: not readable as a vocabulary ({error})") from error
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda symbol: value[symbol])
        if [value[symbol] for symbol in ordered] != list(range(len(ordered))):
            raise EvalError(f"{path}: the indices of its {len(ordered)} symbols are not 0..{len(ordered) - 1}")
        value = ordered
    if not isinstance(value, list) or not all(isinstance(symbol, str) for symbol in value):
        raise EvalError(f"{path}: holds no list of symbols; Use: a JSON list, a JSON object, or one symbol per line")
    return _vocabulary([symbol.rstrip("\r\n") for symbol in value], str(path))


def metadata_vocabulary(model: Path) -> Vocabulary:
    """Return the vocabulary that a network trained by `cdslm-phones train` carries in its metadata.

    Raises:
        EvalError: The file is no ONNX model, or carries none.
    """
    held = json.loads(session(model, "cpu").get_modelmeta().custom_metadata_map.get(METADATA_KEY, "{}"))
    if "symbols" not in held:
        raise EvalError(f"{model}: carries no vocabulary; Use: phone-ctc:model={model},vocab=FILE")
    return _vocabulary(held["symbols"], str(model), tuple(held.get("languages", ())))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises:
        EvalError: The file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise EvalError(f"{path}: cannot be read ({error.strerror})") from error


class Network:
    """One onnxruntime session on one thread, and what goes in and out.

    Args:
        model: ONNX file; takes samples at 16 kHz, float32 `[batch, samples]`, and, if it has a second input, their
            lengths; its first output of three axes is `[batch, frames, symbols]`.
        vocabulary: What the outputs stand for.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EvalError: No such provider, no such model, or one of another form.

    Attributes:
        batch: Most stretches in one forward pass; 1 on a CPU, and where the model fixes the size of its batches.
    """

    def __init__(self, model: Path, vocabulary: Vocabulary, device: str) -> None:
        self._session = session(model, device)
        self._vocabulary = vocabulary
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        scores = next((output for output in outputs if len(output.shape) == 3), None)
        if len(inputs[0].shape) != 2 or len(inputs) > 2 or scores is None:
            raise EvalError(
                f"{model}: takes {[node.shape for node in inputs]} and gives {[node.shape for node in outputs]}; "
                "needs samples [batch, samples] (and lengths [batch]) in, [batch, frames, symbols] out"
            )
        self._inputs, self._output = inputs, scores.name
        free = not isinstance(inputs[0].shape[0], int)
        self.batch = _GPU_BATCH if free and _CUDA in self._session.get_providers() else 1
        width = scores.shape[-1]
        if isinstance(width, int) and width != len(vocabulary.symbols):
            raise EvalError(f"{model}: has {width} outputs, its vocabulary {len(vocabulary.symbols)} symbols")

    def scores(self, stretches: Sequence[Samples]) -> Iterator[Scores]:
        """Yield the scores (log-probabilities or logits) of stretches of audio, float32 `[frames, symbols]` each.

        Only stretches of one length share a batch: convolutions and global averages of such networks see padding. On a
        CPU each goes alone, which is faster on one thread.

        Args:
            stretches: float32 `[samples]` each.
        """
        batched: dict[int, Scores] = {}
        for numbers in self._batches(stretches):
            batch = np.stack([stretches[number] for number in numbers])
            feeds: dict[str, Any] = {self._inputs[0].name: batch}
            if len(self._inputs) == 2:
                kind = np.int32 if "int32" in self._inputs[1].type else np.int64
                feeds[self._inputs[1].name] = np.full(len(batch), batch.shape[1], kind)
            scores = np.asarray(self._session.run([self._output], feeds)[0], np.float32)
            batched.update(zip(numbers, scores, strict=True))
        yield from (batched[number] for number in range(len(stretches)))

    def _batches(self, stretches: Sequence[Samples]) -> Iterator[list[int]]:
        """Yield the numbers of stretches of one length, at most `batch` of them."""
        order = sorted(range(len(stretches)), key=lambda number: len(stretches[number]))
        for _, group in groupby(order, key=lambda number: len(stretches[number])):
            numbers = list(group)
            yield from (numbers[start : start + self.batch] for start in range(0, len(numbers), self.batch))


def _vocabulary(symbols: list[str], where: str, languages: tuple[str, ...] = ()) -> Vocabulary:
    blank = next((symbols.index(name) for name in _BLANKS if name in symbols), None)
    if blank is None:
        raise EvalError(f"{where}: has no blank symbol; Use: one of {', '.join(_BLANKS)}")
    return Vocabulary(tuple(symbols), blank, languages)


def session(model: Path, device: str) -> Any:
    """Return an onnxruntime session on one thread: worker processes are what runs in parallel.

    Args:
        model: ONNX file.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError, EvalError: No such device or provider, or no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    kind, _, number = device.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (number and not (kind == "cuda" and number.isdecimal())):
        raise EvalError(f"no device {device!r}; Use: auto, cpu, cuda or cuda:N")
    available = _CUDA in onnxruntime.get_available_providers()
    if kind == "cuda" and not available:
        raise EvalError(f"{device}: onnxruntime has no CUDA provider here; {_INSTALL_CUDA}")
    providers: list[Any] = ["CPUExecutionProvider"]
    if available and kind != "cpu":
        providers.insert(0, (_CUDA, {"device_id": int(number or 0)}))
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        raise EvalError(f"{model}: onnxruntime cannot load it ({str(error).splitlines()[0]})") from error
    # where CUDA's libraries or the GPU are missing onnxruntime takes the CPU, and says so in its own log only
    if kind == "cuda" and _CUDA not in session.get_providers():
        raise EvalError(f"{device}: onnxruntime could not start its CUDA provider; {_INSTALL_CUDA}")
    return session


def _installed(name: str) -> Path:
    """Return a data file of the installed hama whose content is the known one."""
    return distribution_file(_REQUIREMENT, name, _KNOWN[name], install=_INSTALL)
