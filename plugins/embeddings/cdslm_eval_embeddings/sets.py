"""The metrics over sets of embeddings: fad, kad and diversity, which share the embeddings of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cdslm_eval import Better, Frechet, KernelDistance, PairwiseDistance, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Metric, Options, Row, Skipped, located
from cdslm_eval.plugin.models import unusable_reason
from cdslm_eval_embeddings.encoder import ENCODERS, RATE_HZ, Encoder, Precision, Which
from cdslm_eval_embeddings.papers import FAD, KAD

__all__ = ["Diversity", "EmbeddingOptions", "Fad", "Kad"]


class EmbeddingOptions(Options):
    """Which embedding; metrics with equal options share it.

    Attributes:
        encoder: "logmel" and "resemblyzer" (a speaker encoder) work offline; the others are transformers checkpoints.
        model: Name on the Hugging Face hub, or a folder that `save_pretrained` wrote; "" is the encoder's default.
        revision: Branch, tag or commit on the hub.
        layer: Transformer layer whose mean over time is the embedding: 0 its input, None the last.
        precision: Of a checkpoint's arithmetic.
    """

    encoder: Literal["logmel", "resemblyzer", "wavlm", "wav2vec2", "hubert", "whisper"] = "logmel"
    model: str = located("")
    revision: str | None = located(None)
    layer: int | None = Field(default=None, ge=0)
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _only_what_there_is(self) -> Self:
        chosen = self.model or self.revision or self.layer is not None or self.precision != "float32"
        if not ENCODERS[self.encoder].model and chosen:
            others = ", ".join(name for name, family in ENCODERS.items() if family.model)
            raise ValueError(f"{self.encoder} has no model, layer or precision; name an encoder: {others}")
        return self


class _EmbeddingMetric(Metric):
    """Yields one vector per clip; what is made of them is the statistic's affair."""

    rows = "embedding@1"
    rate_hz = RATE_HZ
    min_seconds = 0.1
    accepts_silence = False
    batch_clips = 64
    positional = "encoder"
    Options = EmbeddingOptions

    @cached_property
    def _encoder(self) -> Encoder:
        options: EmbeddingOptions = self.options
        family = ENCODERS[options.encoder]
        return family.make(Which(options.model or family.model, options.revision, options.layer, options.precision))

    def fingerprint(self) -> Mapping[str, str]:
        """Return digests and versions of what the encoder computes with."""
        return self._encoder.fingerprint()

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the encoder."""
        with self._encoder.open(device):
            yield

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped]:
        """Yield the embedding of each clip."""
        refused = [unusable_reason(clip, self.min_seconds) for clip in clips]
        fit = [clip.samples for clip, why in zip(clips, refused, strict=True) if not why]
        vectors = iter(self._encoder.encode(fit) if fit else ())
        for why in refused:
            yield Skipped(why) if why else {"embedding": next(vectors)}


class Fad(_EmbeddingMetric):
    """Fréchet audio distance between the embeddings of a system's clips and of real speech, one vector per clip.

    Source: Kilgour et al. (2019), "Fréchet Audio Distance: A Reference-Free Metric for Evaluating Music Enhancement
    Algorithms", Interspeech.
    """

    name = "fad"
    limits = "what moved it, sound or content: that is the encoder's choice"
    version = "3"
    citation = (FAD,)
    better: ClassVar[Better] = "lower"
    statistics: ClassVar[dict[str, Statistic]] = {"fad": Frechet("embedding")}


class Kad(_EmbeddingMetric):
    """Kernel audio distance: 100 times the unbiased squared MMD between embeddings, one vector per clip.

    Source: Chung et al. (2025), "KAD: No More FAD! An Effective and Efficient Evaluation Metric for Audio
    Generation", ICML.
    """

    name = "kad"
    limits = "what moved it, sound or content: that is the encoder's choice"
    version = "4"
    citation = (KAD,)
    better: ClassVar[Better] = "lower"
    statistics: ClassVar[dict[str, Statistic]] = {"kad": KernelDistance("embedding")}


class Diversity(_EmbeddingMetric):
    """Mean cosine distance between the embeddings of different clips; names clips that copy others.

    Noise is diverse too: read it beside its floor, which is the reference's own diversity.
    """

    name = "diversity"
    limits = "whether what varies is any good: noise varies too"
    version = "1"
    unit = "cosine distance"
    better: ClassVar[Better] = "higher"
    statistics: ClassVar[dict[str, Statistic]] = {"diversity": PairwiseDistance("embedding")}
