"""What the model's commands say to the user: one exception family, told in one sentence without a traceback."""

from __future__ import annotations

__all__ = ["CheckpointError", "DataError", "ModelError", "NotANumberError", "TrainingError"]


class ModelError(Exception):
    """An error that is told in one sentence which names the file or option and what to do about it.

    The command line prints the message and leaves with `exit_code`; the plugin hands it on as an error of the
    evaluation package.
    """

    exit_code = 2


class DataError(ModelError):
    """The prepared speech cannot be used as asked."""


class CheckpointError(ModelError):
    """A checkpoint is missing, damaged, of another kind, or in somebody else's hands."""

    exit_code = 3


class TrainingError(ModelError):
    """Training cannot go on: the loss is not a number, or the machine has no room."""

    exit_code = 3


class NotANumberError(TrainingError):
    """The loss or its gradient is not a finite number."""
