"""Speech as units and back: what a checkpoint's units hear, and what they sound like; no language model."""

from __future__ import annotations

from pathlib import Path

import torch

from cdslm_eval.core.audio import Clip
from cdslm_eval_unit_lm.corpus import Prompt
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.train import KIND
from cdslm_eval_unit_lm.units import Ints, Units, Vectors
from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.errors import CheckpointError, ModelError
from cdslm_model.sample.vocoder import find as find_vocoder
from cdslm_model.train import checkpoint
from cdslm_model.train.distributed import pick_device

__all__ = ["Voice", "find"]


def find(path: Path | str) -> checkpoint.Checkpoint:
    """Return the checkpoint of a unit language model.

    Raises:
        CheckpointError: There is none, or it is another model's.
    """
    found = checkpoint.find(path)
    if found.facts.get("kind") != KIND:
        raise CheckpointError(f"{found.folder}: not a unit language model; name a run of unit-lm train")
    return found


class Voice:
    """The units of a checkpoint, what finds them in speech, and what makes them audible.

    Args:
        found: The checkpoint.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the one that the run names.

    Attributes:
        settings: Of the run.
        device: Where an encoder runs.
        spec: Of the log-mels.
        units: Clusters, with what they sound like.

    Raises:
        ModelError: The checkpoint cannot be used, its encoder is gone, or the vocoder wants other log-mels.
    """

    def __init__(self, found: checkpoint.Checkpoint, device: str = "auto", vocoder: str | None = None) -> None:
        facts = found.facts
        self.settings = Settings.from_dict(facts["settings"])
        self.device = pick_device(device)
        self.spec = MelSpec(**facts["mel_spec"])
        self.units = Units.from_tensors(found.tensors("units"), facts["unit_rate_hz"], self.spec.frame_rate)
        self._log_mel = LogMel(self.spec)
        self._vocoder = find_vocoder(vocoder or self.settings.vocoder, self.spec)
        normalizer = Normalizer.from_dict(facts["normalizer"])
        self._features = find_features(self.settings, self.spec, normalizer, self.device)
        if self._features.digest != facts["features"]:
            raise ModelError(f"{self.settings.encoder}: its weights are not those that {found.folder} was trained with")

    def hear(self, clip: Clip) -> Ints:
        """Return the units of a clip, int64 `[units]`; none where it is shorter than one."""
        return self.units.of(self._features(Prompt(clip, self._log_mel)))

    def speak(self, units: Ints, frames: int) -> Vectors:
        """Return the samples of units that fill so many mel frames."""
        with torch.inference_mode():
            samples: Vectors = self._vocoder(self.units.log_mel(units, frames)[None])[0].cpu().numpy()
        return samples
