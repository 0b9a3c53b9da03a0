"""The weights of Audiobox Aesthetics: found, identified, and read without running what a file might hold."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.models import check_sha256, find_checkpoint, sha256_of

__all__ = ["AXES", "Loaded", "Weights", "find_weights"]

AXES = ("CE", "CU", "PC", "PQ")
_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a checkpoint holds.

    Attributes:
        origin: The file, for messages.
        config: Arguments of the network's heads: proj_num_layer, proj_ln, nth_layer ...
        scale: Axis -> (mean, standard deviation) that scores were normalised with.
        tensors: Parameter by name.
    """

    origin: str
    config: Mapping[str, Any]
    scale: Mapping[str, tuple[float, float]]
    tensors: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a checkpoint lies.

    Attributes:
        path: model.safetensors, or the .pt file.
        config: config.json beside model.safetensors; None for a .pt file, which holds its own.
    """

    path: Path
    config: Path | None

    def facts(self) -> dict[str, str]:
        """Return what identifies the checkpoint."""
        weights = {"weights": sha256_of(self.path)}
        if self.config is not None:
            weights["config"] = sha256_of(self.config)
        return weights

    def load(self) -> Loaded:
        """Read the checkpoint.

        Raises:
            EvalError: It is damaged, something else, or holds pickled code.
        """
        if self.config is None:
            return _from_pt(self.path)
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self.path)
        except (SafetensorError, OSError) as error:
            raise EvalError(f"{self.path}: not readable as safetensors ({error}); download it again") from error
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise EvalError(f"{self.config}: not JSON ({error}); download it again") from error
        return _loaded(self.path, config, config.get("target_transform"), tensors)


def find_weights(model: str, revision: str | None, sha256: str | None) -> Weights:
    """Return where a checkpoint lies, downloaded when it is not here yet.

    Args:
        model: Name on the hub, a folder, or a .pt file.
        revision: Branch, tag or commit on the hub.
        sha256: Digest that the weights must have, or None.

    Raises:
        EvalError: Files are missing, or their digest is another.
    """
    if Path(model).is_file():
        if Path(model).suffix not in (".pt", ".pth"):
            raise EvalError(f"aesthetics: {model}: a .pt file, or a folder with {' and '.join(_FILES)}, is wanted")
        weights = Weights(Path(model), None)
    else:
        here = find_checkpoint(model, _FILES, user="aesthetics", revision=revision)
        weights = Weights(here.folder / "model.safetensors", here.folder / "config.json")
    check_sha256(weights.path, sha256, "aesthetics")
    return weights


def _from_pt(path: Path) -> Loaded:
    import torch

    try:
        with warnings.catch_warnings():  # torch's doubts about a file's age end in a refusal or in tensors
            warnings.simplefilter("ignore", UserWarning)
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EvalError(
            f"{path}: holds pickled objects beyond tensors, which may run code, and is not loaded; take the "
            "safetensors form (config.json and model.safetensors)"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise EvalError(f"{path}: not readable as a checkpoint ({_first_line(error)}); download it again") from error
    if not isinstance(held, Mapping) or not {"state_dict", "model_cfg", "target_transform"} <= held.keys():
        raise EvalError(
            f"{path}: no Audiobox Aesthetics checkpoint: state_dict, model_cfg, target_transform are wanted"
        )
    tensors = {re.sub("^model.", "", name): tensor for name, tensor in held["state_dict"].items()}
    return _loaded(path, held["model_cfg"], held["target_transform"], tensors)


def _loaded(path: Path, config: Any, scale: Any, tensors: Mapping[str, Any]) -> Loaded:
    """Check what a third-party file declares before a network is built from it."""
    try:
        scales = {axis: (float(scale[axis]["mean"]), float(scale[axis]["std"])) for axis in AXES}
        config = {**config}
    except (TypeError, KeyError, ValueError) as error:
        raise EvalError(
            f"{path}: no Audiobox Aesthetics checkpoint: its configuration has no target_transform with mean and std "
            f"of {', '.join(AXES)}"
        ) from error
    return Loaded(str(path), config, scales, tensors)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
