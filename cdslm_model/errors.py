"""Errors of the model: one exception family, printed as one sentence without a traceback."""

from __future__ import annotations

__all__ = ["CheckpointError", "DataError", "ModelError", "NotANumberError", "TrainingError"]


class ModelError(Exception):
    """An error whose message is one sentence that names the file or option and the fix.

    The command line prints the message and exits with `exit_code`; the plugin raises it again as an error of the
    evaluation package.
    """

    exit_code = 2


class DataError(ModelError):
    """The prepared speech cannot be used."""


class CheckpointError(ModelError):
    """A checkpoint is missing, damaged, or of another kind."""

    exit_code = 3


class TrainingError(ModelError):
    """Training cannot continue: the loss is not a number, or the disk is full."""

    exit_code = 3


class NotANumberError(TrainingError):
    """The loss or its gradient is not a finite number."""
