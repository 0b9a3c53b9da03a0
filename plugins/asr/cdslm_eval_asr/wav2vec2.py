"""Phones by any phoneme-CTC checkpoint of the wav2vec 2.0 family: many languages, best on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.plugin.contract import Failed, Recognizer, Skipped, located
from cdslm_eval.plugin.models import (
    SAFE,
    Pretrained,
    PretrainedOptions,
    RequiredFiles,
    device_of,
    find_pretrained,
    join_windows,
    padded_batch,
    precision_of,
    read_json,
    window_starts,
)
from cdslm_eval_asr.papers import WAV2VEC2

__all__ = ["Wav2vec2Options", "Wav2vec2Recognizer", "collapsed"]

RATE_HZ = 16_000
WINDOW_SECONDS, OVERLAP_SECONDS = 30.0, 2.0
_MIN_SAMPLES = 400  # receptive field of the convolutions
_REQUIRED: RequiredFiles = ("config.json", "vocab.json", SAFE)
_DELIMITERS = frozenset({"|", " ", ""})
_STRESS = str.maketrans("", "", "ˈˌ")


class Wav2vec2Options(PretrainedOptions):
    """Options of `wav2vec2`.

    Attributes:
        model: Name on the Hugging Face hub of a phoneme-CTC checkpoint, or a folder that `save_pretrained` wrote.
        precision: Of the arithmetic, by autocasting; "auto" is bfloat16 on a GPU that has it, float32 elsewhere.
        inventory: What the phone set is called.
    """

    model: str = located("facebook/wav2vec2-xlsr-53-espeak-cv-ft")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    inventory: str = "ipa"


class Wav2vec2Recognizer(Recognizer):
    """Greedy CTC decoding of a transformers checkpoint."""

    name = "wav2vec2"
    version = "2"
    citation = (WAV2VEC2,)
    licence = "the checkpoint's own"
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.5", "transformers": "transformers>=4.50"}
    inventory = "ipa"
    rate_hz = RATE_HZ
    positional = "model"
    batch_clips = 16
    Options = Wav2vec2Options

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights, vocabulary and configuration, transformers' version, and the precision."""
        return self._pretrained.facts()

    @cached_property
    def _pretrained(self) -> Pretrained:
        return find_pretrained(self.options, _REQUIRED, self.name)

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint.

        Raises:
            EvalError: Files are missing, or hold no CTC model.
        """
        from transformers import AutoModelForCTC

        folder = self._pretrained.folder
        vocabulary, config = read_json(folder / "vocab.json"), read_json(folder / "config.json")
        self._device = device_of(device)
        self._model = self._pretrained.load(AutoModelForCTC, self._device, "float32")
        self._symbols = {index: symbol.translate(_STRESS) for symbol, index in vocabulary.items()}
        self._blank = int(config.get("pad_token_id") or 0)
        # Group norm takes its statistics over the whole padded row, so such a model must see clips unpadded.
        self._padded = config.get("feat_extract_norm", "group") != "group"
        self._normalize = _normalizes(folder)
        try:
            yield
        finally:
            del self._model

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the phones of each clip; clips of like length share a padded batch."""
        size, overlap = round(WINDOW_SECONDS * RATE_HZ), round(OVERLAP_SECONDS * RATE_HZ)
        starts = [_starts(clip.samples, size, overlap) for clip in clips]
        windows = [clip.samples[start : start + size] for clip, own in zip(clips, starts, strict=True) for start in own]
        paths = iter(self._paths(windows))
        for clip, own in zip(clips, starts, strict=True):
            if not np.isfinite(clip.samples).all():
                yield Failed("samples that are not finite")
                continue
            parts = [next(paths) for _ in own]
            best = join_windows(parts, own, len(clip.samples), size, self._blank) if parts else np.zeros(0, np.int64)
            symbols = (self._symbols.get(token, "") for token in collapsed(best, self._blank))
            yield [symbol for symbol in symbols if _is_phone(symbol)]

    def _paths(self, windows: Sequence[Samples]) -> list[npt.NDArray[np.int64]]:
        """Return the likeliest token of each frame of each window; windows of like length share a batch."""
        paths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(windows)
        order = sorted(range(len(windows)), key=lambda at: len(windows[at]))
        size = self.batch_clips if self._padded else 1
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            for at, best in zip(batch, self._best([windows[at] for at in batch]), strict=True):
                paths[at] = best
        return paths

    def _best(self, batch: Sequence[Samples]) -> list[npt.NDArray[np.int64]]:
        """Return the likeliest token of each frame of each window, int64 `[frames]`."""
        import torch

        inputs, mask = padded_batch(batch, self._device, normalize=self._normalize)
        attention = mask if self._padded else None
        half = precision_of(self.options.precision) == "bfloat16"
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            logits = self._model(inputs, attention_mask=attention).logits
        best = logits.argmax(-1).cpu().numpy()
        return [best[row, : self._frames(len(samples))] for row, samples in enumerate(batch)]

    def _frames(self, samples: int) -> int:
        """Return how many frames the convolutions make of this many samples."""
        config = self._model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


def collapsed(best: npt.NDArray[np.integer[Any]], blank: int) -> list[int]:
    """Return a CTC path without repetitions and blanks.

    Args:
        best: The likeliest token of each frame, `[frames]`.
        blank: Index of the blank.
    """
    if not len(best):
        return []
    changes = np.concatenate([[True], best[1:] != best[:-1]])
    return [int(token) for token in best[changes] if token != blank]


def _is_phone(symbol: str) -> bool:
    """Return whether a token is a phone: no word delimiter, and no special such as <s> or [PAD]."""
    return symbol not in _DELIMITERS and not (symbol[0] in "<[" and symbol[-1] in ">]")


def _starts(samples: Samples, window: int, overlap: int) -> list[int]:
    """Return where the windows of a clip start; none when it is too short, silent or not finite."""
    if len(samples) < _MIN_SAMPLES or not np.isfinite(samples).all() or not samples.any():
        return []
    return window_starts(len(samples), window, overlap)


def _normalizes(folder: Path) -> bool:
    """Return whether the checkpoint reads normalised samples; transformers' default, yes, where nothing declares it."""
    path = folder / "preprocessor_config.json"
    return bool(read_json(path).get("do_normalize", True)) if path.is_file() else True
