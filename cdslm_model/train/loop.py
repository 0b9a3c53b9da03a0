"""The training loop of any model: steps, validations and checkpoints up to a step, a signal or an error."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from cdslm_model import checkpoint
from cdslm_model.errors import NotANumberError, TrainingError
from cdslm_model.files import no_room
from cdslm_model.train.journal import Journal
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import RunSettings
from cdslm_model.train.stopping import Interrupted

__all__ = ["Trainable", "run"]


class Trainable(Protocol):
    """A model in training; with several processes, all methods are collective."""

    step: int

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding loss, learning rate and gradient norm of each step."""

    def validate(self) -> dict[str, float | None]:
        """Return "val_loss" and its standard error "val_loss_se" on held-out windows."""

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int]) -> None:
        """Write a checkpoint, keeping those of protected steps."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""


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
    try:
        for values in trainer.advance(schedule, until):
            step = trainer.step
            # a signal reaches each process at another step, or only one of them: all must stop after the same step
            stop = trainer.any(bool(signals))
            if journal:
                journal.step(step, values)
            # a checkpoint between validations must not carry the loss of earlier weights
            measured: dict[str, float | None] = {"val_loss": None}
            if step % settings.valid_every == 0 or step == until:
                measured = validation = trainer.validate()
                if journal:
                    journal.note(step, validation)
                    journal.message(f"step {step}: validation loss {validation['val_loss']:.5f}")
            if stop or step % settings.save_every == 0 or step == until:
                trainer.save(folder, {**facts, **measured}, protected)
            # after the last step nothing is left to interrupt, and the result should still be written
            if stop and step < until:
                raise Interrupted(signals[0] if signals else signal.SIGTERM)
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
    return validation


def _last_good(folder: Path) -> str:
    last = checkpoint.last_checkpoint(folder)
    return f"the last good checkpoint is {last.folder}" if last else "there is no checkpoint yet"
