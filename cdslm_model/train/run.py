"""One training command: from prepared speech to checkpoints and a result, for one or several training lengths."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cdslm_model import checkpoint
from cdslm_model.data.mixture import MixedWindows, windows_of
from cdslm_model.data.windows import Windows
from cdslm_model.devices import matrix_rate, precision
from cdslm_model.files import locked, write_json
from cdslm_model.guess import FirstGuess
from cdslm_model.net.attention import fastest_kernel
from cdslm_model.net.memory import recomputed_blocks
from cdslm_model.train.distributed import World, open_world
from cdslm_model.train.execution import Execution
from cdslm_model.train.guessing import fitted_guess
from cdslm_model.train.jobs import (
    RESULT,
    Job,
    Speech,
    check_length,
    check_settings,
    check_speech,
    finished_result,
    open_speech,
    result_counts,
)
from cdslm_model.train.journal import Journal
from cdslm_model.train.loop import run
from cdslm_model.train.objective import Validation
from cdslm_model.train.planning import data_use, per_step, schedules, step_tokens, training_steps
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings
from cdslm_model.train.stopping import noted_signals
from cdslm_model.train.trainer import Trainer

__all__ = ["TrainingJob", "train"]

BRANCHES = "branches"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob(Job[Settings]):
    """One training command of the diffusion model; several lengths are branches of one run.

    Attributes:
        compile: Whether torch compiles loss and network; None compiles on a GPU.
        recompute: The first blocks whose activations are computed again in the backward pass; None is as many as the
            memory of a GPU needs, and none on a CPU.
        shard_group: Processes that share one copy of the weights; None is all.
        probe: Called with the checkpoint of each finished run in the first process; its result is part of the run's.
    """

    compile: bool | None = None
    recompute: int | None = None
    shard_group: int | None = None
    probe: Callable[[Path], Mapping[str, Any]] | None = None


def train(job: TrainingJob) -> dict[str, Any]:
    """Train or resume a job, and return its `result.json`.

    With several lengths the learning rate stays at its peak up to the longest one's decay, and each shorter one is a
    branch of that main run with a decay of its own, in `branches/`; the result of the longest contains theirs. A length
    of less than ten warm-ups rises faster than the main run and is trained from its first step on.

    Raises:
        ModelError: A problem with the job, the data, the disk or the loss.
        Interrupted: A signal arrived; a checkpoint is written.
    """
    with open_world(job.device) as world:
        job.settings.check(world.size)
        with _locked_by_first(job.out, world), noted_signals() as signals:
            return _Runs(job, world, signals).train_all()


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


class _Runs:
    """The main run and its branches."""

    def __init__(self, job: TrainingJob, world: World, signals: list[int]) -> None:
        self.job, self.world, self.signals = job, world, signals
        self.speech: Speech | None = None  # opened only where something is left to train
        settings = job.settings
        self.per_step = per_step(settings)
        self.conventions = {
            "parameters": "all trainable parameters",
            "tokens": "mel tokens of context and continuation that entered the network",
            "flops": "exact training FLOPs (3 x forward) of the network; validation and the first guess not counted",
            "noise": settings.noise,
            **{f"tokens, {name}": f"{count:.12g} a step" for name, count in step_tokens(settings).items()},
        }
        self.schedules = schedules(job)
        # kept beyond the latest two checkpoints: a repeated command starts its branches from them
        *shorter, longest = self.schedules
        self._branch_starts = frozenset(schedule.decay_start for schedule in shorter if schedule.shares(longest))

    def train_all(self) -> dict[str, Any]:
        """Train the main run and its branches, each from its latest checkpoint."""
        *shorter, longest = self.schedules
        finished = self._finished(self.job.out, longest)
        if finished is not None and len(finished.get("branches", [])) == len(shorter):
            return finished
        self._open_data()
        branches = []
        # from the shortest on, so that the main run only moves forward
        for schedule in shorter:
            folder = self.job.out / BRANCHES / f"steps-{schedule.steps:09d}"
            start = None
            # a run whose rate falls from its first step on, or rises over fewer steps, shares nothing
            if schedule.shares(longest):
                self._segment(self.job.out, longest, schedule.decay_start, None)
                # by its step: in a repeated command the main run may be far beyond it
                shared = self.job.out / checkpoint.FOLDER / f"step-{schedule.decay_start:09d}"
                start = checkpoint.find_checkpoint(shared)
            branches.append(self._finished(folder, schedule) or self._result(folder, schedule, start, []))
        return self._finished(self.job.out, longest) or self._result(self.job.out, longest, None, branches)

    def _finished(self, folder: Path, schedule: WarmupStableDecay) -> dict[str, Any] | None:
        """Return the result of a run that is finished already."""
        result = finished_result(folder, schedule.steps)
        if (folder / RESULT).is_file():
            # a finished run of other settings must not pass for the result of this command
            self._check_same(folder, checkpoint.find_checkpoint(folder), schedule)
        return result

    def _open_data(self) -> None:
        job, config = self.job, self.job.settings.config
        self.speech = open_speech(job.data, job.valid)
        self.shards, held_out = self.speech.train, self.speech.valid
        self.normalizer = self.shards.normalizer()
        shape = (config.context_frames, config.continuation_frames, job.settings.join_speakers)
        self.windows = windows_of(self.shards, *shape, job.settings.mix)
        self.validation = Validation(Windows(held_out, *shape), self.normalizer, job.settings.valid_windows)
        self.facts: dict[str, Any] = {
            "settings": job.settings.as_dict(),
            "mel_spec": dataclasses.asdict(self.shards.spec),
            "normalizer": self.normalizer.as_dict(),
            "parameters": config.parameters(),
            "per_step": self.per_step,
            "conventions": self.conventions,
            "data": self.speech.digests(job.settings.window_labels()),
            "constant_loss": self.validation.constant_loss(job.settings.process),
        }

    def _segment(
        self, folder: Path, schedule: WarmupStableDecay, until: int, start: checkpoint.Checkpoint | None
    ) -> dict[str, float | None]:
        """Train a run up to a step, from its latest checkpoint or from `start`; return the validation there."""
        # the folder's own first: an interrupted branch is past the checkpoint that it started from
        own = checkpoint.last_checkpoint(folder)
        last = own or start
        # a segment ends with a validation, which its last checkpoint holds
        validation = {} if last is None else {name: last.facts.get(name) for name in ("val_loss", "val_loss_se")}
        if last is not None:
            self._check_same(folder, last, schedule)
            if own is not None and own.step >= until:
                return validation
        settings = self.job.settings
        precise = precision(settings.precision, self.world.device)
        guess = self._fitted_guess if last is None else FirstGuess.stored(last)
        trainer = Trainer(settings, self.world, self.windows, self.normalizer, self.validation, self._execution, guess)
        if last is not None:
            trainer.restore(last)
            _LOG.info("resumed from %s", last.folder)
        _LOG.info("device %s, precision %s, %s", self.world.device, precise, trainer.execution)
        # one log is enough: loss and norm are the same in all processes
        journal = self._journal(folder, trainer, schedule) if self.world.rank == 0 else None
        facts = {**self.facts, "schedule": dataclasses.asdict(schedule)}
        try:
            if trainer.step == until:
                # a branch without a decay is the main run at its start, in a folder of its own
                trainer.save(folder, {**facts, **validation}, self._branch_starts)
                trainer.settle()
                return validation
            return run(trainer, settings, folder, schedule, until, journal, facts, self.signals, self._branch_starts)
        finally:
            if journal:
                journal.close()

    @cached_property
    def _fitted_guess(self) -> FirstGuess | None:
        """The first guess of runs that begin here; a collective call."""
        return fitted_guess(self.job.settings, self.shards, self.normalizer, self.world)

    @cached_property
    def _execution(self) -> Execution:
        """How the steps of this job are computed here; a collective call."""
        job, settings, device = self.job, self.job.settings, self.world.device
        config, dtype = settings.config, precision(settings.precision, device)
        windows = settings.batch_size // self.world.size // settings.accumulate
        recompute = job.recompute
        if recompute is None:
            shards = job.shard_group or self.world.size
            free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf
            recompute = recomputed_blocks(config, windows, dtype, free, shards)
        tokens = config.tokens(config.context_frames) + config.tokens(config.continuation_frames)
        kernel = fastest_kernel((windows, tokens, config.heads, config.head_dim), device, dtype)
        if kernel.name is not None:
            # timings differ a little between processes, and all should round alike
            kernel = kernel.named(self.world.first_text(kernel.name))
        return Execution(
            compile=device.type == "cuda" if job.compile is None else job.compile,
            recompute=min(recompute, config.depth),
            shard_group=job.shard_group,
            kernel=kernel,
        )

    def _journal(self, folder: Path, trainer: Trainer, schedule: WarmupStableDecay) -> Journal:
        folder.mkdir(parents=True, exist_ok=True)
        peak = matrix_rate(self.world.device, precision(self.job.settings.precision, self.world.device))
        peak *= self.world.size
        per_step = self.per_step["flops"], self.per_step["tokens"]
        journal = Journal(folder, trainer.step, schedule.steps, *per_step, peak, self.job.quiet)
        if trainer.step == 0:
            journal.note(0, {"constant_loss": self.facts["constant_loss"], "matrix_flops_per_s": peak})
        steps = schedule.steps
        journal.message(
            f"{folder}: N = {self.facts['parameters']:.4g}, step {trainer.step} of {steps} "
            f"({steps * per_step[0]:.3g} FLOPs, {steps * per_step[1]:.3g} tokens); "
            f"{self.windows.left_out_frames / self.shards.frames:.0%} of the speech is in clips shorter than a window; "
            f"the best constant prediction has a validation loss of {self.facts['constant_loss']:.5f}"
        )
        config = self.job.settings.config
        if config.bottleneck:
            journal.message(
                f"a token of {config.patch} frames has {config.token_width} values, more than the width of "
                f"{config.width} can pass: its samples will stay noisy; use a --patch of at most "
                f"{max(1, config.width // config.mels)}"
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
        validation = self._segment(folder, schedule, schedule.steps, start)
        result = {
            **result_counts(self.facts["parameters"], schedule.steps, self.per_step),
            **validation,
            "constant_loss": self.facts["constant_loss"],
            "conventions": self.conventions,
            "checkpoint": f"{checkpoint.FOLDER}/step-{schedule.steps:09d}",
            "execution": self._execution.as_dict(self.world),
            **data_use(self.job.settings, schedule.steps, self.windows),
            **(
                {"mix": self.windows.use(schedule.steps * self.job.settings.batch_size)}
                if isinstance(self.windows, MixedWindows)
                else {}
            ),
            "branches": [{**branch, "folder": f"{BRANCHES}/steps-{branch['steps']:09d}"} for branch in branches],
        }
        if folder == self.job.out:
            result["training_flops"] = training_steps(self.schedules) * self.per_step["flops"]
        if self.world.rank == 0:
            if self.job.probe is not None:
                result["probe"] = dict(self.job.probe(folder / result["checkpoint"]))
            write_json(folder / RESULT, result)
        return result

    def _check_same(self, folder: Path, last: checkpoint.Checkpoint, schedule: WarmupStableDecay) -> None:
        """Raise where a run was started with other settings or speech, or has passed the length."""
        check_settings(folder, last, self.job.settings)
        if self.speech is not None:
            check_speech(folder, last, self.speech, self.job.settings)
        check_length(folder, last, schedule)
