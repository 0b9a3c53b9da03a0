"""Phones by a CTC network that runs on onnxruntime: small, offline, hardly moved by noise or bandwidth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from cdslm_eval.builtin.recognizers.fold import arpabet, is_phone
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.citation import Citation
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Failed, Options, Recognition, Recognizer, Skipped, located
from cdslm_eval.plugin.models import (
    Frames,
    join_windows,
    pause_cuts,
    silero_path,
    speech_probabilities,
    window_starts,
)
from cdslm_eval_phones.level import levelled
from cdslm_eval_phones.network import (
    Network,
    Scores,
    Vocabulary,
    bundled,
    bundled_vocabulary,
    digest,
    metadata_vocabulary,
    read_vocabulary,
    session,
)

__all__ = ["RATE_HZ", "PhoneCtc", "PhoneCtcOptions"]

RATE_HZ = 16_000
WINDOW_S, OVERLAP_S = 20.0, 2.0
_WINDOW = round(WINDOW_S * RATE_HZ)
_MIN_SAMPLES = 400  # one analysis window of 25 ms; the bundled network raises under 201 samples


class PhoneCtcOptions(Options):
    """Options of `phone-ctc`.

    Attributes:
        inventory: "arpabet" folds to the 39 phones of CMUdict; "ipa" keeps the network's own symbols.
        model: ONNX file of another CTC network at 16 kHz; empty for the one in hama's wheel.
        vocab: Its symbols, in a JSON or text file; empty where the model carries them.
        cuts: Of clips over 20 s: "overlap" takes windows that overlap by 2 s, "pauses" pieces cut in the longest pause
            between 10 and 20 s, found by Silero VAD (`pip install --no-deps silero-vad==6.2.3`).
    """

    inventory: Literal["arpabet", "ipa"] = "arpabet"
    model: str = located("")
    vocab: str = located("")
    cuts: Literal["overlap", "pauses"] = "overlap"

    @model_serializer(mode="wrap")
    def _without_default_cuts(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the default out, so that values measured before there was a choice keep their identity."""
        values: dict[str, Any] = write(self)
        return {name: value for name, value in values.items() if (name, value) != ("cuts", "overlap")}


class PhoneCtc(Recognizer):
    """English phones by a neural CTC network, at a few thousandths of real time on one core.

    It has a prior for words (it deletes phones of gibberish), and the training data of the bundled network are
    undisclosed.
    """

    name = "phone-ctc"
    version = "2"
    weights_licence = "Apache-2.0"
    attribution = "hama 1.3.10, Seongmin Park"
    citation = (
        Citation(
            key="park2025hama",
            title="hama: grapheme-to-phoneme and phoneme recognition with ONNX",
            authors=("Park, Seongmin",),
            year=2025,
            kind="software",
            version="1.3.10",
            url="https://pypi.org/project/hama/1.3.10/",
        ),
        Citation(
            key="graves2006ctc",
            title="Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with Recurrent Neural "
            "Networks",
            authors=("Graves, Alex", "Fernández, Santiago", "Gomez, Faustino", "Schmidhuber, Jürgen"),
            year=2006,
            kind="inproceedings",
            venue="ICML 2006",
            doi="10.1145/1143844.1143891",
        ),
    )
    requires: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime>=1.17", "hama": "hama==1.3.10"}
    inventory = "arpabet"
    languages = frozenset({"en"})
    real_time_factor: float | None = 0.004
    rate_hz = RATE_HZ
    positional = "inventory"
    batch_clips = 16
    Options = PhoneCtcOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        if self.options.vocab and not self.options.model:
            raise UsageError("phone-ctc: vocab=FILE without model=FILE; the bundled network has its own vocabulary")
        self.inventory = self.options.inventory
        if self.options.model:
            # nobody declared them; only the file knows
            self.languages, self.real_time_factor = frozenset(), None

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the network and of its vocabulary, and the version of onnxruntime."""
        symbols = "\n".join(self._vocabulary.symbols)
        facts = {
            "model": digest(self._model),
            "vocabulary": hashlib.sha256(symbols.encode()).hexdigest(),
            "onnxruntime": version("onnxruntime"),
        }
        return facts | ({"silero_vad.onnx": digest(silero_path())} if self.options.cuts == "pauses" else {})

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network on onnxruntime's CPU or CUDA provider.

        Raises:
            EvalError: A file is missing or damaged, or its symbols name no phones.
        """
        self._network = Network(self._model, self._vocabulary, device)
        # the detector is small, and sees frame after frame: the CPU is its place
        self._detector: Any = session(silero_path(), "cpu") if self.options.cuts == "pauses" else None
        self._phones = [self._fold(symbol) for symbol in self._vocabulary.symbols]
        self._carries = np.array([bool(phones) for phones in self._phones])
        try:
            yield
        finally:
            del self._network, self._detector

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the phones of each clip, the best path without repetitions and blanks, with their mean posterior."""
        stretches: list[Samples] = []
        spans: list[list[tuple[int, int]]] = []
        for clip in clips:
            sound = len(clip.samples) >= _MIN_SAMPLES and np.isfinite(clip.samples).all() and clip.samples.any()
            samples = levelled(clip.samples) if sound else clip.samples
            spans.append(self._spans(samples) if sound else [])
            stretches += [samples[start:end] for start, end in spans[-1]]
        read = iter([self._read(scores) for scores in self._network.scores(stretches)])
        for clip, own in zip(clips, spans, strict=True):
            if not np.isfinite(clip.samples).all():
                yield Failed("samples that are not finite")
                continue
            if not own:
                yield Recognition((), float("nan"))
                continue
            parts, posteriors = zip(*(next(read) for _ in own), strict=True)
            path = self._joined(parts, [start for start, _ in own], len(clip.samples))
            changes = np.concatenate([[True], path[1:] != path[:-1]])
            phones = [phone for index in path[changes] for phone in self._phones[index]]
            # where windows overlap, frames count twice: that moves a mean over minutes by nothing that matters
            known = np.concatenate(posteriors)
            yield Recognition(phones, float(known.mean()) if len(known) else float("nan"))

    def _spans(self, samples: Samples) -> list[tuple[int, int]]:
        """Return the windows or pieces of a clip: first sample and end of each."""
        count = len(samples)
        if self._detector is None or count <= _WINDOW:
            return [(start, start + _WINDOW) for start in window_starts(count, _WINDOW, round(OVERLAP_S * RATE_HZ))]
        return list(pairwise(pause_cuts(speech_probabilities(self._detector, samples), count, _WINDOW)))

    def _joined(self, parts: Sequence[Frames], starts: Sequence[int], samples: int) -> Frames:
        """Return the best symbols of a clip; a blank between pieces, so that one phone on both sides counts twice."""
        blank = self._vocabulary.blank
        if self._detector is None:
            return join_windows(parts, starts, samples, _WINDOW, blank)
        gap = np.array([blank])
        return np.concatenate([frames for part in parts for frames in (part, gap)][:-1])

    def _read(self, scores: Scores) -> tuple[Frames, Scores]:
        """Return the best symbol of each frame of a window, and the posteriors of the frames with a phone."""
        best: Frames = scores.argmax(-1)
        # the posterior of the best symbol, whether the network's outputs are logits or log-probabilities
        top = 1 / np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)
        return best, top[self._carries[best]]

    @cached_property
    def _model(self) -> Path:
        return Path(self.options.model) if self.options.model else bundled()

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        if self.options.vocab:
            return read_vocabulary(Path(self.options.vocab))
        return metadata_vocabulary(self._model) if self.options.model else bundled_vocabulary()

    def _fold(self, symbol: str) -> tuple[str, ...]:
        """Return the phones of one entry of the vocabulary; () for blanks, marks and boundaries."""
        if not is_phone(symbol):
            return ()
        if self.inventory == "ipa":
            return (symbol,)
        try:
            return arpabet(symbol)
        except KeyError as error:
            raise UsageError(
                f"phone-ctc: no English phone for {error.args[0]!r} in the symbol {symbol!r} of its vocabulary; "
                "Use: inventory=ipa"
            ) from error
