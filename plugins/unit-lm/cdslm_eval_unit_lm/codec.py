"""Speech to units and back with the units of a checkpoint, without a language model."""

from __future__ import annotations

from pathlib import Path

import torch

from cdslm_eval.core.audio import Clip
from cdslm_eval_unit_lm.corpus import Prompt
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.train import KIND
from cdslm_eval_unit_lm.units import Ints, Units, Vectors
from cdslm_model import (
    Checkpoint,
    CheckpointError,
    LogMel,
    MelSpec,
    ModelError,
    Normalizer,
    find_checkpoint,
    find_vocoder,
    pick_device,
)

__all__ = ["UnitCodec", "find_unit_checkpoint", "weights_file"]


def find_unit_checkpoint(path: Path | str) -> Checkpoint:
    """Return the checkpoint of a unit language model.

    Raises:
        CheckpointError: There is none, or it is another model's.
    """
    latest = find_checkpoint(path)
    if latest.facts.get("kind") != KIND:
        raise CheckpointError(f"{latest.folder}: not a unit language model; name a run of unit-lm train")
    return latest


def weights_file(checkpoint: Checkpoint) -> str:
    """Return the file of the weights that generate: their average where the run kept one."""
    return "ema" if "ema.safetensors" in checkpoint.facts["files"] else "weights"


class UnitCodec:
    """Encoder from clips to the units of a checkpoint, and decoder from units to samples.

    Args:
        checkpoint: Of a run of `unit-lm`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the run's own.

    Attributes:
        settings: Of the run.
        device: Of the encoder.
        spec: Of the log-mels.
        units: Clusters with their tables.

    Raises:
        ModelError: The checkpoint cannot be used, its encoder is missing, or the vocoder needs other log-mels.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", vocoder: str | None = None) -> None:
        facts = checkpoint.facts
        self.settings = Settings.from_dict(facts["settings"])
        self.device = pick_device(device)
        self.spec = MelSpec(**facts["mel_spec"])
        self.units = Units.from_tensors(checkpoint.tensors("units"), facts["unit_rate_hz"], self.spec.frame_rate)
        self._log_mel = LogMel(self.spec)
        self._vocoder = find_vocoder(vocoder or self.settings.vocoder, self.spec)
        normalizer = Normalizer.from_dict(facts["normalizer"])
        self._features = find_features(self.settings, self.spec, normalizer, self.device)
        if self._features.digest != facts["features"]:
            raise ModelError(
                f"{self.settings.encoder}: its weights are not those that {checkpoint.folder} was trained with"
            )

    def encode(self, clip: Clip) -> Ints:
        """Return the units of a clip, int64 `[units]`; none where it is shorter than one."""
        return self.units.of(self._features(Prompt(clip, self._log_mel)))

    def decode(self, units: Ints, frames: int) -> Vectors:
        """Return the samples of units, stretched over a number of mel frames."""
        with torch.inference_mode():
            samples: Vectors = self._vocoder(self.units.log_mel(units, frames)[None])[0].cpu().numpy()
        return samples
