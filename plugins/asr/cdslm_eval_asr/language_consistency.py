"""`language_consistency`: whether a clip keeps one language from its beginning to its end."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cdslm_eval import Better, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped, located
from cdslm_eval.plugin.models import (
    SILERO_INSTALL,
    SILERO_SHA256,
    VOICE_FRAME,
    PretrainedOptions,
    onnx_session,
    silero_path,
    speech_probabilities,
    unusable_reason,
)
from cdslm_eval_asr.faster_whisper import FasterWhisper, FasterWhisperOptions
from cdslm_eval_asr.languages import LanguageIdentifier, code_of_label
from cdslm_eval_asr.papers import WHISPER
from cdslm_eval_asr.whisper import DEFAULT_MODEL, RATE_HZ, Whisper, WhisperOptions

__all__ = ["IDENTIFIERS", "LanguageConsistency", "LanguageConsistencyOptions", "language_row"]

_LEAST_WINDOWS = 2
_SPEECH = 0.5
"""Probability from which a frame is speech, as `activity` starts it."""


class LanguageConsistencyOptions(PretrainedOptions):
    """Options of `language_consistency`.

    Attributes:
        identifier: "whisper" (transformers) or "faster-whisper" (CTranslate2).
        model: A multilingual Whisper: of "whisper" a name on the Hugging Face hub or a folder, "" being
            openai/whisper-small; of "faster-whisper" a folder in CTranslate2's format.
        compute: Arithmetic of "faster-whisper": int8 for a CPU, float16 for a GPU.
        window_s: Length of the windows whose languages are compared, in seconds, 1..30.
        min_speech_s: A window with less speech than this is left out, in seconds.
    """

    identifier: Literal["whisper", "faster-whisper"] = "whisper"
    model: str = located("")
    compute: Literal["int8", "float16", "float32"] = "int8"
    window_s: float = Field(10.0, ge=1, le=30)
    min_speech_s: float = Field(3.0, gt=0)

    @model_validator(mode="after")
    def _only_what_applies(self) -> Self:
        if self.min_speech_s > self.window_s:
            raise ValueError(
                f"a window of window_s={self.window_s:g} never has min_speech_s={self.min_speech_s:g} s of speech"
            )
        foreign = {"whisper": ("compute",), "faster-whisper": ("revision", "sha256", "precision")}[self.identifier]
        for name in foreign:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"identifier={self.identifier} has no option {name}")
        return self


def _whisper(options: LanguageConsistencyOptions) -> Whisper:
    own = {name: getattr(options, name) for name in ("revision", "sha256", "precision")}
    return Whisper(WhisperOptions.model_validate({**own, "model": options.model or DEFAULT_MODEL}))


def _faster_whisper(options: LanguageConsistencyOptions) -> FasterWhisper:
    own = {"model": options.model, "compute": options.compute, "language": "auto"}
    return FasterWhisper(FasterWhisperOptions.model_validate(own))


IDENTIFIERS: Mapping[str, Callable[[LanguageConsistencyOptions], LanguageIdentifier]] = {
    "whisper": _whisper,
    "faster-whisper": _faster_whisper,
}


class LanguageConsistency(Metric):
    """Share of the windows of speech, 0..1, whose most probable language is that of most windows of their clip.

    `language_probability` is the mean probability of that language over windows, `language_switches` the share of
    steps from a window to the next at which the most probable language changes, and `language_fidelity` the share of
    windows in the language that the manifest states, over clips for which it states one that the model knows. Of two
    languages with as many windows, that of a clip is the more probable one. Windows follow each other from the start;
    what is left at the end is in none. One with less than `min_speech_s` of speech by Silero VAD is left out
    (`language_left_out`, a share of all windows), and a clip with fewer than two others is skipped. All values are
    ratios of sums over clips, so that long clips count more.

    Another identifier is a subclass with a name of its own and another `make_identifier`.

    Source: Radford et al. (2023), "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356), for
    the probabilities of languages; 3 and 10 s are two of the durations of NIST's language recognition evaluations.
    """

    name = "language_consistency"
    limits = "whether it is the right language, or makes sense; errors of the identifier are in it"
    version = "1"
    citation = (WHISPER,)
    unit = "fraction"
    better: ClassVar[Better] = "higher"
    weights_licence = "the checkpoint's own (OpenAI's are Apache-2.0 on the hub); MIT (Silero VAD)"
    attribution = "Whisper weights; Silero VAD, Silero Team"
    requires: ClassVar[Mapping[str, str]] = {
        "torch": "torch>=2.5",
        "transformers": "transformers>=4.50",
        "onnxruntime": "onnxruntime>=1.17",
    }
    needs = frozenset({"audio"})
    wants = frozenset({"language"})
    rate_hz = RATE_HZ
    accepts_silence = False
    batch_clips = 4
    positional = "identifier"
    Options = LanguageConsistencyOptions
    statistics: ClassVar[Mapping[str, Statistic]] = {
        "language_consistency": RatioOfSums("in_majority", "windows"),
        "language_probability": RatioOfSums("probability", "windows"),
        "language_switches": RatioOfSums("switches", "steps", better="lower"),
        "language_fidelity": RatioOfSums("in_label", "labelled"),
        "language_left_out": RatioOfSums("left_out", "all_windows", better="neither"),
    }

    @classmethod
    def missing(cls) -> str | None:
        """Return the install command of the voice activity detector, without what its network does not use."""
        return f"needs {SILERO_INSTALL}" if find_spec("silero_vad") is None else super().missing()

    @classmethod
    def fetches(cls) -> str | None:
        """Return the weights, unless they lie in the hub's cache."""
        return Whisper.fetches()

    def make_identifier(self) -> LanguageIdentifier:
        """Return what identifies languages; it loads nothing before it is opened."""
        return IDENTIFIERS[self.options.identifier](self.options)

    @cached_property
    def _identifier(self) -> LanguageIdentifier:
        return self.make_identifier()

    def fingerprint(self) -> Mapping[str, str]:
        """Return that of the identifier, the digest of the voice activity network and the version of onnxruntime."""
        own = {"silero_vad.onnx": SILERO_SHA256, "onnxruntime": version("onnxruntime")}
        return {**self._identifier.fingerprint(), **own}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load both networks; voice activity runs on the CPU.

        Raises:
            UsageError: silero-vad is not installed.
            EvalError: Files are missing or hold another network, or the model knows fewer than two languages.
        """
        with self._identifier.open(device):
            self._session: Any = onnx_session(str(silero_path()))
            self._known = self._identifier.known_languages()
            if len(self._known) < _LEAST_WINDOWS:
                only = ", ".join(self._known) or "no language"
                raise EvalError(
                    f"{self.name}: the model knows {only} only, so that it tells no languages apart. "
                    f"Use: model=, with a multilingual Whisper such as {DEFAULT_MODEL}"
                )
            try:
                yield
            finally:
                del self._session

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the languages of the windows of each clip, in sums; windows of all clips share batches."""
        parts = [self._windows(clip) for clip in clips]
        speech = [window for part in parts if isinstance(part, list) for window in part if window is not None]
        found = iter(self._identifier.languages(speech) if speech else ())
        for clip, part in zip(clips, parts, strict=True):
            if not isinstance(part, list):
                yield part
                continue
            windows = [None if window is None else next(found) for window in part]
            if not all(math.isfinite(p) for window in windows if window is not None for p in window.values()):
                yield Failed("the network gives no finite probability of a language")
                continue
            label = None if clip.language is None else code_of_label(clip.language, self._known)
            yield language_row(windows, label)

    def _windows(self, clip: Clip) -> list[Samples | None] | Skipped | Failed:
        """Return the windows of a clip in order, None for those with too little speech."""
        if reason := unusable_reason(clip):
            return Skipped(reason)
        options: LanguageConsistencyOptions = self.options
        size = round(options.window_s * RATE_HZ)
        count = len(clip.samples) // size
        if count < _LEAST_WINDOWS:
            return Skipped(f"under {_LEAST_WINDOWS} windows of {options.window_s:g} s")
        probabilities = speech_probabilities(self._session, clip.samples)
        if not np.isfinite(probabilities).all():
            return Failed("voice activity gives no finite probability; are the samples in -1..1?")
        # a frame of 32 ms belongs to the window in which it starts
        owner = np.arange(len(probabilities)) * VOICE_FRAME // size
        seconds = np.bincount(owner[probabilities >= _SPEECH], minlength=count) * VOICE_FRAME / RATE_HZ
        spoken = seconds[:count] >= options.min_speech_s
        if spoken.sum() < _LEAST_WINDOWS:
            return Skipped(
                f"under {_LEAST_WINDOWS} windows of {options.window_s:g} s with {options.min_speech_s:g} s of speech "
                f"({spoken.sum()} of {count})"
            )
        return [clip.samples[at * size : (at + 1) * size] if spoken[at] else None for at in range(count)]


def language_row(windows: Sequence[Mapping[str, float] | None], label: str | None) -> Row:
    """Return the sums of one clip behind the values.

    Args:
        windows: Probability by language of each window in order; None for one without enough speech.
        label: The language that the clip should be in, as the identifier names it; None where it is not known.

    Example:
        >>> row = language_row([{"en": 0.9, "de": 0.1}, None, {"en": 0.7, "de": 0.3}, {"en": 0.4, "de": 0.6}], "de")
        >>> row["in_majority"], row["windows"], row["switches"], row["in_label"], row["by_window"]
        (2, 3, 1, 1, 'en - en de')
    """
    spoken = [window for window in windows if window is not None]
    # equal probabilities are decided by the code, so that the result is the same everywhere
    best = [max(sorted(window), key=window.__getitem__) for window in spoken]
    counts = Counter(best)
    totals = {code: math.fsum(window.get(code, 0.0) for window in spoken) for code in sorted(counts)}
    language = max(totals, key=lambda code: (counts[code], totals[code]))
    names = iter(best)
    return {
        "windows": len(spoken),
        "in_majority": counts[language],
        "probability": totals[language],
        "steps": len(spoken) - 1,
        "switches": sum(first != second for first, second in itertools.pairwise(best)),
        "in_label": None if label is None else counts[label],
        "labelled": None if label is None else len(spoken),
        "left_out": len(windows) - len(spoken),
        "all_windows": len(windows),
        "language": language,
        "by_window": " ".join("-" if window is None else next(names) for window in windows),
    }
