"""One training command: clusters, units, and a language model over them, resumable at any moment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval_unit_lm.corpus import UnitWindows, shard_clips
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.language import lm_config
from cdslm_eval_unit_lm.learner import Learner, best_constant
from cdslm_eval_unit_lm.planning import data_use, per_step
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.unit_cache import cache_key, cached_units, save_units, with_progress
from cdslm_eval_unit_lm.unit_folder import UnitFolder, cluster
from cdslm_eval_unit_lm.units import Ints, Units, runs
from cdslm_model import (
    RESULT,
    Checkpoint,
    Job,
    Journal,
    ModelError,
    Shards,
    WarmupStableDecay,
    World,
    check_length,
    check_settings,
    check_speech,
    finished_result,
    last_checkpoint,
    locked,
    matrix_rate,
    noted_signals,
    open_speech,
    open_world,
    precision,
    result_counts,
    run,
    write_json,
)

__all__ = ["KIND", "UnitJob", "train"]

KIND = "unit-lm"
_CONVENTIONS = {
    "parameters": "all trainable parameters of the language model; clusters and tables are not counted",
    "tokens": "units that were predicted",
    "flops": "exact training FLOPs of the language model (3 x forward, attention over all pairs); k-means, encoder and "
    "validation not counted",
    "val_loss": "nats a unit; not comparable with a diffusion loss nor under other units",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitJob(Job[Settings]):
    """One training command.

    Attributes:
        units_from: Folder of `unit-lm units`; None clusters the speech of the run.
        compile: Whether torch compiles the model; None compiles on a GPU.
    """

    units_from: Path | None = None
    compile: bool | None = None


def train(job: UnitJob) -> dict[str, Any]:
    """Train or resume a job of one length, and return its `result.json`.

    Raises:
        ModelError: A problem with the job, the data, the disk or the loss.
        Interrupted: A signal arrived; a checkpoint is written.
    """
    if len(job.lengths) != 1:
        raise ModelError("unit-lm trains one length a run; Use: one of --target-flops, --tokens or --steps")
    with open_world(job.device) as world:
        job.settings.check(world.size)
        if world.size > 1 and job.units_from is None:
            raise ModelError("several processes share clusters; make them with unit-lm units, and use --units-from")
        with _locked_by_first(job.out, world):
            return _trained(job, world)


def _trained(job: UnitJob, world: World) -> dict[str, Any]:
    last = last_checkpoint(job.out)
    # all have read it before the first writes another: else some would resume, and some begin
    world.any(False)
    if last is not None:
        _check_same(job, last)
    prepared = _Run(job, last, world)
    if last is not None and last.step == prepared.schedule.steps:
        result = finished_result(job.out, prepared.schedule.steps)
        if result is not None:
            return result
    # Only now: a signal during the clustering of hours of speech ends the process at once
    with noted_signals() as signals:
        return prepared.finish(signals)


@contextmanager
def _locked_by_first(folder: Path, world: World) -> Iterator[None]:
    """Lock the run's folder in the first process; the others wait until it is locked."""
    # flock refuses a second process, and all processes of one run work in one folder
    if world.rank:
        world.any(False)
        yield
        return
    with locked(folder, "trainer"):
        world.any(False)
        yield


class _Run:
    """Speech as units, the model over them, and its schedule."""

    def __init__(self, job: UnitJob, last: Checkpoint | None, world: World) -> None:
        settings = job.settings
        self.job, self.settings, self.world, self.device = job, settings, world, world.device
        self.is_new = last is None
        self.speech = open_speech(job.data, job.valid)
        if last is not None:
            check_speech(job.out, last, self.speech, job.settings)
        self.shards, held_out = self.speech.train, self.speech.valid
        self.normalizer = self.shards.normalizer()
        self.features = find_features(settings, self.shards.spec, self.normalizer, self.device)
        self.units, train_units = self._cluster(last)
        valid_units = self._clip_units(held_out, "valid", self.units)
        self.rate_hz = self.features.rate_hz / (self.units.mean_run() if settings.run_length else 1.0)
        self.length = max(2, round(settings.seconds * self.rate_hz))
        self.windows = self._windows(train_units, self.shards)
        self.valid = self._windows(valid_units, held_out).spread(settings.valid_windows)
        self.config = lm_config(settings.family, settings.size, settings.units, self.length)
        tensors = {"units": self.units.tensors()}
        compiled = self.device.type == "cuda" if job.compile is None else job.compile
        self.learner = Learner(settings, self.config, world, self.windows, self.valid, tensors, compiled)
        self.schedule, self.facts = self._plan()
        if last is not None:
            check_length(job.out, last, self.schedule)
            self.learner.restore(last)

    def _cluster(self, last: Checkpoint | None) -> tuple[Units, list[Ints]]:
        """Return the units and those of each training clip; a resumed run takes the units of its checkpoint."""
        folder = UnitFolder.open(self.job.units_from) if self.job.units_from else None
        if last is not None:
            # new clusters might be numbered otherwise, and the model's tokens would lose their meaning
            units = Units.from_tensors(last.tensors("units"), self.features.rate_hz, self.shards.spec.frame_rate)
            return units, self._clip_units(self.shards, "train", units)
        if folder is not None:
            units = folder.units()
            return units, self._clip_units(self.shards, "train", units)
        units, clip_units = cluster(self.shards, self.features, self.settings, quiet=self.job.quiet)
        save_units(self._cache("train"), cache_key(self.shards, self.features, units.centroids), clip_units)
        return units, clip_units

    def _clip_units(self, shards: Shards, split: str, units: Units) -> list[Ints]:
        """Return the units of each clip, computed only where they are neither in a folder of units nor cached."""
        if self.job.units_from:
            return UnitFolder.open(self.job.units_from).clip_units(split, shards, self.features, units)

        def compute() -> list[Ints]:
            clips = with_progress(shard_clips(shards), f"units of {split}", quiet=self.job.quiet)
            return [units.of(self.features(clip)) for clip in clips]

        return cached_units(self._cache(split), cache_key(shards, self.features, units.centroids), compute)

    def _cache(self, split: str) -> Path:
        return self.job.out / f"units-{split}.safetensors"

    def _windows(self, clip_units: list[Ints], shards: Shards) -> UnitWindows:
        settings = self.settings
        return UnitWindows(
            [runs(units)[0] for units in clip_units] if settings.run_length else clip_units,
            shards.clips.speakers,
            self.length,
            join_speakers=settings.join_speakers,
            folder=shards.folder,
            seconds=settings.seconds,
        )

    def _plan(self) -> tuple[WarmupStableDecay, dict[str, Any]]:
        """Return the learning-rate schedule, and the facts of every checkpoint."""
        settings = self.settings
        parameters = sum(parameter.numel() for parameter in self.learner.model.parameters())
        costs = per_step(settings, self.config, self.length, parameters)
        steps = self.job.lengths[0].steps(costs)
        schedule = WarmupStableDecay.plan(steps, settings.warmup_steps, settings.decay_share)
        facts = {
            "kind": KIND,
            "settings": settings.as_dict(),
            "lm": {"config": self.config, "offset": 0, "opening": settings.units, "window": self.length},
            "features": self.features.digest,
            "unit_rate_hz": self.units.rate_hz,
            "tokens_per_second": self.rate_hz,
            "mel_spec": dataclasses.asdict(self.shards.spec),
            "normalizer": self.normalizer.as_dict(),
            "parameters": parameters,
            "per_step": costs,
            "schedule": dataclasses.asdict(schedule),
            "conventions": {**_CONVENTIONS, "tokens, a second of speech": f"{self.rate_hz:.4g}"},
            "data": self.speech.digests(settings.window_labels()),
            "constant_loss": best_constant(self.valid),
        }
        return schedule, facts

    def finish(self, signals: list[int]) -> dict[str, Any]:
        """Train to the end and write the result."""
        job, learner, facts, steps = self.job, self.learner, self.facts, self.schedule.steps
        # before training: a kill before the first regular checkpoint would lose the clusters
        if self.is_new:
            learner.save(job.out, {**facts, "val_loss": None})
        # a run killed between its last checkpoint and its result has no step left, only a loss to measure
        validation = self._train(signals) if learner.step < steps else learner.validate()
        value = validation["val_loss"]
        assert value is not None
        result = {
            **result_counts(facts["parameters"], steps, facts["per_step"]),
            **validation,
            "constant_loss": facts["constant_loss"],
            **data_use(steps, facts["per_step"]["tokens"], self.windows.usable),
            "val_loss_nats_per_second": value * facts["tokens_per_second"],
            "conventions": facts["conventions"],
            "checkpoint": f"checkpoints/step-{steps:09d}",
        }
        if self.world.rank == 0:
            write_json(job.out / RESULT, result)
        return result

    def _train(self, signals: list[int]) -> dict[str, float | None]:
        """Train up to the last step, with a log."""
        job, steps = self.job, self.schedule.steps
        journal = self._journal() if self.world.rank == 0 else None
        try:
            return run(self.learner, self.settings, job.out, self.schedule, steps, journal, self.facts, signals)
        finally:
            if journal:
                journal.close()

    def _journal(self) -> Journal:
        job, steps, per_step = self.job, self.schedule.steps, self.facts["per_step"]
        peak = matrix_rate(self.device, precision(self.settings.precision, self.device)) * self.world.size
        journal = Journal(job.out, self.learner.step, steps, per_step["flops"], per_step["tokens"], peak, job.quiet)
        journal.message(
            f"{job.out}: N = {self.facts['parameters']:.4g}, step {self.learner.step} of {steps}, windows of "
            f"{self.windows.length} units; {self.windows.left_out:.0%} of the speech is in clips shorter than a "
            f"window; units have an entropy of {self.facts['constant_loss']:.4f} nats"
        )
        return journal


def _check_same(job: Job[Settings], last: Checkpoint) -> None:
    """Raise where the folder holds the run of another program or of other settings."""
    if last.facts.get("kind") != KIND:
        raise ModelError(f"{job.out}: holds a run of another program; name another folder")
    check_settings(job.out, last, job.settings)
