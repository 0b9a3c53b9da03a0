"""The interface of every encoder, clips in and one vector per clip out, and the table of encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples

__all__ = ["ENCODERS", "RATE_HZ", "Encoder", "Family", "Precision", "Vectors", "Which"]

RATE_HZ = 16_000
Vectors = npt.NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Which:
    """Which encoder is wanted.

    Attributes:
        model: Name on the Hugging Face hub or a folder; "" where the encoder has no weights.
        revision: Branch, tag or commit on the hub.
        layer: Number of the transformer layer whose output is pooled, 0 for its input; None is the last, normalised
            as the model does.
        precision: Of the network's arithmetic.
    """

    model: str = ""
    revision: str | None = None
    layer: int | None = None
    precision: Precision = "float32"


class Encoder(ABC):
    """Speech at `RATE_HZ` in, one vector a clip out, whatever else is in the batch.

    Args:
        which: The checkpoint, layer and precision.
    """

    def __init__(self, which: Which) -> None:
        self.which = which

    def fingerprint(self) -> Mapping[str, str]:
        """Return what, beside the options, can move a number: digests of weights, versions of engines."""
        return {}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Hold what is costly to load."""
        del device
        yield

    @abstractmethod
    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return float32 `[clips, dimensions]` of clips of at least 0.1 s that are neither silent nor NaN."""


@dataclass(frozen=True, slots=True)
class Family:
    """An encoder by name: where its class is, and its default checkpoint.

    Attributes:
        home: "module:class".
        model: Default checkpoint; "" where there is no choice of weights.
    """

    home: str
    model: str

    def make(self, which: Which) -> Encoder:
        """Return the encoder; what it imports is imported now."""
        module, _, name = self.home.partition(":")
        return cast("Encoder", getattr(import_module(module), name)(which))


_TRANSFORMER = "cdslm_eval_embeddings.transformer"
ENCODERS: Mapping[str, Family] = {
    "logmel": Family("cdslm_eval_embeddings.logmel:LogMelEncoder", ""),
    "resemblyzer": Family("cdslm_eval_embeddings.resemblyzer:ResemblyzerEncoder", ""),
    "wavlm": Family(f"{_TRANSFORMER}:WavLMEncoder", "microsoft/wavlm-base-plus"),
    "wav2vec2": Family(f"{_TRANSFORMER}:Wav2Vec2Encoder", "facebook/wav2vec2-base"),
    "hubert": Family(f"{_TRANSFORMER}:HubertEncoder", "facebook/hubert-base-ls960"),
    "whisper": Family("cdslm_eval_embeddings.whisper:WhisperEncoder", "openai/whisper-base"),
}
