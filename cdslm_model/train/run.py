"""One training command: from prepared speech to a checkpoint and a result, for one or several training lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_model.data.windows import Windows
from cdslm_model.errors import CheckpointError
from cdslm_model.files import locked, read_json, write_json
from cdslm_model.net import flops
from cdslm_model.train import checkpoint
from cdslm_model.train.distributed import World, open_world, precision
from cdslm_model.train.journal import Journal, matrix_rate
from cdslm_model.train.lineage import Length, Speech, check_length, check_settings, check_speech, open_speech
from cdslm_model.train.loop import Trainer, run
from cdslm_model.train.objective import Validation
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings
from cdslm_model.train.stopping import noted_signals

__all__ = ["RESULT", "Order", "train"]

RESULT = "result.json"
BRANCHES = "branches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one call is to do.

    Attributes:
        settings: What determines the run.
        data: Prepared speech to train on.
        valid: Prepared speech to validate on.
        out: The run's folder.
        lengths: How long; several are branches of one run.
        device: "auto", "cpu", "cuda" or "cuda:N".
        compile: Whether torch compiles the network; None compiles on a GPU.
        quiet: Whether nothing is said while it runs.
    """

    settings: Settings
    data: Path
    valid: Path
    out: Path
    lengths: Sequence[Length]
    device: str = "auto"
    compile: bool | None = None
    quiet: bool = False


def train(order: Order) -> dict[str, Any]:
    """Train, or go on training, and return what `result.json` says.

    With several lengths the learning rate stays at its peak up to the longest one's decay, and each shorter one is a
    branch off that trunk with a decay of its own, in `branches/`; their results stand in the result of the longest.

    Raises:
        ModelError: Something about the order, the data, the disk or the loss.
    """
    with open_world(order.device) as world:
        order.settings.check(world.size)
        with _held(order.out, world), noted_signals() as signals:
            return _Runs(order, world, signals).all()


@contextmanager
def _held(folder: Path, world: World) -> Iterator[None]:
    """Hold the run's folder in the first process; the others wait until it does."""
    if world.rank:
        world.any(False)
        yield
        return
    with locked(folder, "trainer"):
        world.any(False)
        yield


class _Runs:
    """The trunk and its branches."""

    def __init__(self, order: Order, world: World, signals: list[int]) -> None:
        self.order, self.world, self.signals = order, world, signals
        self.speech: Speech | None = None  # opened only where something is left to train
        settings, config = order.settings, order.settings.config
        shape = (config.context_frames, config.continuation_frames)
        tokens = flops.tokens(config, *shape)
        self.per_step = {
            "steps": 1.0,
            "flops": settings.batch_size * float(flops.training(config, *shape).total),
            "tokens": settings.batch_size * float(tokens["network"]),
            "six_nd": settings.batch_size * float(flops.six_nd(config, *shape)),
        }
        self.conventions = {
            "parameters": "all trainable parameters",
            "tokens": "mel tokens of context and continuation that entered the network",
            "flops": "exact training FLOPs (3 x forward), validation not counted",
            **{f"tokens, {name}": f"{count * settings.batch_size} a step" for name, count in tokens.items()},
        }
        steps = sorted({length.steps(self.per_step) for length in order.lengths})
        warmup = min(settings.warmup_steps, max(1, steps[0] // 10))
        self.schedules = [WarmupStableDecay(count, warmup, round(settings.decay_share * count)) for count in steps]

        self._forks = frozenset(schedule.decay_start for schedule in self.schedules[:-1])

    def all(self) -> dict[str, Any]:
        """Train trunk and branches, each on from where it stands."""
        *shorter, longest = self.schedules
        finished = self._finished(self.order.out, longest)
        if finished is not None and len(finished.get("branches", [])) == len(shorter):
            return finished
        self._open_data()
        branches = []
        for schedule in shorter:
            self._leg(self.order.out, longest, schedule.decay_start, None)
            folder = self.order.out / BRANCHES / f"steps-{schedule.steps:09d}"
            trunk = checkpoint.find(self.order.out / checkpoint.FOLDER / f"step-{schedule.decay_start:09d}")
            branches.append(self._finished(folder, schedule) or self._result(folder, schedule, trunk, []))
        return self._finished(self.order.out, longest) or self._result(self.order.out, longest, None, branches)

    def _finished(self, folder: Path, schedule: WarmupStableDecay) -> dict[str, Any] | None:
        """Return the result of a run that is at its end already."""
        if not (folder / RESULT).is_file():
            return None
        result = read_json(folder / RESULT, CheckpointError)
        self._check_same(folder, checkpoint.find(folder), schedule)
        return result if result["steps"] == schedule.steps else None

    def _open_data(self) -> None:
        order, config = self.order, self.order.settings.config
        self.speech = open_speech(order.data, order.valid, order.settings.vocoder)
        self.shards, held_out = self.speech.train, self.speech.valid
        self.normalizer = self.shards.normalizer()
        shape = (config.context_frames, config.continuation_frames, order.settings.join_speakers)
        self.windows = Windows(self.shards, *shape)
        self.validation = Validation(Windows(held_out, *shape), self.normalizer, order.settings.valid_windows)
        self.facts = {
            "settings": order.settings.as_dict(),
            "mel_spec": dataclasses.asdict(self.shards.spec),
            "normalizer": self.normalizer.as_dict(),
            "parameters": config.parameters(),
            "per_step": self.per_step,
            "conventions": self.conventions,
            "data": self.speech.digests(),
            "constant_loss": self.validation.constant_loss(order.settings.process),
        }

    def _leg(
        self, folder: Path, schedule: WarmupStableDecay, until: int, start: checkpoint.Checkpoint | None
    ) -> float | None:
        """Train one run up to a step, from its latest checkpoint or from `start`; return the validation loss there."""
        found = checkpoint.last(folder) or start
        if found is not None:
            self._check_same(folder, found, schedule)
            if found.step >= until:
                return found.facts["val_loss"] if found.step == until else None
        settings = self.order.settings
        on_gpu = self.world.device.type == "cuda"
        compiled = on_gpu if self.order.compile is None else self.order.compile
        trainer = Trainer(settings, self.world, self.windows, self.normalizer, compiled)
        if found is not None:
            trainer.restore(found)
        journal = self._journal(folder, trainer, schedule) if self.world.rank == 0 else None
        facts = {**self.facts, "schedule": dataclasses.asdict(schedule)}
        try:
            return run(trainer, folder, schedule, until, self.validation, journal, facts, self.signals, self._forks)
        finally:
            if journal:
                journal.close()

    def _journal(self, folder: Path, trainer: Trainer, schedule: WarmupStableDecay) -> Journal:
        folder.mkdir(parents=True, exist_ok=True)
        peak = matrix_rate(self.world.device, precision(self.order.settings.precision, self.world.device))
        peak *= self.world.size
        per_step = self.per_step["flops"], self.per_step["tokens"]
        journal = Journal(folder, trainer.step, schedule.steps, *per_step, peak, self.order.quiet)
        if trainer.step == 0:
            journal.note(0, {"constant_loss": self.facts["constant_loss"], "matrix_flops_per_s": peak})
        steps = schedule.steps
        journal.say(
            f"{folder}: N = {self.facts['parameters']:.4g}, step {trainer.step} of {steps} "
            f"({steps * per_step[0]:.3g} FLOPs, {steps * per_step[1]:.3g} tokens); "
            f"{self.windows.left_out_frames / self.shards.frames:.0%} of the speech is in clips shorter than a window; "
            f"the best constant prediction has a validation loss of {self.facts['constant_loss']:.5f}"
        )
        config = self.order.settings.config
        if config.bottleneck:
            journal.say(
                f"a token of {config.patch} frames is {config.token_width} numbers, more than the width of "
                f"{config.width} lets pass: what it generates will stay noisy; a --patch of at most "
                f"{max(1, config.width // config.mels)} mends it"
            )
        return journal

    def _result(
        self,
        folder: Path,
        schedule: WarmupStableDecay,
        start: checkpoint.Checkpoint | None,
        branches: list[dict[str, Any]],
    ) -> dict[str, Any]:
        """Train a run to its end and write its result."""
        value = self._leg(folder, schedule, schedule.steps, start)
        steps = schedule.steps
        result = {
            "parameters": self.facts["parameters"],
            "tokens": steps * self.per_step["tokens"],
            "flops": steps * self.per_step["flops"],
            "six_nd": steps * self.per_step["six_nd"],
            "val_loss": value,
            "constant_loss": self.facts["constant_loss"],
            "steps": steps,
            "conventions": self.conventions,
            "checkpoint": f"{checkpoint.FOLDER}/step-{steps:09d}",
            "branches": [{**branch, "folder": f"{BRANCHES}/steps-{branch['steps']:09d}"} for branch in branches],
        }
        if self.world.rank == 0:
            write_json(folder / RESULT, result)
        return result

    def _check_same(self, folder: Path, found: checkpoint.Checkpoint, schedule: WarmupStableDecay) -> None:
        """Refuse to go on with other settings, other speech, or a length that the run has passed."""
        check_settings(folder, Settings.from_dict(found.facts["settings"]).differences(self.order.settings))
        if self.speech is not None:
            check_speech(folder, found, self.speech)
        check_length(folder, found, schedule)
