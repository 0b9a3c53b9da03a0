"""Whisper's encoder through transformers: the mean over the frames that hold the clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Samples
from cdslm_eval.plugin.models import device_of
from cdslm_eval_embeddings.batching import over_windows
from cdslm_eval_embeddings.checkpoint import Checkpoint
from cdslm_eval_embeddings.encoder import RATE_HZ, Encoder, Vectors
from cdslm_eval_embeddings.transformer import cut_after, inference

__all__ = ["WhisperEncoder"]

_HOP = 160
_FRAME_SAMPLES = 2 * _HOP
_AT_ONCE = 8


class WhisperEncoder(Encoder):
    """Whisper's encoder; every window is padded to the length that it was trained on, so batches change nothing."""

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        return Checkpoint(self.which, ("whisper",))

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights and configuration, and the engine's versions."""
        return self.checkpoint.fingerprint()

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint and drop its decoder."""
        from transformers import AutoModel, WhisperFeatureExtractor

        network = self.checkpoint.load(AutoModel).get_encoder()
        cut_after(network, self.which, normalised_last=True)
        extractor: Any = WhisperFeatureExtractor  # its constructor carries no types
        self._features = extractor(feature_size=network.config.num_mel_bins, hop_length=_HOP)
        self._samples = network.config.max_source_positions * _FRAME_SAMPLES
        self._network = network.to(device_of(device))
        try:
            yield
        finally:
            del self._network, self._features

    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return the mean output of the layer, float32 `[clips, hidden size]`."""
        return over_windows(clips, self._embed, self._samples / RATE_HZ)

    def _embed(self, batch: list[Samples]) -> Vectors:
        """Run a few windows at once: each costs the full length, however short the clip."""
        return np.concatenate([self._few(batch[at : at + _AT_ONCE]) for at in range(0, len(batch), _AT_ONCE)])

    def _few(self, batch: list[Samples]) -> Vectors:
        import torch

        network = self._network
        features = self._features(
            batch, sampling_rate=RATE_HZ, max_length=self._samples, return_tensors="pt"
        ).input_features
        with inference(network, self.which.precision):
            hidden = network(features.to(network.device)).last_hidden_state.float()
        means = [
            rows[: max(1, -(-len(samples) // _FRAME_SAMPLES))].mean(dim=0)
            for rows, samples in zip(hidden, batch, strict=True)
        ]
        vectors: Vectors = torch.stack(means).cpu().numpy()
        return vectors
