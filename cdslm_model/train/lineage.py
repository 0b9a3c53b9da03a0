"""Where a run comes from: its speech, its settings and its length, each held to what its last checkpoint says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdslm_model.data.windows import Shards
from cdslm_model.errors import DataError, ModelError
from cdslm_model.sample.vocoder import find as find_vocoder
from cdslm_model.train.checkpoint import Checkpoint
from cdslm_model.train.schedule import WarmupStableDecay

__all__ = ["Length", "Speech", "check_length", "check_settings", "check_speech", "find_splits", "open_speech"]


@dataclass(frozen=True, slots=True)
class Length:
    """How long to train, in one of three ways; the least number of steps that reaches it.

    Attributes:
        unit: "flops" (exact training FLOPs), "tokens" (first convention) or "steps".
        amount: How many.
    """

    unit: str
    amount: float

    def steps(self, per_step: Mapping[str, float]) -> int:
        """Return it in steps, the nearest number of them.

        Raises:
            ModelError: The amount is no number.
        """
        if not math.isfinite(self.amount):
            raise ModelError(f"{self.amount} {self.unit} is no length of a run; give a number")
        return round(self.amount / per_step[self.unit])

    @classmethod
    def all_of(cls, given: Mapping[str, Sequence[float] | None]) -> list[Length]:
        """Return the lengths that a command line gave, by unit.

        Raises:
            ModelError: There is none.
        """
        lengths = [cls(unit, float(amount)) for unit, amounts in given.items() for amount in amounts or ()]
        if not lengths:
            raise ModelError("say how long to train: --target-flops, --tokens or --steps")
        return lengths


@dataclass(frozen=True, slots=True)
class Speech:
    """What a run is trained and validated on.

    Attributes:
        train: Prepared speech to train on.
        valid: Prepared speech to validate on; shares no clip with it.
    """

    train: Shards
    valid: Shards

    def digests(self) -> dict[str, str]:
        """Return what tells this speech from any other, for the facts of a checkpoint."""
        return {"train": self.train.digest, "valid": self.valid.digest}


def find_splits(data: Path, valid: Path | None) -> tuple[Path, Path]:
    """Return the folders to train and to validate on; a prepared set with splits names both by itself.

    Raises:
        DataError: There is nothing to validate on.
    """
    if valid is not None:
        return (data / "train" if (data / "train").is_dir() else data), valid
    for name in ("valid", "dev", "validation"):
        if (data / "train").is_dir() and (data / name).is_dir():
            return data / "train", data / name
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; make it with: cdslm prepare AUDIO --out {data}")
    raise DataError(f"{data}: holds no train and valid splits; name held-out prepared speech with --valid SHARDS")


def open_speech(data: Path, valid: Path, vocoder: str) -> Speech:
    """Open the speech of a run.

    Args:
        data: Prepared speech to train on.
        valid: Prepared speech to validate on.
        vocoder: Found now, so that a run does not end with log-mels that nothing can speak.

    Raises:
        DataError: The two share clips, or are log-mels of different kinds.
        ModelError: The vocoder cannot be had.
    """
    speech = Speech(Shards(data), Shards(valid))
    if both := speech.train.shared(speech.valid):
        raise DataError(
            f"{data} and {valid} share {len(both)} clips, {both[0]!r} for one: held-out speech must not be trained on"
        )
    if speech.valid.spec.digest != speech.train.spec.digest:
        raise DataError(f"{valid}: its mel spec is not that of {data}; prepare both with the same one")
    find_vocoder(vocoder, speech.train.spec)
    return speech


def check_settings(folder: Path, changed: Sequence[str]) -> None:
    """Refuse to go on with other settings.

    Args:
        folder: The run's.
        changed: How they differ from those before: "lr 0.001, not 0.002".
    """
    if changed:
        raise ModelError(f"{folder}: trained with {'; '.join(changed)}. Name another folder, or the same settings")


def check_speech(folder: Path, found: Checkpoint, speech: Speech) -> None:
    """Refuse to go on with other speech."""
    if found.facts["data"] != speech.digests():
        raise ModelError(
            f"{folder}: was trained on other speech than {speech.train.folder}, {speech.valid.folder} hold now; train "
            "into another folder, or on the speech of before"
        )
    if found.facts["mel_spec"] != dataclasses.asdict(speech.train.spec):
        raise ModelError(
            f"{folder}: was trained on log-mels of {found.facts['mel_spec']}, and {speech.train.folder} holds others "
            f"({speech.train.spec}); prepare the speech with the same spec, or train into another folder"
        )


def check_length(folder: Path, found: Checkpoint, schedule: WarmupStableDecay) -> None:
    """Refuse a length that the run has passed, or whose learning rate it did not follow."""
    old = WarmupStableDecay(**found.facts["schedule"])
    parted = found.step > min(old.decay_start, schedule.decay_start) or (found.step and old.warmup != schedule.warmup)
    if old != schedule and parted:
        raise ModelError(
            f"{folder}: stands at step {found.step} of {old.steps}, its learning rate falling from step "
            f"{old.decay_start}, and is no part of a run of {schedule.steps} steps; name another folder"
        )
