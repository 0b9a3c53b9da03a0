"""The speaker encoder inside the `Resemblyzer` wheel: an LSTM over 40 mel bands, trained with the GE2E loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.models import device_of, distribution_file
from cdslm_eval_embeddings.encoder import RATE_HZ, Encoder, Vectors

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["BANDS", "INSTALL", "ResemblyzerEncoder", "mel_power", "part_starts", "usable", "weights_path"]

INSTALL = "pip install --no-deps Resemblyzer==0.1.4"
TORCH = "pip install 'cdslm-eval-embeddings[speakers]'"
BANDS = 40
DIMENSIONS = 256
PART_FRAMES = 160
"""Frames that the network reads at a time, 1.6 s."""
_LAYERS = 3
_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
_WINDOW, _HOP = 400, 160
_PARTS_PER_S = 1.3
_LEAST_COVERAGE = 0.75
"""Share of the last part that must hold samples, else it is left out."""
_LEVEL_DBFS = -30.0
_BATCH_PARTS = 128
_LINEAR_HZ, _LOG_FROM_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


class ResemblyzerEncoder(Encoder):
    """256 numbers, of unit length and none negative, that describe the voice of a clip.

    Quiet clips are raised to -30 dBFS, as in the package. Its trimming of silences (webrtcvad) is left out, so that an
    embedding needs no compiler; `activity` of cdslm-eval-perceptual measures silences.

    Source: Wan et al. (2018), "Generalized End-to-End Loss for Speaker Verification", ICASSP; weights of Resemblyzer
    0.1.4 (Apache-2.0).
    """

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the weights and the engine's version."""
        if find_spec("torch") is None:
            raise UsageError(f"resemblyzer needs torch. Install: {TORCH}")
        return {"resemblyzer/pretrained.pt": _SHA256, "torch": version("torch")}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network.

        Raises:
            UsageError: Resemblyzer or torch is not installed.
            EvalError: The weights are other ones.
        """
        if find_spec("torch") is None:
            raise UsageError(f"resemblyzer needs torch. Install: {TORCH}")
        target = device_of(device)
        self._network = _load(weights_path()).to(target)
        self._device = target
        try:
            yield
        finally:
            del self._network, self._device

    def encode(self, clips: Sequence[Samples]) -> Vectors:
        """Return float32 `[clips, 256]`: the normalized mean over parts of 1.6 s, 1.3 of them a second."""
        import torch

        owners: list[int] = []
        parts: list[npt.NDArray[np.float32]] = []
        sums = np.zeros((len(clips), DIMENSIONS), np.float32)

        def flush() -> None:
            if parts:
                with torch.inference_mode():
                    batch = torch.from_numpy(np.stack(parts)).to(self._device)
                    np.add.at(sums, owners, _embed(self._network, batch).cpu().numpy())
                owners.clear()
                parts.clear()

        for index, samples in enumerate(clips):
            starts = part_starts(len(samples))
            end = (starts[-1] + PART_FRAMES) * _HOP
            mels = mel_power(np.pad(_raised(samples), (0, max(0, end - len(samples)))))
            for start in starts:
                owners.append(index)
                parts.append(mels[start : start + PART_FRAMES])
                if len(parts) == _BATCH_PARTS:
                    flush()
        flush()
        vectors: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return vectors


def usable() -> bool:
    """Return whether Resemblyzer is installed; imports nothing."""
    return find_spec("resemblyzer") is not None


def weights_path() -> Path:
    """Return the verified path of the weights; the package's code, which needs webrtcvad, is not imported."""
    return distribution_file("Resemblyzer==0.1.4", "resemblyzer/pretrained.pt", _SHA256, install=INSTALL)


def part_starts(n_samples: int) -> list[int]:
    """Return the first frame of each part of 160 frames that the network reads.

    Args:
        n_samples: Length of the clip at 16 kHz.

    Example:
        >>> part_starts(16_000), part_starts(48_000)
        ([0], [0, 77, 154])
    """
    frames = -(-(n_samples + 1) // _HOP)
    step = round(RATE_HZ / _PARTS_PER_S / _HOP)
    starts = list(range(0, max(1, frames - PART_FRAMES + step + 1), step))
    coverage = (n_samples - starts[-1] * _HOP) / (PART_FRAMES * _HOP)
    return starts[:-1] if coverage < _LEAST_COVERAGE and len(starts) > 1 else starts


def mel_power(samples: Samples) -> npt.NDArray[np.float32]:
    """Return mel power, float32 `[frames, 40]`: windows of 25 ms, one each 10 ms, centred, zeros beyond the ends.

    Args:
        samples: float32 `[samples]` at 16 kHz.
    """
    padded = np.pad(samples, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    blocks = []
    # block by block, so that an hour of speech needs no more memory than its bands
    for start in range(0, len(frames), 4096):
        spectrum = np.fft.rfft(frames[start : start + 4096] * window)
        blocks.append((spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _filters())
    return np.concatenate(blocks)


@cache
def _filters() -> npt.NDArray[np.float32]:
    """Return Slaney's triangular filters of unit area from 0 to 8 kHz, float32 `[201, 40]`.

    Source: M. Slaney, "Auditory Toolbox", 1998; equal to `librosa.filters.mel`.
    """
    log_from_mel = _LOG_FROM_HZ / _LINEAR_HZ
    top_mel = log_from_mel + np.log(RATE_HZ / 2 / _LOG_FROM_HZ) / _LOG_STEP
    mels = np.linspace(0, top_mel, BANDS + 2)
    edges_hz = np.where(
        mels < log_from_mel, mels * _LINEAR_HZ, _LOG_FROM_HZ * np.exp(_LOG_STEP * (mels - log_from_mel))
    )
    bins_hz = np.fft.rfftfreq(_WINDOW, 1 / RATE_HZ)[:, None]
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    filters: npt.NDArray[np.float32] = (
        np.maximum(0, np.minimum(rising, falling)) * 2 / (edges_hz[2:] - edges_hz[:-2])
    ).astype(np.float32)
    return filters


def _raised(samples: Samples) -> Samples:
    """Return samples of at least -30 dBFS; louder ones as they are."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    gain = 10 ** (_LEVEL_DBFS / 20) / rms
    return samples * np.float32(gain) if gain > 1 else samples


def _load(path: Path) -> nn.ModuleDict:
    """Return the network in evaluation mode; nothing is unpickled but tensors."""
    import torch
    from torch import nn

    network = nn.ModuleDict(
        {"lstm": nn.LSTM(BANDS, DIMENSIONS, _LAYERS, batch_first=True), "linear": nn.Linear(DIMENSIONS, DIMENSIONS)}
    )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        # scale and offset of the similarity matrix are the training loss's
        network.load_state_dict({name: state[name] for name in network.state_dict()})
    except (RuntimeError, KeyError, ValueError) as error:
        raise EvalError(f"{path}: no speaker encoder of Resemblyzer: {str(error).splitlines()[0]}") from error
    return network.eval()


def _embed(network: Any, mels: torch.Tensor) -> torch.Tensor:
    """Return unit vectors `[parts, 256]` of mel power `[parts, 160, 40]`."""
    import torch

    _, (hidden, _) = network["lstm"](mels)
    vectors = torch.relu(network["linear"](hidden[-1]))
    unit: torch.Tensor = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return unit
