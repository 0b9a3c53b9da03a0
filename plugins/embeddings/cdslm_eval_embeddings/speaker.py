"""Whether a clip sounds like the speaker of its reference clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import ClassVar

import numpy as np

from cdslm_eval import Better, Mean, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.plugin.contract import Metric, Options, Row, Skipped, located
from cdslm_eval.plugin.models import device_of, padded_batch, unusable_reason
from cdslm_eval_embeddings.batching import mask_group_norms, over_windows
from cdslm_eval_embeddings.checkpoint import Checkpoint
from cdslm_eval_embeddings.encoder import RATE_HZ, Precision, Vectors, Which
from cdslm_eval_embeddings.transformer import inference

__all__ = ["SpeakerOptions", "SpeakerSimilarity"]

_KINDS = ("wavlm", "wav2vec2", "unispeech-sat")


class SpeakerOptions(Options):
    """Which speaker embedding.

    Attributes:
        model: Name on the Hugging Face hub, or a folder, of a checkpoint with an x-vector head.
        revision: Branch, tag or commit on the hub.
        precision: Of the checkpoint's arithmetic.
    """

    model: str = located("microsoft/wavlm-base-plus-sv")
    revision: str | None = located(None)
    precision: Precision = "float32"


class SpeakerSimilarity(Metric):
    """Cosine similarity, -1..1, between the speaker embeddings of a clip and of its reference clip or prompt.

    Source: Chen et al. (2022), "WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing",
    for the default checkpoint; x-vectors by Snyder et al. (2018), ICASSP.
    """

    name = "speaker_similarity"
    version = "1"
    unit = "cosine"
    better: ClassVar[Better] = "higher"
    needs = frozenset({"audio", "reference_audio"})
    requires: ClassVar[Mapping[str, str]] = {"torch": "torch>=2.6", "transformers": "transformers>=4.50"}
    weights_licence = "the checkpoint's own"
    rate_hz = RATE_HZ
    min_seconds = 0.5
    accepts_silence = False
    batch_clips = 16
    positional = "model"
    Options = SpeakerOptions
    statistics: ClassVar[dict[str, Statistic]] = {"speaker_similarity": Mean("similarity")}

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(Which(self.options.model, self.options.revision), _KINDS)

    @classmethod
    def fetches(cls) -> str | None:
        """Return the checkpoint's name unless it is in the cache."""
        default = SpeakerOptions().model
        return None if Checkpoint(Which(default), _KINDS).here() else f"{default} from huggingface.co"

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights and configuration, and the engine's versions."""
        return {**self._checkpoint.fingerprint(), "normalizes": str(self._checkpoint.normalizes)}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint."""
        from transformers import AutoModelForAudioXVector

        network = self._checkpoint.load(AutoModelForAudioXVector)
        base = getattr(network, network.base_model_prefix)
        self._expect = mask_group_norms(base.feature_extractor.conv_layers)
        lost = sum(
            (kernel - 1) * dilation
            for kernel, dilation in zip(network.config.tdnn_kernel, network.config.tdnn_dilation, strict=True)
        )
        # transformers' own count forgets the dilation, and would pool frames that padding has touched
        network._get_tdnn_output_lengths = lambda frames: frames - lost  # noqa: SLF001
        self._network = network.to(device_of(device))
        try:
            yield
        finally:
            del self._network, self._expect

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped]:
        """Yield the similarity of each clip to its reference."""
        refused = [_refused(clip) for clip in clips]
        samples_of: dict[int, Samples] = {}
        for clip, why in zip(clips, refused, strict=True):
            if not why and clip.reference is not None:
                samples_of[id(clip)] = clip.samples
                samples_of[id(clip.reference)] = clip.reference.samples
        vectors = dict(zip(samples_of, self.embed(list(samples_of.values())), strict=True)) if samples_of else {}
        for clip, why in zip(clips, refused, strict=True):
            if why:
                yield Skipped(why)
                continue
            own, real = vectors[id(clip)], vectors[id(clip.reference)]
            yield {"similarity": float(own @ real / (np.linalg.norm(own) * np.linalg.norm(real)))}

    def embed(self, clips: Sequence[Samples]) -> Vectors:
        """Return speaker embeddings, float32 `[clips, dimensions]`."""
        return over_windows(clips, self._embed)

    def _embed(self, batch: list[Samples]) -> Vectors:
        network = self._network
        samples, mask = padded_batch(batch, network.device, normalize=self._checkpoint.normalizes)
        self._expect([len(one) for one in batch])
        with inference(network, self.options.precision):
            vectors: Vectors = network(samples, attention_mask=mask).embeddings.float().cpu().numpy()
        return vectors


def _refused(clip: Clip) -> str:
    """Return why a clip or its reference has no speaker to compare, or ""."""
    if why := unusable_reason(clip, SpeakerSimilarity.min_seconds):
        return why
    if clip.reference is None:
        return "no reference audio"
    why = unusable_reason(clip.reference, SpeakerSimilarity.min_seconds)
    return f"its reference: {why}" if why else ""
