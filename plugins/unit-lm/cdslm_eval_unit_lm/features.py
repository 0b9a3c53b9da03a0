"""Features for clustering: log-mel frames, or the output of a layer of a transformers speech encoder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_eval_unit_lm.settings import Settings
from cdslm_model import DataError, MelSpec, ModelError, Normalizer, sha256

__all__ = ["EncoderFeatures", "Features", "LogMelFeatures", "Speech", "find_features"]

Vectors = npt.NDArray[np.float32]
_ENCODER_RATE_HZ = 16_000
_WINDOW_SECONDS = 20.0


class Speech(Protocol):
    """One clip, as log-mels or as samples."""

    def log_mel(self) -> Tensor:
        """Return the log-mel `[frames, mels]`."""

    def samples(self, rate_hz: int) -> npt.NDArray[np.float32]:
        """Return samples `[samples]` at a rate; raises `DataError` where they cannot be read."""


class Features(ABC):
    """Speech -> vectors at an even rate.

    Attributes:
        rate_hz: Vectors a second.
        digest: Identity; equal if and only if the same speech gives the same vectors.
    """

    rate_hz: float
    digest: str

    @abstractmethod
    def __call__(self, speech: Speech) -> Vectors:
        """Return float32 `[vectors, dimensions]`."""


class LogMelFeatures(Features):
    """Normalised log-mel frames, `stride` of them concatenated."""

    def __init__(self, spec: MelSpec, normalizer: Normalizer, stride: int) -> None:
        self._normalizer, self._stride = normalizer, stride
        self.rate_hz = spec.frame_rate / stride
        self.digest = f"log-mel {spec.digest} {normalizer.digest} {stride}"

    def __call__(self, speech: Speech) -> Vectors:
        """Return float32 `[frames // stride, stride * mels]`."""
        values = self._normalizer.normalize(speech.log_mel())
        whole = len(values) // self._stride * self._stride
        return values[:whole].reshape(whole // self._stride, self._stride * values.shape[1]).numpy()


class EncoderFeatures(Features):
    """Hidden states of wav2vec 2.0, HuBERT, WavLM or another encoder that reads the waveform at 16 kHz.

    Long clips are read in windows of 20 s.

    Args:
        folder: Of `save_pretrained`, with safetensors weights.
        layer: 1 is the first transformer layer's output.
        device: Of the encoder.

    Raises:
        ModelError: It cannot be loaded, or has fewer layers.
    """

    def __init__(self, folder: str, layer: int, device: torch.device) -> None:
        from transformers import AutoModel

        if not (Path(folder) / "model.safetensors").is_file():
            raise ModelError(f"{folder}: no model.safetensors in it; name the folder of a transformers speech encoder")
        try:
            model, report = AutoModel.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder}: not a speech encoder: {str(error).splitlines()[0]}") from error
        # the training mask that some checkpoints lack is not used here
        if absent := {name for name in report["missing_keys"] if not name.endswith("masked_spec_embed")}:
            raise ModelError(f"{folder}: lacks weights, {min(absent)} for one")
        layers = int(getattr(model.config, "num_hidden_layers", 0))
        if not 1 <= layer <= layers:
            raise ModelError(f"{folder}: has {layers} layers; there is no layer {layer}")
        self._model: Any = model.to(device).eval()
        self._layer, self._device = layer, device
        self._hop = int(np.prod(model.config.conv_stride))
        self._normalize = _normalizes(Path(folder))
        self.rate_hz = _ENCODER_RATE_HZ / self._hop
        self.digest = f"encoder {sha256(Path(folder) / 'model.safetensors')} {layer}"

    def __call__(self, speech: Speech) -> Vectors:
        """Return float32 `[vectors, hidden size]`; of clips shorter than the encoder's window, none."""
        samples = speech.samples(_ENCODER_RATE_HZ)
        if self._normalize and len(samples):
            # over the whole clip and with 1e-7, as in transformers' Wav2Vec2FeatureExtractor
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        # a multiple of the hop, so that vectors continue evenly from window to window
        size = int(_WINDOW_SECONDS * _ENCODER_RATE_HZ) // self._hop * self._hop
        parts = [self._hidden(samples[start : start + size]) for start in range(0, len(samples), size)]
        return np.concatenate(parts) if parts else np.zeros((0, self._model.config.hidden_size), np.float32)

    @torch.inference_mode()
    def _hidden(self, samples: npt.NDArray[np.float32]) -> Vectors:
        # padded by half of the difference of window and hop on both sides, so that vector i covers hop i
        vectors = len(samples) // self._hop
        if not vectors:
            return np.zeros((0, self._model.config.hidden_size), np.float32)
        # receptive field of one vector, from the last convolution back to the samples
        around = 1
        for kernel, stride in zip(
            reversed(self._model.config.conv_kernel), reversed(self._model.config.conv_stride), strict=True
        ):
            around = (around - 1) * stride + kernel
        side = (around - self._hop + 1) // 2
        # a hop more on the right, cut off below: rounding must not cost the last vector
        whole = np.pad(samples.astype(np.float32), (side, side + self._hop))
        states = self._model(torch.from_numpy(whole)[None].to(self._device), output_hidden_states=True).hidden_states
        hidden: Vectors = states[self._layer][0, :vectors].float().cpu().numpy()
        return hidden


def find_features(settings: Settings, spec: MelSpec, normalizer: Normalizer, device: torch.device) -> Features:
    """Return the features of the settings."""
    if settings.encoder is None:
        return LogMelFeatures(spec, normalizer, settings.stride)
    return EncoderFeatures(settings.encoder, settings.layer, device)


def _normalizes(folder: Path) -> bool:
    """Return whether the encoder needs samples of mean 0 and variance 1, transformers' default."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return True
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))
    except ValueError as error:
        raise DataError(f"{path}: damaged: not JSON ({error})") from error
