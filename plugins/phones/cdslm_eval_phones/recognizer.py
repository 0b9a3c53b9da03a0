"""Phones by a CTC network that runs on onnxruntime: small, offline, hardly moved by noise or bandwidth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel

from cdslm_eval.builtin.recognizers.fold import arpabet, is_phone
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Failed, Options, Recognition, Recognizer, Skipped, located
from cdslm_eval.plugin.models import Frames, join_windows, window_starts
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
)

__all__ = ["RATE_HZ", "PhoneCtc", "PhoneCtcOptions"]

RATE_HZ = 16_000
WINDOW_S, OVERLAP_S = 20.0, 2.0
_MIN_SAMPLES = 400  # one analysis window of 25 ms; the bundled network raises under 201 samples


class PhoneCtcOptions(Options):
    """Options of `phone-ctc`.

    Attributes:
        inventory: "arpabet" folds to the 39 phones of CMUdict; "ipa" keeps the network's own symbols.
        model: ONNX file of another CTC network at 16 kHz; empty for the one in hama's wheel.
        vocab: Its symbols, in a JSON or text file; empty where the model carries them.
    """

    inventory: Literal["arpabet", "ipa"] = "arpabet"
    model: str = located("")
    vocab: str = located("")


class PhoneCtc(Recognizer):
    """English phones by a neural CTC network, at a few thousandths of real time on one core.

    It has a prior for words (it deletes phones of gibberish), and the training data of the bundled network are
    undisclosed.
    """

    name = "phone-ctc"
    version = "2"
    weights_licence = "Apache-2.0"
    attribution = "hama 1.3.10, Seongmin Park"
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
        return {
            "model": digest(self._model),
            "vocabulary": hashlib.sha256(symbols.encode()).hexdigest(),
            "onnxruntime": version("onnxruntime"),
        }

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network on onnxruntime's CPU or CUDA provider.

        Raises:
            EvalError: A file is missing or damaged, or its symbols name no phones.
        """
        self._network = Network(self._model, self._vocabulary, device)
        self._phones = [self._fold(symbol) for symbol in self._vocabulary.symbols]
        self._carries = np.array([bool(phones) for phones in self._phones])
        try:
            yield
        finally:
            del self._network

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the phones of each clip, the best path without repetitions and blanks, with their mean posterior."""
        window, overlap = round(WINDOW_S * RATE_HZ), round(OVERLAP_S * RATE_HZ)
        stretches: list[Samples] = []
        starts: list[list[int]] = []
        for clip in clips:
            sound = len(clip.samples) >= _MIN_SAMPLES and np.isfinite(clip.samples).all() and clip.samples.any()
            starts.append(window_starts(len(clip.samples), window, overlap) if sound else [])
            samples = levelled(clip.samples) if sound else clip.samples
            stretches += [samples[start : start + window] for start in starts[-1]]
        read = iter([self._read(scores) for scores in self._network.scores(stretches)])
        for clip, own in zip(clips, starts, strict=True):
            if not np.isfinite(clip.samples).all():
                yield Failed("samples that are not finite")
                continue
            if not own:
                yield Recognition((), float("nan"))
                continue
            parts, posteriors = zip(*(next(read) for _ in own), strict=True)
            path = join_windows(parts, own, len(clip.samples), window, self._vocabulary.blank)
            changes = np.concatenate([[True], path[1:] != path[:-1]])
            phones = [phone for index in path[changes] for phone in self._phones[index]]
            # where windows overlap, frames count twice: that moves a mean over minutes by nothing that matters
            known = np.concatenate(posteriors)
            yield Recognition(phones, float(known.mean()) if len(known) else float("nan"))

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
