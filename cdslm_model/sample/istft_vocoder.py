"""The vocoder that `cdslm vocoder train` made, as `--vocoder istft:RUN`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cdslm_model.checkpoint import Checkpoint, find_checkpoint
from cdslm_model.data.mel import MelSpec, Normalizer
from cdslm_model.errors import CheckpointError, ModelError
from cdslm_model.net.istft import IstftConfig, IstftNetwork
from cdslm_model.sample.pieces import SampleStream

__all__ = ["IstftVocoder"]

_PIECE_FRAMES = 4096
"""Frames of one pass, 51 s: memory does not grow with the length of a clip."""


class IstftVocoder:
    """A trained vocoder: log-mels to samples in one pass a piece, each sample as from the whole clip.

    Args:
        spec: Of the log-mels; `find_vocoder` compares it with that of the vocoder.
        argument: A run of `cdslm vocoder train`, or a checkpoint in it.

    Raises:
        ModelError: The argument names none.
        CheckpointError: It is of another kind of model, or damaged.
    """

    def __init__(self, spec: MelSpec, argument: str) -> None:
        del spec
        saved = _open(argument)
        try:
            self._spec = MelSpec(**saved.facts["mel_spec"])
            self._normalizer = Normalizer.from_dict(saved.facts["normalizer"])
            config = IstftConfig.from_dict(saved.facts["settings"]["config"])
        except (KeyError, TypeError, ModelError) as error:
            raise CheckpointError(f"{saved.folder}: sizes or log-mels that cannot be read: {error}") from error
        self._network = IstftNetwork(config).eval().requires_grad_(False)
        try:
            self._network.load_state_dict(saved.tensors("weights"))
        except RuntimeError as error:
            raise CheckpointError(f"{saved.folder}: weights of another network: {error}") from error

    @staticmethod
    def digest(argument: str) -> str:
        """Return the digest of a run's weights, which are part of what a generator's clips depend on."""
        digest: str = _open(argument).facts["files"]["weights.safetensors"]
        return digest

    @staticmethod
    def fixed(argument: str) -> str:
        """Return the last checkpoint of a run, or the checkpoint that is named."""
        return str(_open(argument).folder)

    @property
    def spec(self) -> MelSpec:
        """The log-mels."""
        return self._spec

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return samples `[batch, frames * hop]` of `[batch, frames, mels]`, on its device."""
        return self.stream().push(log_mel, last=True)

    def stream(self) -> SampleStream:
        """Return what decodes log-mels that arrive in parts, to the same samples."""
        reach = self._network.config.reach
        # what a sample depends on is in its piece, so that pieces join without a seam
        return SampleStream(self._piece, self._spec.hop, _PIECE_FRAMES, reach, reach)

    def _piece(self, log_mel: Tensor, lead: int, length: int, known: Tensor) -> Tensor:
        del known
        network, hop = self._network.to(log_mel.device), self._spec.hop
        with torch.inference_mode():
            samples: Tensor = network(self._normalizer.normalize(log_mel.float()))
        return samples[:, lead * hop : (lead + length) * hop]


def _open(argument: str) -> Checkpoint:
    if not argument:
        raise ModelError("istft needs the folder of a run of cdslm vocoder train; use istft:RUN")
    saved = find_checkpoint(Path(argument))
    if saved.facts.get("kind") != "vocoder":
        raise CheckpointError(f"{saved.folder}: a checkpoint of another kind; name a run of cdslm vocoder train")
    return saved
