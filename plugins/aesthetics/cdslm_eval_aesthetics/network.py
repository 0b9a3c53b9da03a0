"""The network over windows of any length, computed as if each were padded to 10 s, without computing the padding.

Upstream pads every window to 10 s and masks the padding in the transformer. Only the group norm of the first
convolution sees the padding: its mean and variance run over all 10 s. Zeros add nothing to a sum, so the sums of the
window itself, divided by the frames of 10 s, are the same statistics, and a 3 s window costs 3 s.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from audiobox_aesthetics.model import aes
from torch import Tensor, nn

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.models import length_batches
from cdslm_eval_aesthetics.weights import AXES, Loaded

__all__ = ["Network"]

WINDOW = 160_000
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
HOP, RECEPTIVE = 320, 400  # of all convolutions together, in samples
FRAMES = (WINDOW - RECEPTIVE) // HOP + 1
FIRST_FRAMES = (WINDOW - KERNELS[0]) // STRIDES[0] + 1
_SECONDS = {"cpu": 10, "cuda": 640}  # of padded audio in one batch; more of it leaves a processor's caches


class Network:
    """The network and its weights, ready to score.

    Args:
        loaded: A checkpoint.
        device: Where to run.
        precision: torch.float32, or what autocast computes in.

    Raises:
        EvalError: The checkpoint is not of this network.
    """

    def __init__(self, loaded: Loaded, device: torch.device, precision: torch.dtype) -> None:
        self._device, self._precision = device, precision
        self._module = _built(loaded).to(device).eval()
        scale = torch.tensor([loaded.scale[axis] for axis in AXES], device=device)
        self._mean, self._std = scale[:, 0], scale[:, 1]

    def scores(self, windows: Sequence[Samples]) -> npt.NDArray[np.float64]:
        """Return the de-normalised scores of windows.

        Args:
            windows: float32 `[samples]` at 16 kHz each, 1 to 160,000 samples.

        Returns:
            float64 `[windows, 4]`, in the order CE, CU, PC, PQ.
        """
        predictions = np.empty((len(windows), len(AXES)))
        frames = [_frames(len(window)) for window in windows]
        budget = _SECONDS.get(self._device.type, _SECONDS["cpu"]) * FRAMES // 10
        for batch in length_batches(frames, budget):
            predictions[batch] = self._batch([windows[index] for index in batch])
        return predictions

    def _batch(self, windows: Sequence[Samples]) -> npt.NDArray[np.float64]:
        most = max(_frames(len(window)) for window in windows)
        padded = np.zeros((len(windows), WINDOW if most == FRAMES else (most - 1) * HOP + RECEPTIVE), np.float32)
        for row, window in enumerate(windows):
            padded[row, : len(window)] = window[: padded.shape[1]]
        own = torch.tensor([_frames(len(window)) for window in windows])
        absent = torch.arange(most)[None, :] >= own[:, None]
        samples, absent = torch.from_numpy(padded).to(self._device), absent.to(self._device)
        half = self._precision != torch.float32
        with torch.inference_mode():
            with torch.autocast(self._device.type, self._precision, enabled=half):
                layers = self._module.layers(samples, absent)
            # averages over frames lose their last bits in half precision, and cost nothing in full
            scores = self._module.heads(layers, absent) * self._std + self._mean
        return scores.double().cpu().numpy()


class _Axes(nn.Module):
    """Upstream's encoder and heads under upstream's parameter names.

    Args:
        encoder: Sizes of the WavLM encoder.
        config: Arguments of the heads.
    """

    def __init__(self, encoder: Any, config: Any) -> None:
        super().__init__()
        self.layer = int(config["nth_layer"])
        self.normalize = bool(config["normalize_embed"])
        with _no_deprecations():
            self.wavlm_model = aes.WavLM(encoder)
        layers = (int(config["proj_num_layer"]), config["proj_act_fn"], bool(config["proj_ln"]))
        sizes = (encoder.encoder_embed_dim, int(config["output_dim"]))
        self.proj_layer = nn.ModuleDict({axis: nn.Sequential(*aes.create_mlp_block(*sizes, *layers)) for axis in AXES})
        self.layer_weights = nn.ParameterDict({axis: nn.Parameter(torch.ones(self.layer)) for axis in AXES})

    def layers(self, samples: Tensor, absent: Tensor) -> list[Tensor]:
        """Return the hidden states that the heads read, the encoder's input first.

        Args:
            samples: float32 `[windows, samples]`, zero behind the end of each window.
            absent: bool `[windows, frames]`, True where a frame lies in the padding.

        Returns:
            `[frames, windows, width]` each.
        """
        encoder = self.wavlm_model
        first, *others = encoder.feature_extractor.conv_layers
        hidden = first[3](_norm_of_padded(first[0](samples[:, None]), first[2]))
        for layer in others:
            hidden = layer(hidden)
        hidden = encoder.layer_norm(hidden.transpose(1, 2))
        if encoder.post_extract_proj is not None:
            hidden = encoder.post_extract_proj(hidden)
        with _no_deprecations():
            _, predictions = encoder.encoder(hidden, padding_mask=absent, layer=self.layer - 1)
        return [layer for layer, _ in predictions]

    def heads(self, layers: Sequence[Tensor], absent: Tensor) -> Tensor:
        """Return the normalised scores, `[windows, 4]`, of what `layers` gave."""
        present = (~absent).float()
        pooled = torch.stack([torch.einsum("tbc,bt->bc", layer.float(), present) for layer in layers])
        pooled = pooled / present.sum(dim=1)[None, :, None]
        scores = []
        for axis in AXES:
            embedding = torch.einsum("lbc,l->bc", pooled, self.layer_weights[axis].softmax(dim=-1))
            if self.normalize:
                embedding = nn.functional.normalize(embedding, dim=-1)
            scores.append(self.proj_layer[axis](embedding).squeeze(-1))
        return torch.stack(scores, dim=-1)


@contextmanager
def _no_deprecations() -> Iterator[None]:
    """Silence torch's warnings about upstream's code, which a user cannot fix."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm.*", FutureWarning)
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
        yield


def _norm_of_padded(hidden: Tensor, norm: Any) -> Tensor:
    """Return the first convolution's output normalised per channel over all frames of 10 s, most of them zero.

    Args:
        hidden: `[windows, channels, frames]`; frames that are not there are zero.
        norm: Upstream's group norm, one group a channel.
    """
    x = hidden.float()
    mean = x.sum(dim=-1, keepdim=True) / FIRST_FRAMES
    centred = x - mean
    squares = centred.square().sum(dim=-1, keepdim=True) + (FIRST_FRAMES - x.shape[-1]) * mean.square()
    scaled = centred * torch.rsqrt(squares / FIRST_FRAMES + norm.eps)
    normal: Tensor = scaled * norm.weight.float()[:, None] + norm.bias.float()[:, None]
    return normal.type_as(hidden)


def _frames(samples: int) -> int:
    """Return how many frames of a window upstream's mask leaves: those of which any sample is the window's own."""
    return min(FRAMES, -(-samples // HOP))


def _built(loaded: Loaded) -> _Axes:
    if not loaded.config.get("use_weighted_layer_sum", True):
        raise EvalError(f"{loaded.origin}: use_weighted_layer_sum is off, for which upstream has no working network")
    try:
        # what a configuration leaves out has upstream's default, as in upstream's own loading
        defaults = {field.name: field.default for field in dataclasses.fields(aes.AesMultiOutput)}
        module = _Axes(_encoder_sizes(loaded.tensors), {**defaults, **loaded.config})
        module.load_state_dict(dict(loaded.tensors), strict=True)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())[:160]
        raise EvalError(
            f"{loaded.origin}: no Audiobox Aesthetics checkpoint ({message}); give another as model="
        ) from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values()):
        raise EvalError(f"{loaded.origin}: weights that are not finite; download it again")
    return module


def _encoder_sizes(tensors: Any) -> Any:
    """Return upstream's configuration of the encoder with the widths and depth that the weights have."""
    own = "wavlm_model."
    convolutions = [tensors[f"{own}feature_extractor.conv_layers.{index}.0.weight"] for index in range(len(KERNELS))]
    if tuple(convolution.shape[2] for convolution in convolutions) != KERNELS:
        raise ValueError("other convolutions than WavLM's")
    shapes = [
        (convolution.shape[0], kernel, stride)
        for convolution, kernel, stride in zip(convolutions, KERNELS, STRIDES, strict=True)
    ]
    buckets, heads = tensors[f"{own}encoder.layers.0.self_attn.relative_attention_bias.weight"].shape
    position = tensors[f"{own}encoder.pos_conv.0.weight_v"].shape
    width = position[0]
    depth = 1 + max(int(name.split(".")[3]) for name in tensors if name.startswith(f"{own}encoder.layers."))
    return aes.WavLMConfig(
        {
            **vars(aes.DEFAULT_AUDIO_CFG),
            "conv_feature_layers": repr(shapes),
            "encoder_layers": depth,
            "encoder_embed_dim": width,
            "encoder_ffn_embed_dim": tensors[f"{own}encoder.layers.0.fc1.weight"].shape[0],
            "encoder_attention_heads": heads,
            "num_buckets": buckets,
            "conv_pos": position[2],
            "conv_pos_groups": width // position[1],
        }
    )
