"""Speaker embeddings by transformers: checkpoints with an x-vector head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

from cdslm_eval.core.audio import Samples
from cdslm_eval.plugin.models import device_of, padded_batch
from cdslm_eval_embeddings.batching import mask_group_norms, over_windows
from cdslm_eval_embeddings.checkpoint import Checkpoint
from cdslm_eval_embeddings.encoder import Encoder, Vectors
from cdslm_eval_embeddings.transformer import inference

__all__ = ["KINDS", "XVectorEncoder"]

KINDS = ("wavlm", "wav2vec2", "unispeech-sat")


class XVectorEncoder(Encoder):
    """An x-vector network over a waveform transformer.

    Source: Snyder et al. (2018), "X-Vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP.
    """

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        return Checkpoint(self.which, KINDS)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights and configuration, and the engine's versions."""
        return {**self.checkpoint.fingerprint(), "normalizes": str(self.checkpoint.normalizes)}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint."""
        from transformers import AutoModelForAudioXVector

        network = self.checkpoint.load(AutoModelForAudioXVector)
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

    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return speaker embeddings, float32 `[clips, dimensions]`."""
        return over_windows(clips, self._embed)

    def _embed(self, batch: list[Samples]) -> Vectors:
        network = self._network
        samples, mask = padded_batch(batch, network.device, normalize=self.checkpoint.normalizes)
        self._expect([len(clip) for clip in batch])
        with inference(network, self.which.precision):
            vectors: Vectors = network(samples, attention_mask=mask).embeddings.float().cpu().numpy()
        return vectors
