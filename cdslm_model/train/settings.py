"""Settings of a training run, frozen and stored with its checkpoints."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from cdslm_model.diffusion import Process
from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config

__all__ = ["PRECISIONS", "RunSettings", "Settings"]

PRECISIONS = ("auto", "float32", "bfloat16")
_NOISE, _EARLIER_NOISE = "philox4x32", "numpy-philox4x64 (of an earlier version, which alone can continue it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Settings that every kind of model shares; a model's own settings are a subclass.

    Attributes:
        batch_size: Windows a step, over all processes.
        lr: Peak learning rate.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear rise.
        decay_share: Share of the run over which the rate falls at its end.
        clip_norm: Largest norm of the gradient.
        seed: Of all random numbers.
        join_speakers: Whether windows run over adjacent clips of one speaker.
        valid_windows: Held-out windows of the validation loss.
        valid_every: Steps from one validation to the next.
        save_every: Steps from one checkpoint to the next.
        save_minutes: Minutes from one checkpoint to the next, in place of steps.
        vocoder: Turns log-mels into samples in generation.
    """

    may_change: ClassVar[frozenset[str]] = frozenset({"valid_every", "save_every", "save_minutes"})
    """Settings that move no number: a run resumes with other values of them."""

    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.03
    warmup_steps: int = 100
    decay_share: float = 0.2
    clip_norm: float = 1.0
    seed: int = 0
    join_speakers: bool = False
    valid_windows: int = 512
    valid_every: int = 250
    save_every: int = 250
    save_minutes: float | None = None
    vocoder: str = "griffin-lim"

    def check(self, processes: int = 1) -> None:
        """Check all values.

        Args:
            processes: How many train together.

        Raises:
            ModelError: A value is out of range.
        """
        self.require_positive("batch_size", "valid_windows", "valid_every", "save_every")
        if self.batch_size % processes:
            raise ModelError(f"batch_size = {self.batch_size} does not divide into {processes} processes")
        for name, fits, range_ in (
            ("lr", 0 < self.lr < math.inf, "must be positive"),
            ("clip_norm", 0 < self.clip_norm < math.inf, "must be positive; 1e30 clips nothing"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must be 0 or more"),
            ("warmup_steps", self.warmup_steps >= 0, "must be 0 or more"),
            ("decay_share", 0 <= self.decay_share <= 1, "lies outside 0..1"),
            ("save_minutes", self.save_minutes is None or 0 <= self.save_minutes < math.inf, "must be 0 or more"),
            ("seed", 0 <= self.seed < 1 << 63, "lies outside 0..2^63 - 1"),
        ):
            if not fits:
                raise ModelError(f"{name} = {getattr(self, name)} {range_}")

    def require_positive(self, *names: str) -> None:
        """Raise on the first of some settings that is below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ModelError(f"{name} = {getattr(self, name)} must be at least 1")

    def window_labels(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of clips that windows of "train" and "valid" depend on."""
        return dict.fromkeys(("train", "valid"), ("speaker",) if self.join_speakers else ())

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings of the JSON values of `as_dict`."""
        return cls(**values)

    def differences(self, other: RunSettings) -> list[str]:
        """Return which settings that move a number differ: "lr 0.001, not 0.002"."""
        mine, others = _flat(self.as_dict()), _flat(other.as_dict())
        return [
            f"{name} {mine[name]}, not {others[name]}"
            for name in mine
            if name not in self.may_change and mine[name] != others[name]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """Settings of a diffusion model; learning rate and weight decay are those at the base size.

    Attributes:
        config: Sizes of the network and the window.
        process: Schedule, target and loss weight.
        accumulate: Pieces of each process's share of a step, to save memory.
        beta2: Second beta of AdamW.
        ema_share: Horizon of the averaged weights, which are validated and generate, as a share of the steps so far: of
            the run at its end, and the same in a branch and in a run of its own.
        ema: Largest decay of that average.
        end_share, onset_weight, attention_bias, guess_frames: See `cdslm_model.train.recipes`; 0 is the paper's.
        context_buckets, continuation_buckets: Frames of context and continuation that steps draw from, the whole
            lengths of `config` among them; empty where all steps have those.
        mix: Source of the training speech and its weight, for each source that is drawn; empty where all speech is, as
            it comes.
        precision: Of matrix products and attention in training: "float32", "bfloat16" (weights, averages and moments
            stay float32), or "auto", bfloat16 on a GPU that has it and float32 elsewhere.
        noise: Generator of the noise of training and validation; a run continues on its own only.
    """

    may_change: ClassVar[frozenset[str]] = RunSettings.may_change | {"accumulate"}

    config: Config
    process: Process = field(default_factory=Process)
    accumulate: int = 1
    beta2: float = 0.95
    ema: float = 0.999
    ema_share: float = 1 / 9
    end_share: float = 0.0
    onset_weight: float = 0.0
    attention_bias: float = 0.0
    guess_frames: int = 0
    context_buckets: tuple[int, ...] = ()
    continuation_buckets: tuple[int, ...] = ()
    mix: tuple[tuple[str, float], ...] = ()
    precision: str = "auto"
    noise: str = _NOISE

    def check(self, processes: int = 1) -> None:
        """Check all values; see `RunSettings.check`."""
        RunSettings.check(self, processes)
        self.require_positive("accumulate")
        if self.precision not in PRECISIONS:
            raise ModelError(f"precision = {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.batch_size % (processes * self.accumulate):
            raise ModelError(
                f"batch_size = {self.batch_size} does not divide into {processes} processes x {self.accumulate} pieces"
            )
        if self.noise != _NOISE:
            raise ModelError(f"noise = {self.noise!r} is not that of this version, {_NOISE!r}")
        if not 0 <= self.ema < 1:
            raise ModelError(f"ema = {self.ema} lies outside 0..1; 1 would never learn")
        if not 0 < self.ema_share <= 1:
            raise ModelError(f"ema_share = {self.ema_share} lies outside 0..1, or is 0")
        if not 0 <= self.end_share < 1:
            raise ModelError(f"end_share = {self.end_share} lies outside 0..1; 1 would train on nothing but noise")
        for name, buckets, whole, least in (
            ("context_buckets", self.context_buckets, self.config.context_frames, 0),
            ("continuation_buckets", self.continuation_buckets, self.config.continuation_frames, 1),
        ):
            if buckets and (whole not in buckets or min(buckets) < least or max(buckets) > whole):
                raise ModelError(f"{name} = {buckets}: use lengths of {least} to {whole} frames, {whole} among them")
        if any(not 0 < weight < math.inf for _, weight in self.mix) or len(dict(self.mix)) < len(self.mix):
            raise ModelError(f"mix = {dict(self.mix)}: each source once, with a weight above 0")
        if not 0 <= self.onset_weight < math.inf:
            raise ModelError(f"onset_weight = {self.onset_weight} must be 0 or more")
        if self.guess_frames < 0:
            raise ModelError(f"guess_frames = {self.guess_frames} must be 0 or more")

    def window_labels(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of clips that windows depend on: speakers join within a source, a mix is of sources."""
        joined = ("speaker", "source") if self.join_speakers else ()
        return {"train": joined or (("source",) if self.mix else ()), "valid": joined}

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            **RunSettings.as_dict(self),
            "config": self.config.as_dict(),
            "process": dataclasses.asdict(self.process),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings of the JSON values of `as_dict`."""
        config, process = Config.from_dict(values["config"]), Process.from_dict(values["process"])
        # tuples are lists in JSON, and an earlier version has none
        tuples = {name: tuple(values.get(name, ())) for name in ("context_buckets", "continuation_buckets")}
        mix = tuple((source, float(weight)) for source, weight in values.get("mix", ()))
        return cls(**{"noise": _EARLIER_NOISE, **values, "config": config, "process": process, **tuples, "mix": mix})


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value) if isinstance(value, Mapping) else {name: value})
    return flat
