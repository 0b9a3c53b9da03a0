"""wav2vec 2.0, HuBERT and WavLM through transformers: the mean over time of a layer's output."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.models import device_of, padded_batch
from cdslm_eval_embeddings.batching import mask_group_norms, over_windows
from cdslm_eval_embeddings.checkpoint import Checkpoint
from cdslm_eval_embeddings.encoder import Encoder, Precision, Vectors

__all__ = ["HubertEncoder", "Wav2Vec2Encoder", "WavLMEncoder", "cut_after", "inference"]


class _WaveformEncoder(Encoder):
    """A transformer over a convolutional front end that reads the waveform."""

    kinds: ClassVar[tuple[str, ...]]

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        return Checkpoint(self.which, self.kinds)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of weights and configuration, and the engine's versions."""
        return {**self.checkpoint.fingerprint(), "normalizes": str(self.checkpoint.normalizes)}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the checkpoint, cut after the wanted layer."""
        from transformers import AutoModel

        network = self.checkpoint.load(AutoModel)
        cut_after(network.encoder, self.which, normalised_last=bool(network.config.do_stable_layer_norm))
        self._expect = mask_group_norms(network.feature_extractor.conv_layers)
        self._network = network.to(device_of(device))
        try:
            yield
        finally:
            del self._network, self._expect

    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return the mean output of the layer, float32 `[clips, hidden size]`."""
        return over_windows(clips, self._embed)

    def _embed(self, batch: list[Samples]) -> Vectors:
        import torch

        network = self._network
        samples, mask = padded_batch(batch, network.device, normalize=self.checkpoint.normalizes)
        self._expect([len(one) for one in batch])
        with inference(network, self.which.precision):
            hidden = network(samples, attention_mask=mask).last_hidden_state.float()
        frames = network._get_feat_extract_output_lengths(mask.sum(dim=1))  # noqa: SLF001 - transformers' own name
        real = (torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None])[..., None]
        means: Vectors = ((hidden * real).sum(dim=1) / frames[:, None]).cpu().numpy()
        return means


class WavLMEncoder(_WaveformEncoder):
    """WavLM."""

    kinds = ("wavlm",)


class Wav2Vec2Encoder(_WaveformEncoder):
    """wav2vec 2.0."""

    kinds = ("wav2vec2",)


class HubertEncoder(_WaveformEncoder):
    """HuBERT."""

    kinds = ("hubert",)


def cut_after(encoder: Any, which: Any, *, normalised_last: bool) -> None:
    """Drop the layers above the wanted one, and the norm behind them, so that they cost nothing.

    Args:
        encoder: A module with `layers` and `layer_norm`.
        which: Whose `layer` is wanted; None keeps everything.
        normalised_last: Whether `layer_norm` follows the last layer (otherwise it precedes the first).

    Raises:
        UsageError: There are not so many layers.
    """
    from torch import nn

    if which.layer is None:
        return
    if which.layer > len(encoder.layers):
        raise UsageError(f"layer={which.layer}: {which.model} has {len(encoder.layers)} layers")
    encoder.layers = encoder.layers[: which.layer]
    if normalised_last:
        encoder.layer_norm = nn.Identity()


@contextmanager
def inference(network: Any, precision: Precision) -> Iterator[None]:
    """Compute without gradients, in the wanted precision."""
    import torch

    half = precision == "bfloat16"
    with (
        warnings.catch_warnings(),
        torch.inference_mode(),
        torch.autocast(network.device.type, torch.bfloat16, enabled=half),
    ):
        # WavLM's attention hands torch a mask and a bias of two types; nothing that a user could fix
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        yield
