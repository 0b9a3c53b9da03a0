"""The continuous diffusion spoken language model, and what other models share with it; importing it imports no torch.

The names below are the interface for packages of other models (such as `cdslm-eval-unit-lm`), next to
`cdslm_model.plugin` for generators and `cdslm_model.cli` for commands. Each is imported on first access.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdslm_model.checkpoint import Checkpoint, find_checkpoint, last_checkpoint, save_checkpoint
    from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
    from cdslm_model.data.windows import Shards, read_spec
    from cdslm_model.devices import matrix_rate, pick_device, precision
    from cdslm_model.errors import CheckpointError, DataError, ModelError, NotANumberError, TrainingError
    from cdslm_model.files import locked, read_json, sha256, write_json, written_whole
    from cdslm_model.sample.pictures import draw_set
    from cdslm_model.sample.vocoder import find_vocoder
    from cdslm_model.seeding import random_source
    from cdslm_model.train.distributed import World, open_world
    from cdslm_model.train.jobs import (
        RESULT,
        Job,
        Length,
        check_length,
        check_settings,
        check_speech,
        find_splits,
        finished_result,
        open_speech,
        result_counts,
    )
    from cdslm_model.train.journal import Journal
    from cdslm_model.train.loop import run
    from cdslm_model.train.schedule import WarmupStableDecay
    from cdslm_model.train.settings import PRECISIONS, RunSettings
    from cdslm_model.train.stopping import noted_signals

_MODULES = {
    "checkpoint": ("Checkpoint", "find_checkpoint", "last_checkpoint", "save_checkpoint"),
    "data.mel": ("LogMel", "MelSpec", "Normalizer"),
    "data.windows": ("Shards", "read_spec"),
    "devices": ("matrix_rate", "pick_device", "precision"),
    "errors": ("CheckpointError", "DataError", "ModelError", "NotANumberError", "TrainingError"),
    "files": ("locked", "read_json", "sha256", "write_json", "written_whole"),
    "sample.pictures": ("draw_set",),
    "sample.vocoder": ("find_vocoder",),
    "seeding": ("random_source",),
    "train.distributed": ("World", "open_world"),
    "train.jobs": (
        "RESULT",
        "Job",
        "Length",
        "check_length",
        "check_settings",
        "check_speech",
        "find_splits",
        "finished_result",
        "open_speech",
        "result_counts",
    ),
    "train.journal": ("Journal",),
    "train.loop": ("run",),
    "train.schedule": ("WarmupStableDecay",),
    "train.settings": ("PRECISIONS", "RunSettings"),
    "train.stopping": ("noted_signals",),
}
_OWNERS = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "PRECISIONS",
    "RESULT",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "Job",
    "Journal",
    "Length",
    "LogMel",
    "MelSpec",
    "ModelError",
    "Normalizer",
    "NotANumberError",
    "RunSettings",
    "Shards",
    "TrainingError",
    "WarmupStableDecay",
    "World",
    "check_length",
    "check_settings",
    "check_speech",
    "draw_set",
    "find_checkpoint",
    "find_splits",
    "find_vocoder",
    "finished_result",
    "last_checkpoint",
    "locked",
    "matrix_rate",
    "noted_signals",
    "open_speech",
    "open_world",
    "pick_device",
    "precision",
    "random_source",
    "read_json",
    "read_spec",
    "result_counts",
    "run",
    "save_checkpoint",
    "sha256",
    "write_json",
    "written_whole",
]


def __getattr__(name: str) -> Any:
    """Import a name of the interface on first access."""
    if name not in _OWNERS:
        raise AttributeError(f"module 'cdslm_model' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cdslm_model.{_OWNERS[name]}"), name)
