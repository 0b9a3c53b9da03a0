"""`speaker_similarity`: whether a clip keeps the voice of its reference clip or prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from pydantic import BaseModel

from cdslm_eval import Better, Mean, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.plugin.contract import Metric, Options, Row, Skipped, located
from cdslm_eval.plugin.models import unusable_reason
from cdslm_eval_embeddings import resemblyzer
from cdslm_eval_embeddings.checkpoint import Checkpoint
from cdslm_eval_embeddings.encoder import ENCODERS, RATE_HZ, Encoder, Precision, Vectors, Which
from cdslm_eval_embeddings.papers import GE2E
from cdslm_eval_embeddings.xvector import KINDS, XVectorEncoder

__all__ = ["SpeakerOptions", "SpeakerSimilarity"]

_OFFLINE = "resemblyzer"
_ON_THE_HUB = "microsoft/wavlm-base-plus-sv"


class SpeakerOptions(Options):
    """Which speaker embedding.

    Attributes:
        model: "resemblyzer", or the name on the Hugging Face hub, or the folder, of a checkpoint with an x-vector
            head. "" is Resemblyzer where it is installed, and else microsoft/wavlm-base-plus-sv.
        revision: Branch, tag or commit on the hub.
        precision: Of the checkpoint's arithmetic.
    """

    model: str = located("")
    revision: str | None = located(None)
    precision: Precision = "float32"


class SpeakerSimilarity(Metric):
    """Cosine similarity, -1..1, between the speaker embeddings of a clip and of its reference clip or prompt.

    Similarities of different encoders are on different scales and are never compared.

    Source: Wan et al. (2018), ICASSP, for Resemblyzer; Chen et al. (2022), "WavLM: Large-Scale Self-Supervised
    Pre-Training for Full Stack Speech Processing", and Snyder et al. (2018), ICASSP, for checkpoints.
    """

    name = "speaker_similarity"
    limits = "whether it sounds natural; noise and reverberation lower it as another voice does"
    version = "1"
    citation = (GE2E,)
    unit = "cosine"
    better: ClassVar[Better] = "higher"
    needs = frozenset({"audio", "reference_audio"})
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.6"}
    weights_licence = "Apache-2.0 (Resemblyzer); a checkpoint's own"
    rate_hz = RATE_HZ
    min_seconds = 0.5
    accepts_silence = False
    batch_clips = 16
    positional = "model"
    Options: ClassVar[type[BaseModel]] = SpeakerOptions
    statistics: ClassVar[dict[str, Statistic]] = {"speaker_similarity": Mean("similarity")}

    @classmethod
    def missing(cls) -> str | None:
        """Return the install command of the encoder that needs no download."""
        if not resemblyzer.usable() and find_spec("transformers") is None:
            return f"needs {resemblyzer.INSTALL}, and torch"
        return super().missing()

    @classmethod
    def fetches(cls) -> str | None:
        """Return the checkpoint's name unless Resemblyzer is installed or the checkpoint is in the cache."""
        if resemblyzer.usable() or Checkpoint(Which(_ON_THE_HUB), KINDS).here():
            return None
        return f"{_ON_THE_HUB} from huggingface.co"

    @cached_property
    def _encoder(self) -> Encoder:
        model = self.options.model or (_OFFLINE if resemblyzer.usable() else _ON_THE_HUB)
        if model == _OFFLINE:
            return ENCODERS[_OFFLINE].make(Which())
        return XVectorEncoder(Which(model, self.options.revision, precision=self.options.precision))

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights and configuration, and the engine's versions."""
        return self._encoder.fingerprint()

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the encoder."""
        with self._encoder.open(device):
            yield

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped]:
        """Yield the similarity of each clip to its reference."""
        reasons = [_unusable(clip) for clip in clips]
        samples: dict[int, Samples] = {}
        for clip, reason in zip(clips, reasons, strict=True):
            if not reason and clip.reference is not None:
                samples[id(clip)] = clip.samples
                samples[id(clip.reference)] = clip.reference.samples
        vectors = dict(zip(samples, self.embed(list(samples.values())), strict=True)) if samples else {}
        for clip, reason in zip(clips, reasons, strict=True):
            if reason:
                yield Skipped(reason)
                continue
            own, real = vectors[id(clip)], vectors[id(clip.reference)]
            yield {"similarity": float(own @ real / (np.linalg.norm(own) * np.linalg.norm(real)))}

    def embed(self, clips: Sequence[Samples]) -> Vectors:
        """Return speaker embeddings, float32 `[clips, dimensions]`."""
        return self._encoder.encode(clips)


def _unusable(clip: Clip) -> str:
    """Return why a clip or its reference has no speaker to compare, or ""."""
    if reason := unusable_reason(clip, SpeakerSimilarity.min_seconds):
        return reason
    if clip.reference is None:
        return "no reference audio"
    reason = unusable_reason(clip.reference, SpeakerSimilarity.min_seconds)
    return f"its reference: {reason}" if reason else ""
