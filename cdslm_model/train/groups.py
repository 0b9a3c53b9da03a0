"""Validation loss by language or source of the speech."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cdslm_model.data.clip_table import LABELS
from cdslm_model.data.mel import Normalizer
from cdslm_model.data.windows import Windows
from cdslm_model.diffusion import Process
from cdslm_model.errors import DataError, ModelError
from cdslm_model.train.objective import Validation

__all__ = ["GroupLoss", "losses_by"]

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(contexts, x_t, time `[batch]`) -> prediction `[batch, frames, mels]`."""
_PER_PASS = 16


@dataclass(frozen=True, slots=True)
class GroupLoss:
    """Validation loss of one language or source.

    Attributes:
        name: The language or source; None where it is not known.
        loss: Mean over its windows, as the validation loss of a run is over all.
        se: Standard error; None for one window.
        windows: Windows of it.
    """

    name: str | None
    loss: float
    se: float | None
    windows: int


def losses_by(
    label: str, predict: Predict, process: Process, windows: Windows, normalizer: Normalizer, count: int
) -> list[GroupLoss]:
    """Return the validation loss of each language or source, and with it, by its windows, that of all.

    Windows, times and noise are those of the validation of a run with as many windows, so that the mean over groups
    by their windows is its validation loss.

    Args:
        label: "language" or "source".
        predict: The model's prediction.
        process: Its process.
        windows: Held-out speech.
        normalizer: The model's.
        count: How many windows.

    Raises:
        ModelError: There is no such label.
        DataError: No clip has one.
    """
    if label not in LABELS:
        raise ModelError(f"losses by {label!r}: one of {', '.join(LABELS)}")
    names = windows.spread_labels(count, label)
    if not any(names):
        raise DataError(
            f"{windows.shards.folder}: no clip has a {label}; prepare it again, from manifests with a column "
            f"{label}" + (" or from sets named NAME=PATH" if label == "source" else "")
        )
    validation = Validation(windows, normalizer, count)
    collate, values = validation.collator("cpu"), []
    with torch.no_grad():
        for piece in validation.stored.split(_PER_PASS):
            batch = collate(piece)
            noisy = process.noised(batch.clean, batch.noise, batch.time)
            target = process.predicted(batch.clean, batch.noise, batch.time)
            errors = (predict(batch.context, noisy, batch.time).float() - target).square().mean((1, 2))
            values.append(process.weight(batch.time).float() * errors)
    losses = torch.cat(values).double()
    groups = []
    for name in sorted(set(names), key=lambda name: (name is None, name or "")):
        own = losses[[own == name for own in names]]
        se = float(own.std() / math.sqrt(len(own))) if len(own) > 1 else None
        groups.append(GroupLoss(name, float(own.mean()), se, len(own)))
    return groups
