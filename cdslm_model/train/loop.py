"""The training loop of any model: steps, validations and checkpoints up to a step, a signal or an error."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cdslm_model import checkpoint
from cdslm_model.errors import NotANumberError, TrainingError
from cdslm_model.files import no_room
from cdslm_model.train.journal import Journal
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import RunSettings
from cdslm_model.train.stopping import Interrupted

if TYPE_CHECKING:
    import torch

__all__ = ["LATE_STEPS", "Trainable", "run"]

LATE_STEPS = 4
"""Steps after which loss and norm are read where a GPU computes them: it works on these while the CPU waits."""


class Trainable(Protocol):
    """A model in training; with several processes, all methods are collective."""

    step: int

    @property
    def device(self) -> torch.device:
        """Where values of steps are computed."""

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[Mapping[str, float]]:
        """Train up to a step, yielding loss, learning rate and gradient norm of each step.

        Values may still be under way; they are read some steps later.
        """

    def validate(self) -> dict[str, float | None]:
        """Return "val_loss" and its standard error "val_loss_se" on held-out windows."""

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int]) -> None:
        """Write a checkpoint, keeping those of protected steps; it may still be written on return."""

    def settle(self) -> None:
        """Wait until the last checkpoint is complete."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; with several, only at some steps, False at the others."""


def run(
    trainer: Trainable,
    settings: RunSettings,
    folder: Path,
    schedule: WarmupStableDecay,
    until: int,
    journal: Journal | None,
    facts: Mapping[str, Any],
    signals: list[int],
    protected: frozenset[int] = frozenset(),
) -> dict[str, float | None]:
    """Train up to a step with validations and checkpoints on the way; return the last validation.

    On return and on a signal all checkpoints are complete, in every process.

    Args:
        trainer: At any step before `until`.
        settings: Of the run.
        folder: The run's.
        schedule: Learning rate.
        until: The step to reach.
        journal: Of the first process; None in the others.
        facts: Facts of the run that every checkpoint holds.
        signals: Numbers of the signals that arrived, filled by the signal handler.
        protected: Steps whose checkpoints stay: branches start from them.

    Raises:
        Interrupted: A signal arrived; a checkpoint is written.
        TrainingError: The loss is not a number; the message names the last good checkpoint.
    """
    validation: dict[str, float | None] = {}
    # on a CPU the values are there when the step ends: read later, they would be logged with the time of later steps
    late = LATE_STEPS if trainer.device.type == "cuda" else 0
    log, steps = _Log(journal), trainer.advance(schedule, until)
    saved = time.monotonic()
    try:
        with _left_together(trainer, steps):
            for values in steps:
                step = trainer.step
                # a signal reaches each process at another step, or only one of them: all must stop after the same step
                stop = trainer.any(bool(signals))
                validate, save = step % settings.valid_every == 0, step % settings.save_every == 0
                if settings.save_minutes is not None:
                    save = trainer.any(time.monotonic() - saved > 60 * settings.save_minutes)
                validate, save = validate or step == until, save or stop or step == until
                # nothing is saved or measured before the loss is known to be a number
                log.add(step, values, 0 if validate or save else late)
                # a checkpoint between validations must not carry the loss of earlier weights
                measured: dict[str, float | None] = {"val_loss": None}
                if validate:
                    measured = validation = trainer.validate()
                    if journal:
                        journal.note(step, validation)
                        journal.message(f"step {step}: validation loss {validation['val_loss']:.5f}")
                if save:
                    trainer.save(folder, {**facts, **measured}, protected)
                    saved = time.monotonic()
                if stop:
                    break
    except NotANumberError as error:
        raise TrainingError(
            f"{error}; {_last_good(folder)}. A lower --lr or a higher --warmup-steps may help"
        ) from error
    except OSError as error:
        if not no_room(error):
            raise
        raise TrainingError(
            f"{folder}: no space for its log; {_last_good(folder)}. Free some space and repeat the command"
        ) from error
    # after the last step nothing is left to interrupt, and the result should still be written
    if trainer.step < until:
        raise Interrupted(signals[0] if signals else signal.SIGTERM)
    return validation


@contextmanager
def _left_together(trainer: Trainable, steps: Iterator[Mapping[str, float]]) -> Iterator[None]:
    """Complete the last checkpoint at the end of the loop, and at a loss that is not a number, in all processes."""
    try:
        yield
        # only the first process writes: as soon as another left, torchrun would signal it, a second time after a stop,
        # which ends it in the midst of its checkpoint
        trainer.settle()
    except NotANumberError:
        # all find it after the same step
        trainer.settle()
        raise
    finally:
        # a checkpoint that is being written is complete before the last good one is looked for
        if isinstance(steps, Generator):
            steps.close()


class _Log:
    """Passes on the values of steps once they are old enough to be read without waiting.

    Args:
        journal: Of the first process; None in the others, which check the values at the same steps.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._waiting: deque[tuple[int, Mapping[str, float]]] = deque()

    def add(self, step: int, values: Mapping[str, float], most: int) -> None:
        """Add the values of a step, and read until at most `most` steps wait.

        Raises:
            NotANumberError: A loss or a gradient is not finite.
        """
        self._waiting.append((step, values))
        # by number, not by time: all processes must find the same step not finite at once
        while len(self._waiting) > most:
            number, numbers = self._waiting.popleft()
            for name, what in (("loss", "loss"), ("grad_norm", "gradient")):
                if not math.isfinite(numbers[name]):
                    raise NotANumberError(
                        f"step {number}: the {what} is not a number ({numbers['loss']}, norm {numbers['grad_norm']})"
                    )
            if self._journal:
                self._journal.step(number, dict(numbers))


def _last_good(folder: Path) -> str:
    last = checkpoint.last_checkpoint(folder)
    return f"the last good checkpoint is {last.folder}" if last else "there is no checkpoint yet"
