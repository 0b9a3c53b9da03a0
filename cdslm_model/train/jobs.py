"""A training job: settings, speech and length, each checked against the last checkpoint of its folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from cdslm_model.checkpoint import Checkpoint
from cdslm_model.data.windows import Shards
from cdslm_model.errors import CheckpointError, DataError, ModelError
from cdslm_model.files import read_json
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import RunSettings

__all__ = [
    "RESULT",
    "Job",
    "Length",
    "Speech",
    "check_length",
    "check_settings",
    "check_speech",
    "find_splits",
    "finished_result",
    "open_speech",
    "result_counts",
]

RESULT = "result.json"
S = TypeVar("S", bound=RunSettings)


@dataclass(frozen=True, slots=True)
class Length:
    """Length of a run in one of three units, rounded to whole steps.

    Attributes:
        unit: "flops" (exact training FLOPs), "tokens" (first convention) or "steps".
        amount: How many.
    """

    unit: str
    amount: float

    def steps(self, per_step: Mapping[str, float]) -> int:
        """Return the nearest number of steps.

        Raises:
            ModelError: The amount is not finite.
        """
        if not math.isfinite(self.amount):
            raise ModelError(f"{self.amount} {self.unit} is no length of a run; use a finite number")
        return round(self.amount / per_step[self.unit])

    @classmethod
    def from_options(cls, amounts: Mapping[str, Sequence[float] | None]) -> list[Length]:
        """Return the lengths of a command line, by unit.

        Raises:
            ModelError: There is none.
        """
        lengths = [cls(unit, float(amount)) for unit, values in amounts.items() for amount in values or ()]
        if not lengths:
            raise ModelError("a run needs a length; Use: --target-flops, --tokens or --steps")
        return lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[S]):
    """One training command.

    Attributes:
        settings: Settings of the run.
        data: Prepared speech to train on.
        valid: Prepared speech to validate on.
        out: The run's folder.
        lengths: Lengths of the run.
        device: "auto", "cpu", "cuda" or "cuda:N".
        quiet: Whether no progress is printed.
    """

    settings: S
    data: Path
    valid: Path
    out: Path
    lengths: Sequence[Length]
    device: str = "auto"
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Speech:
    """Training and validation speech of a run.

    Attributes:
        train: Prepared speech to train on.
        valid: Prepared speech to validate on; shares no clip with it.
    """

    train: Shards
    valid: Shards

    def digests(self, labels: Mapping[str, Sequence[str]] | None = None) -> dict[str, str]:
        """Return the identity of this speech, for the facts of a checkpoint.

        Args:
            labels: "train" and "valid" -> labels of clips that windows depend on, `RunSettings.window_labels`; None
                where there are no windows.
        """
        splits = {"train": self.train, "valid": self.valid}
        digests = {split: shards.digest for split, shards in splits.items()}
        for split, names in (labels or {}).items():
            if names:
                digests[f"{split} labels"] = splits[split].labels_digest(names)
        return digests


def find_splits(data: Path, valid: Path | None) -> tuple[Path, Path]:
    """Return the folders to train and to validate on; a prepared set with splits contains both.

    Raises:
        DataError: There is no validation speech.
    """
    if valid is not None:
        return (data / "train" if (data / "train").is_dir() else data), valid
    for name in ("valid", "dev", "validation"):
        if (data / "train").is_dir() and (data / name).is_dir():
            return data / "train", data / name
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; Use: cdslm prepare AUDIO --out {data}")
    raise DataError(f"{data}: holds no train and valid splits; name held-out prepared speech with --valid SHARDS")


def open_speech(data: Path, valid: Path) -> Speech:
    """Open the speech of a run.

    Raises:
        DataError: The two share clips, or are log-mels of different kinds.
    """
    speech = Speech(Shards(data), Shards(valid))
    # compared by content: the same clip under another name would leak as well
    if both := speech.train.shared(speech.valid):
        raise DataError(
            f"{data} and {valid} share {len(both)} clips, {both[0]!r} for one: held-out speech must not be trained on"
        )
    if speech.valid.spec.digest != speech.train.spec.digest:
        raise DataError(f"{valid}: its mel spec differs from that of {data}; prepare both with the same one")
    return speech


def result_counts(parameters: float, steps: int, per_step: Mapping[str, float]) -> dict[str, float]:
    """Return N, D, C, 6ND and steps of a run, as `result.json` has them."""
    counts = {name: steps * per_step[name] for name in ("tokens", "flops", "six_nd")}
    return {"parameters": parameters, **counts, "steps": steps}


def finished_result(folder: Path, steps: int) -> dict[str, Any] | None:
    """Return the result of a run of that many steps, None where the run is not finished."""
    if not (folder / RESULT).is_file():
        return None
    result = read_json(folder / RESULT, CheckpointError)
    # a shorter run may be resumed to a greater length in the same folder
    return result if result["steps"] == steps else None


def check_settings(folder: Path, last: Checkpoint, settings: RunSettings) -> None:
    """Raise where a run was started with other settings."""
    if changed := settings.from_dict(last.facts["settings"]).differences(settings):
        raise ModelError(f"{folder}: trained with {'; '.join(changed)}. Name another folder, or the same settings")


def check_speech(folder: Path, last: Checkpoint, speech: Speech, settings: RunSettings) -> None:
    """Raise where a run was started on other speech, or on other windows of it because clips have other labels."""
    recorded, present = last.facts["data"], speech.digests(settings.window_labels())
    # a checkpoint of an earlier version has no identity of labels
    changed = [name for name, digest in recorded.items() if present.get(name) != digest]
    if changed and all(name.endswith("labels") for name in changed):
        raise ModelError(
            f"{folder}: the speakers or sources of {speech.train.folder}, {speech.valid.folder} are not those that it "
            "was trained with, and its windows depend on them; train into another folder, or on the earlier labels"
        )
    if changed:
        raise ModelError(
            f"{folder}: was trained on other speech than {speech.train.folder}, {speech.valid.folder} hold now; train "
            "into another folder, or on the earlier speech"
        )
    if last.facts["mel_spec"] != dataclasses.asdict(speech.train.spec):
        raise ModelError(
            f"{folder}: was trained on log-mels of {last.facts['mel_spec']}, and {speech.train.folder} holds others "
            f"({speech.train.spec}); prepare the speech with the same spec, or train into another folder"
        )


def check_length(folder: Path, last: Checkpoint, schedule: WarmupStableDecay) -> None:
    """Raise where a run has passed a length, or followed another learning rate."""
    old = WarmupStableDecay(**last.facts["schedule"])
    # until the earlier of the two decays, runs with one warm-up are identical and a length may still change
    parted = last.step > min(old.decay_start, schedule.decay_start) or (last.step and old.warmup != schedule.warmup)
    if old != schedule and parted:
        raise ModelError(
            f"{folder}: is at step {last.step} of {old.steps}, its learning rate falling from step "
            f"{old.decay_start}, and is no part of a run of {schedule.steps} steps; name another folder"
        )
