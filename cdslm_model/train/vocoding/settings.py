"""Settings of a vocoder's training, and the job that a command describes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cdslm_model.data.prepare import Recording
from cdslm_model.errors import ModelError
from cdslm_model.net.istft import IstftConfig
from cdslm_model.train.settings import PRECISIONS, RunSettings

__all__ = ["VocoderJob", "VocoderSettings"]

_OF_OTHER_MODELS = frozenset({"join_speakers", "vocoder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VocoderSettings(RunSettings):
    """Settings of a vocoder.

    Attributes:
        config: Sizes of its network.
        excerpt_frames: Frames of an excerpt.
        critic_width: Channels of the critics' first layer.
        critics_from: Step from which the critics are trained; before it, spectral distances alone teach.
        mel_weight: Weight of the mean absolute error of log-mels (natural logarithm).
        spectral_weight: Weight of the multi-resolution distance of spectra.
        feature_weight: Weight of the distance of the critics' layers.
        precision: "float32", "bfloat16" or "auto", bfloat16 on a GPU that has it; spectra are float32.
    """

    may_change: ClassVar[frozenset[str]] = frozenset({"valid_every", "save_every"})

    lr: float = 5e-4
    weight_decay: float = 0.01
    clip_norm: float = 10.0
    valid_windows: int = 64
    valid_every: int = 1000
    save_every: int = 1000
    config: IstftConfig = field(default_factory=IstftConfig)
    excerpt_frames: int = 64
    critic_width: int = 32
    critics_from: int = 2000
    mel_weight: float = 15.0
    spectral_weight: float = 2.5
    feature_weight: float = 2.0
    precision: str = "auto"

    def check(self, processes: int = 1) -> None:
        """Check all values; see `RunSettings.check`."""
        RunSettings.check(self, processes)
        self.require_positive("excerpt_frames", "critic_width")
        if self.excerpt_frames * self.config.hop < 2048:
            raise ModelError(f"excerpt_frames = {self.excerpt_frames}: an excerpt needs at least 2048 samples")
        if self.critics_from < 0:
            raise ModelError(f"critics_from = {self.critics_from} must be 0 or more")
        for name in ("mel_weight", "spectral_weight", "feature_weight"):
            if not 0 <= getattr(self, name) < 1e6:
                raise ModelError(f"{name} = {getattr(self, name)} lies outside 0..1e6")
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision = {self.precision!r} is none of {', '.join(PRECISIONS)}")

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without those that concern speech as log-mels."""
        values = {**RunSettings.as_dict(self), "config": dataclasses.asdict(self.config)}
        return {name: value for name, value in values.items() if name not in _OF_OTHER_MODELS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VocoderSettings:
        """Return the settings of the JSON values of `as_dict`."""
        return cls(**{**values, "config": IstftConfig.from_dict(values["config"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class VocoderJob:
    """One training command.

    Attributes:
        settings: Of the run.
        train: Recordings to train on.
        valid: Held-out recordings.
        out: The run's folder, in which the decoded samples are kept too.
        steps: Length of the run.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Threads that decode.
        quiet: Whether no progress is printed.
        decoding: Called with the name of a split; returns what is called with recordings done and in all.
    """

    settings: VocoderSettings
    train: Sequence[Recording]
    valid: Sequence[Recording]
    out: Path
    steps: int
    device: str = "auto"
    jobs: int = 1
    quiet: bool = False
    decoding: Callable[[str], Callable[[int, int], None]] | None = None
