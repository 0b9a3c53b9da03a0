"""`gen_ppl`: how likely a text language model finds the spoken words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from cdslm_eval import Better, Perplexity, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped, located
from cdslm_eval.plugin.models import (
    SAFE,
    Pretrained,
    PretrainedOptions,
    RequiredFiles,
    device_of,
    find_pretrained,
    is_cached,
    length_batches,
    quiet,
)
from cdslm_eval_asr.papers import GSLM
from cdslm_eval_asr.text import Name, normalizer

__all__ = ["GenPpl", "GenPplOptions"]

_REQUIRED: RequiredFiles = ("config.json", SAFE, ("tokenizer.json", "vocab.json", "tokenizer.model"))
_TOKENS = {"cpu": 1024, "cuda": 16_384}  # in one batch: each token has a row of logits as wide as the vocabulary
_CONTEXT = 1024  # where a model names no limit
DEFAULT_MODEL = "openai-community/gpt2"


class GenPplOptions(PretrainedOptions):
    """Options of `gen_ppl`.

    Attributes:
        model: Name on the Hugging Face hub of a causal language model, or a folder that `save_pretrained` wrote.
        normalizer: What is done to a transcript before it is scored, as for `wer`; "none" keeps case and punctuation.
    """

    model: str = located(DEFAULT_MODEL)
    normalizer: Name = "none"


class GenPpl(Metric):
    """Perplexity of transcripts under a text language model, per token of the model and per word.

    Negative log-likelihoods are summed over all clips and divided once. A transcript is scored from the model's start
    token on; one longer than its context in windows that overlap by half. Values of models with other tokens compare
    per word only. Fluent nonsense and repetition score well: read it beside `vert`.

    Source: Lakhotia et al. (2021), "On Generative Spoken Language Modeling from Raw Audio" (arXiv 2102.01192), PPX.
    """

    name = "gen_ppl"
    limits = "whether it sounds natural; dull text that repeats itself scores well"
    version = "1"
    citation = (GSLM,)
    unit = "perplexity"
    better: ClassVar[Better] = "lower"
    weights_licence = "the checkpoint's own; GPT-2 is MIT"
    attribution = "causal language model weights"
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.5", "transformers": "transformers>=4.50"}
    needs = frozenset({"transcript"})
    batch_clips = 16
    positional = "model"
    Options = GenPplOptions
    statistics: ClassVar[Mapping[str, Statistic]] = {
        "gen_ppl": Perplexity("nll", "tokens"),
        "gen_ppl_word": Perplexity("nll", "words"),
    }

    @classmethod
    def fetches(cls) -> str | None:
        """Return the weights, unless they lie in the hub's cache."""
        return None if is_cached(DEFAULT_MODEL, SAFE[0]) else f"{DEFAULT_MODEL} (about 0.5 GB)"

    @cached_property
    def _pretrained(self) -> Pretrained:
        return find_pretrained(self.options, _REQUIRED, self.name)

    def fingerprint(self) -> Mapping[str, str]:
        """Return digests of the checkpoint, transformers' version, and the precision."""
        return self._pretrained.facts()

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the language model.

        Raises:
            EvalError: Files are missing, or hold no causal language model.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device = device_of(device)
        model = self._pretrained.load(AutoModelForCausalLM, self._device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(self._pretrained.folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise EvalError(f"gen_ppl cannot load the tokenizer of {self.options.model}: {error}") from error
        start = self._tokenizer.bos_token_id
        self._start = [self._tokenizer.eos_token_id if start is None else start]
        if self._start == [None]:
            raise EvalError(f"gen_ppl: {self.options.model} has no start token to score the first word from")
        self._context = int(getattr(model.config, "max_position_embeddings", None) or _CONTEXT)
        self._model: Any = model
        try:
            yield
        finally:
            del self._model

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield negative log-likelihood (nats), tokens and words of each transcript."""
        clean = normalizer(self.options.normalizer)
        texts = [clean(clip.transcript or "") for clip in clips]
        with quiet():  # a text beyond the context is cut below, which the tokenizer does not know
            tokens = [self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else [] for text in texts]
        for text, own, nll in zip(texts, tokens, self._nlls(tokens), strict=True):
            if own:
                yield {"nll": nll, "tokens": len(own), "words": len(text.split())}
            else:
                yield Skipped("nothing was said")

    def _nlls(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """Return the negative log-likelihood of each text in nats; 0 for one without tokens."""
        totals = [0.0] * len(texts)
        owners, pieces = [], []
        for index, tokens in enumerate(texts):
            for piece in _pieces([*self._start, *tokens], self._context):
                owners.append(index)
                pieces.append(piece)
        for batch in length_batches([len(ids) for ids, _ in pieces], _TOKENS.get(self._device.type, _TOKENS["cpu"])):
            for index, nll in zip(batch, self._batch([pieces[index] for index in batch]), strict=True):
                totals[owners[index]] += nll
        return totals

    def _batch(self, pieces: Sequence[tuple[Sequence[int], int]]) -> list[float]:
        import torch

        longest = max(len(ids) for ids, _ in pieces)
        ids = torch.zeros(len(pieces), longest, dtype=torch.long)
        present = torch.zeros_like(ids)
        scored = torch.zeros(len(pieces), longest - 1, dtype=torch.bool)
        for row, (own, first) in enumerate(pieces):
            ids[row, : len(own)] = torch.tensor(own)
            present[row, : len(own)] = 1
            scored[row, first - 1 : len(own) - 1] = True
        ids, present, scored = (one.to(self._device) for one in (ids, present, scored))
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=present).logits[:, :-1]
            nll = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2).float(), ids[:, 1:], reduction="none"
            ).masked_fill(~scored, 0.0)
            return [float(one) for one in nll.double().sum(dim=1).cpu()]


def _pieces(tokens: Sequence[int], context: int) -> Iterator[tuple[Sequence[int], int]]:
    """Yield windows of a text and the place in each from which its tokens are scored, every token once.

    Args:
        tokens: A start token and a text.
        context: How many tokens the model sees at once.
    """
    yield tokens[:context], 1
    step = max(1, context // 2)
    for start in range(context, len(tokens), step):
        yield tokens[start + step - context : start + step], context - step
