"""The transcriber `whisper`: any Whisper checkpoint of transformers, greedy, in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.errors import EvalError, did_you_mean
from cdslm_eval.core.levels import frame_levels_dbfs, is_silent
from cdslm_eval.plugin.contract import Failed, Skipped, Transcriber, located
from cdslm_eval.plugin.models import (
    SAFE,
    Pretrained,
    PretrainedOptions,
    RequiredFiles,
    device_of,
    find_pretrained,
    is_cached,
    length_batches,
    precision_of,
    quiet,
)
from cdslm_eval_asr.languages import code_of_token
from cdslm_eval_asr.papers import WHISPER

if TYPE_CHECKING:
    import torch

__all__ = ["Whisper", "WhisperOptions", "windows"]

RATE_HZ = 16_000
WINDOW = 30 * RATE_HZ
_CUT_S = 1.0  # how far from an even division a long clip may be cut, to find a pause
_FRAME_S = 0.02
_TOKENS_PER_S, _TOKENS = 30, 32
_REQUIRED: RequiredFiles = (
    "config.json",
    SAFE,
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)
_SECONDS = {"cpu": 240, "cuda": 960}  # of padded audio in one batch
DEFAULT_MODEL = "openai/whisper-small"


class WhisperOptions(PretrainedOptions):
    """Options of `whisper`.

    Attributes:
        model: Name on the Hugging Face hub, or a folder that `save_pretrained` wrote.
        language: What is spoken, as Whisper names it ("en", "german"); English-only checkpoints know nothing else.
        task: "transcribe", or "translate" into English.
    """

    model: str = located(DEFAULT_MODEL)
    language: str = "en"
    task: Literal["transcribe", "translate"] = "transcribe"


class Whisper(Transcriber):
    """Whisper through transformers: greedy decoding without timestamps, no temperature fallback, no earlier context.

    Clips over 30 s are cut into even windows, each cut moved by at most a second to the quietest place. Silent clips
    and windows (under -70 dBFS) say nothing and are not decoded. A window gives at most 32 tokens and 30 per second
    of it, so that a loop of the decoder ends.

    Source: Radford et al. (2023), "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356).
    """

    name = "whisper"
    version = "1"
    citation = (WHISPER,)
    weights_licence = "the checkpoint's own; OpenAI's are Apache-2.0 on the hub"
    attribution = "Whisper weights"
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.5", "transformers": "transformers>=4.50"}
    needs = frozenset({"audio"})
    rate_hz = RATE_HZ
    batch_clips = 16
    positional = "model"
    Options = WhisperOptions

    @classmethod
    def fetches(cls) -> str | None:
        """Return the weights, unless they lie in the hub's cache."""
        return None if is_cached(DEFAULT_MODEL, SAFE[0]) else f"{DEFAULT_MODEL} (about 1 GB)"

    @cached_property
    def _pretrained(self) -> Pretrained:
        return find_pretrained(self.options, _REQUIRED, self.name)

    def fingerprint(self) -> Mapping[str, str]:
        """Return digests of the checkpoint, transformers' version, and the precision."""
        return self._pretrained.facts()

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint.

        Raises:
            EvalError: Files are missing, or hold no Whisper.
        """
        from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

        self._device = device_of(device)
        model = self._pretrained.load(WhisperForConditionalGeneration, self._device)
        folder = str(self._pretrained.folder)
        try:
            self._features: Any = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise EvalError(f"whisper cannot load the tokenizer of {self.options.model}: {error}") from error
        self._how = self._spoken(model.generation_config)
        self._model: Any = model
        try:
            yield
        finally:
            del self._model

    def _spoken(self, generation: Any) -> dict[str, str]:
        """Return language and task as the checkpoint takes them: an English-only one takes neither."""
        from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

        language = self.options.language.lower()
        if getattr(generation, "is_multilingual", True):
            known = {token.strip("<|>") for token in getattr(generation, "lang_to_id", {})}
            if TO_LANGUAGE_CODE.get(language, language) not in known:
                hint = did_you_mean(language, [*known, *(LANGUAGES[code] for code in known if code in LANGUAGES)])
                raise EvalError(f"{self.options.model} knows no language {self.options.language!r}.{hint}")
            return {"language": language, "task": self.options.task}
        if language not in ("en", "english") or self.options.task != "transcribe":
            raise EvalError(f"{self.options.model} knows English only: language={self.options.language} needs another")
        return {}

    def known_languages(self) -> frozenset[str]:
        """Return the languages that the checkpoint tells apart, as ISO 639 codes: English alone for an English one."""
        generation = self._model.generation_config
        if not getattr(generation, "is_multilingual", True):
            return frozenset({"en"})
        return frozenset(map(code_of_token, getattr(generation, "lang_to_id", {})))

    def languages(self, windows: Sequence[Samples]) -> list[dict[str, float]]:
        """Return the probability of each language in windows of at most 30 s at 16 kHz, by ISO 639 code.

        It is that of the first token after the start of a transcript among the tokens of languages.

        Source: Radford et al. (2023), section 2.3.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        generation, probabilities = self._model.generation_config, []
        for first in range(0, len(windows), self._most):
            encoded, _ = self._encoded(windows[first : first + self._most])
            start = torch.full((len(encoded), 1), generation.decoder_start_token_id, device=self._device)
            with torch.inference_mode():
                output = self._model(
                    encoder_outputs=BaseModelOutput(last_hidden_state=encoded), decoder_input_ids=start
                )
            shares = output.logits[:, -1, list(generation.lang_to_id.values())].double().softmax(-1).cpu().numpy()
            codes = [code_of_token(token) for token in generation.lang_to_id]
            probabilities += [dict(zip(codes, map(float, row), strict=True)) for row in shares]
        return probabilities

    def transcribe(self, clips: Sequence[Clip]) -> Iterator[str | Skipped | Failed]:
        """Yield the words of each clip; windows of like length share a batch."""
        usable = [bool(np.isfinite(clip.samples).all()) for clip in clips]
        parts = [windows(clip.samples) if fit else [] for clip, fit in zip(clips, usable, strict=True)]
        loud = [part for group in parts for part in group if not is_silent(part)]
        texts = iter(self._texts(loud))
        for clip, group, fit in zip(clips, parts, usable, strict=True):
            texts_of_parts = [next(texts) for part in group if not is_silent(part)]
            if not fit:
                yield Failed("samples that are not finite")
            elif not len(clip.samples):
                yield Skipped("no samples")
            else:
                yield " ".join(filter(None, texts_of_parts))

    def _texts(self, parts: Sequence[Samples]) -> list[str]:
        transcripts = [""] * len(parts)
        # the encoder sees 30 s whatever a part's length; parts of like length are decoded in like many steps
        most = self._most
        for batch in length_batches([len(part) for part in parts], most * WINDOW, waste=0.4):
            for start in range(0, len(batch), most):
                group = batch[start : start + most]
                for index, text in zip(group, self._batch([parts[index] for index in group]), strict=True):
                    transcripts[index] = text
        return transcripts

    @property
    def _most(self) -> int:
        """Windows of 30 s in one batch."""
        return _SECONDS.get(self._device.type, _SECONDS["cpu"]) // 30

    def _encoded(self, parts: Sequence[Samples]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the encoder's output for windows of at most 30 s, and the mask of their mel frames."""
        import torch

        features = self._features(
            list(parts), sampling_rate=RATE_HZ, return_tensors="pt", return_attention_mask=True
        ).to(self._device)
        mel = features.input_features.to(getattr(torch, precision_of(self.options.precision)))
        with torch.inference_mode(), quiet():
            # a processor's caches hold the attention of one window over 30 s, not that of several
            group = mel.split(len(mel) if self._device.type == "cuda" else 1)
            encoded = torch.cat([self._model.model.encoder(window).last_hidden_state for window in group])
        return encoded, features.attention_mask

    def _batch(self, parts: Sequence[Samples]) -> list[str]:
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        limits = [_TOKENS + int(_TOKENS_PER_S * len(part) / RATE_HZ) for part in parts]
        budget = (
            self._model.config.max_target_positions - 8
        )  # for what starts a transcript: language, task, no timestamps
        encoded, mask = self._encoded(parts)
        with torch.inference_mode(), quiet():
            tokens = self._model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
                attention_mask=mask,
                do_sample=False,
                num_beams=1,
                return_timestamps=False,
                max_new_tokens=min(budget, max(limits)),
                **self._how,
            ).cpu()
        # a limit of its own for each, so that what it is batched with does not matter
        texts = [
            self._tokenizer.decode(_generated(row, self._model.generation_config)[:limit], skip_special_tokens=True)
            for row, limit in zip(tokens, limits, strict=True)
        ]
        return [" ".join(text.split()) for text in texts]


def _generated(row: Any, generation: Any) -> Any:
    """Return a row of tokens from the first that was generated to the end of the text."""
    ends = generation.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or ())
    tokens = row.tolist()
    stop = next((at for at, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]


def windows(samples: Samples) -> list[Samples]:
    """Return a clip in windows of at most 30 s, cut where it is quietest near an even division.

    Args:
        samples: float32 `[samples]` at 16 kHz.
    """
    if len(samples) <= WINDOW:
        return [samples] if len(samples) else []
    reach = int(_CUT_S * RATE_HZ)
    count = -(-len(samples) // (WINDOW - 2 * reach))
    frame = int(_FRAME_S * RATE_HZ)
    cuts = [0]
    for number in range(1, count):
        start = number * len(samples) // count - reach
        levels = frame_levels_dbfs(samples[start : start + 2 * reach], RATE_HZ, _FRAME_S)
        cuts.append(start + int(np.argmin(levels)) * frame)
    return [samples[start:end] for start, end in zip(cuts, [*cuts[1:], len(samples)], strict=True)]
