"""One training command: clusters, units, and a language model over them, resumable at any moment."""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval_unit_lm.corpus import UnitWindows, clips_of
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.heard import keep, kept, key_of, with_progress
from cdslm_eval_unit_lm.language import forward_flops, lm_config
from cdslm_eval_unit_lm.learner import Learner, best_constant
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.units import Ints, Units, fit_centroids, runs, tables
from cdslm_model.data.windows import Shards
from cdslm_model.errors import CheckpointError, ModelError, TrainingError
from cdslm_model.files import locked, read_json, write_json
from cdslm_model.net.flops import BACKWARD
from cdslm_model.train import checkpoint
from cdslm_model.train.distributed import pick_device, precision
from cdslm_model.train.journal import Journal, matrix_rate
from cdslm_model.train.lineage import Length, check_length, check_settings, check_speech, open_speech
from cdslm_model.train.run import RESULT
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.stopping import Interrupted, noted_signals

__all__ = ["KIND", "Order", "train"]

KIND = "unit-lm"
_CONVENTIONS = {
    "parameters": "all trainable parameters of the language model; clusters and tables are not counted",
    "tokens": "units that were predicted",
    "flops": "exact training FLOPs of the language model (3 x forward, attention over all pairs); k-means, encoder and "
    "validation not counted",
    "val_loss": "nats a unit; not comparable with a diffusion loss nor under other units",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one call is to do.

    Attributes:
        settings: What determines the run.
        data: Prepared speech to train on.
        valid: Prepared speech to validate on.
        out: The run's folder.
        length: How long.
        device: "auto", "cpu", "cuda" or "cuda:N".
        quiet: Whether nothing is said while it runs.
    """

    settings: Settings
    data: Path
    valid: Path
    out: Path
    length: Length
    device: str = "auto"
    quiet: bool = False


def train(order: Order) -> dict[str, Any]:
    """Train, or go on training, and return what `result.json` says.

    Raises:
        ModelError: Something about the order, the data, the disk or the loss.
        Interrupted: A signal came; a checkpoint was written.
    """
    with locked(order.out, "trainer"):
        found = checkpoint.last(order.out)
        if found is not None:
            _check_same(order, found)
        run = _Run(order, found)
        if (order.out / RESULT).is_file() and found is not None:
            result = read_json(order.out / RESULT, CheckpointError)
            if result["steps"] == run.schedule.steps == found.step:
                return result
        # only now: whoever ends the hearing of hours of speech need not wait for a step to stop at
        with noted_signals() as signals:
            return run.go(signals)


class _Run:
    """Speech as units, the model over them, and how far it is to go."""

    def __init__(self, order: Order, found: checkpoint.Checkpoint | None) -> None:
        settings = order.settings
        self.order, self.settings = order, settings
        self.device = pick_device(order.device)
        self.speech = open_speech(order.data, order.valid, settings.vocoder)
        if found is not None:
            check_speech(order.out, found, self.speech)
        self.shards, held_out = self.speech.train, self.speech.valid
        self.normalizer = self.shards.normalizer()
        self.features = find_features(settings, self.shards.spec, self.normalizer, self.device)
        self.units, said = self._units(found)
        said_held_out = self._said(held_out, "valid", self.units)
        rate = self.features.rate_hz / (self.units.mean_run() if settings.run_length else 1.0)
        length = max(2, round(settings.seconds * rate))
        self.windows = self._windows(said, self.shards, length)
        self.valid = self._windows(said_held_out, held_out, length).spread(settings.valid_windows)
        self.config = lm_config(settings.family, settings.size, settings.units, length)
        self.learner = Learner(settings, self.config, self.device)
        self.schedule, self.facts = self._plan(length, rate)
        if found is not None:
            check_length(order.out, found, self.schedule)
            self.learner.restore(found)

    def _units(self, found: checkpoint.Checkpoint | None) -> tuple[Units, list[Ints]]:
        """Return the units, and those of each clip: of a run that goes on, as they are kept."""
        clips, spec, settings = clips_of(self.shards), self.shards.spec, self.settings
        if found is not None:
            units = Units.from_tensors(found.tensors("units"), self.features.rate_hz, spec.frame_rate)
            return units, self._said(self.shards, "train", units)
        self._say(f"clustering {self.shards.frames / spec.frame_rate / 3600:.2f} h into {settings.units} units")
        centroids = fit_centroids(clips, self.features, settings.units, settings.seed)
        hearing = with_progress(clips, "units of train", quiet=self.order.quiet)
        units, said = tables(centroids, hearing, self.features, spec.frame_rate, spec.mels)
        keep(self._place("train"), key_of(self.shards, self.features, centroids), said)
        return units, said

    def _said(self, shards: Shards, split: str, units: Units) -> list[Ints]:
        """Return the units of each clip, heard only where they are not kept."""

        def hear() -> list[Ints]:
            clips = with_progress(clips_of(shards), f"units of {split}", quiet=self.order.quiet)
            return [units.of(self.features(clip)) for clip in clips]

        return kept(self._place(split), key_of(shards, self.features, units.centroids), hear)

    def _place(self, split: str) -> Path:
        return self.order.out / f"units-{split}.safetensors"

    def _windows(self, said: list[Ints], shards: Shards, length: int) -> UnitWindows:
        settings = self.settings
        return UnitWindows(
            [runs(units)[0] for units in said] if settings.run_length else said,
            [clip["speaker"] for clip in shards.clips],
            length,
            join_speakers=settings.join_speakers,
            folder=shards.folder,
            seconds=settings.seconds,
        )

    def _plan(self, length: int, rate: float) -> tuple[WarmupStableDecay, dict[str, Any]]:
        """Return how the learning rate goes, and what every checkpoint says."""
        settings = self.settings
        parameters = sum(one.numel() for one in self.learner.model.parameters())
        tokens = settings.batch_size * length
        per_step = {
            "steps": 1.0,
            "tokens": float(tokens),
            "flops": float((1 + BACKWARD) * settings.batch_size * forward_flops(self.config, length)),
            "six_nd": 6.0 * parameters * tokens,
        }
        steps = self.order.length.steps(per_step)
        warmup = min(settings.warmup_steps, max(1, steps // 10))
        schedule = WarmupStableDecay(steps, warmup, round(settings.decay_share * steps))
        facts = {
            "kind": KIND,
            "settings": settings.as_dict(),
            "lm": {"config": self.config, "offset": 0, "opening": settings.units, "window": length},
            "features": self.features.digest,
            "unit_rate_hz": self.units.rate_hz,
            "tokens_per_second": rate,
            "mel_spec": dataclasses.asdict(self.shards.spec),
            "normalizer": self.normalizer.as_dict(),
            "parameters": parameters,
            "per_step": per_step,
            "schedule": dataclasses.asdict(schedule),
            "conventions": {**_CONVENTIONS, "tokens, a second of speech": f"{rate:.4g}"},
            "data": self.speech.digests(),
            "constant_loss": best_constant(self.valid),
        }
        return schedule, facts

    def go(self, signals: list[int]) -> dict[str, Any]:
        """Train to the end and write the result."""
        order, learner, facts = self.order, self.learner, self.facts
        if learner.step == 0 and checkpoint.last(order.out) is None:
            self._keep(math.nan)
        value = self._advance(signals) if learner.step < self.schedule.steps else learner.validate(self.valid)
        steps = self.schedule.steps
        result = {
            "parameters": facts["parameters"],
            **{name: steps * facts["per_step"][name] for name in ("tokens", "flops", "six_nd")},
            "val_loss": value,
            "constant_loss": facts["constant_loss"],
            "val_loss_nats_per_second": value * facts["tokens_per_second"],
            "steps": steps,
            "conventions": facts["conventions"],
            "checkpoint": f"{checkpoint.FOLDER}/step-{steps:09d}",
        }
        write_json(order.out / RESULT, result)
        return result

    def _advance(self, signals: list[int]) -> float:
        """Train up to the last step, with validation and checkpoints on the way."""
        settings, learner, steps = self.settings, self.learner, self.schedule.steps
        per_step = self.facts["per_step"]
        peak = matrix_rate(self.device, precision("auto", self.device))
        journal = Journal(
            self.order.out, learner.step, steps, per_step["flops"], per_step["tokens"], peak, self.order.quiet
        )
        journal.say(
            f"{self.order.out}: N = {self.facts['parameters']:.4g}, step {learner.step} of {steps}, windows of "
            f"{self.windows.length} units; {self.windows.left_out:.0%} of the speech is in clips shorter than a "
            f"window; units have an entropy of {self.facts['constant_loss']:.4f} nats"
        )
        value = math.nan
        try:
            while learner.step < steps:
                batch = self.windows.batch(settings.seed, learner.step, settings.batch_size)
                journal.step(learner.step + 1, learner.learn(batch, self.schedule.share(learner.step)))
                step = learner.step
                if step % settings.valid_every == 0 or step == steps:
                    value = learner.validate(self.valid)
                    journal.note(step, {"val_loss": value})
                    journal.say(f"step {step}: validation loss {value:.5f} nats a unit")
                if signals or step % settings.save_every == 0 or step == steps:
                    self._keep(value)
                if signals and step < steps:
                    raise Interrupted(signals[0] if signals else signal.SIGTERM)
        except TrainingError as error:
            last = checkpoint.last(self.order.out)
            where = f"; the last good checkpoint is {last.folder}. A lower --lr may mend it" if last else ""
            raise TrainingError(f"{error}{where}") from error
        finally:
            journal.close()
        return value

    def _keep(self, value: float) -> None:
        tensors = {**self.learner.tensors(), "units": self.units.tensors()}
        known = value if math.isfinite(value) else None
        checkpoint.save(self.order.out, self.learner.step, tensors.items(), {**self.facts, "val_loss": known})

    def _say(self, text: str) -> None:
        if not self.order.quiet:
            print(text, file=sys.stderr, flush=True)


def _check_same(order: Order, found: checkpoint.Checkpoint) -> None:
    """Refuse to go on in the folder of another run."""
    if found.facts.get("kind") != KIND:
        raise ModelError(f"{order.out}: holds a run of another program; name another folder")
    check_settings(order.out, Settings.from_dict(found.facts["settings"]).differences(order.settings))
