"""Checkpoints of transformers: where their files lie, what identifies them, and loading them without running code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.checkpoints import sha256_of
from cdslm_eval.plugin.pretrained import quiet
from cdslm_eval_embeddings.encoder import Which

__all__ = ["PIP", "Checkpoint"]

PIP = "pip install 'cdslm-eval-embeddings[transformers]'"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
# drawn at random where absent, and read by no forward pass outside training
_IDLE_KEYS = ("masked_spec_embed",)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the hub or in a folder.

    Attributes:
        which: Its name and revision.
        kinds: The `model_type`s that will do.
    """

    which: Which
    kinds: tuple[str, ...]

    @cached_property
    def weights(self) -> Path:
        """Return the file of weights, downloaded when it is not here yet.

        Raises:
            EvalError: There is none; the message says which files are wanted.
        """
        found = next((path for name in _WEIGHTS if (path := self._find(name, online=False))), None)
        found = found or next((path for name in _WEIGHTS if (path := self._find(name, online=True))), None)
        if found is None:
            raise EvalError(self._absent(" or ".join(_WEIGHTS)))
        return found

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration.

        Raises:
            EvalError: There is none, it is no JSON object, or it is that of another kind of network.
        """
        path = self._find(_CONFIG, online=False) or self._find(_CONFIG, online=True)
        if path is None:
            raise EvalError(self._absent(_CONFIG))
        config = _json(path)
        kind = config.get("model_type")
        if kind not in self.kinds:
            raise UsageError(f"{self.which.model} is a {kind!r} checkpoint; {' or '.join(self.kinds)} is wanted here")
        return config

    @cached_property
    def normalizes(self) -> bool:
        """Whether the network wants samples of mean 0 and variance 1; yes where nothing says, as in transformers."""
        path = self._find(_PREPROCESSOR, online=False) or self._find(_PREPROCESSOR, online=True)
        return True if path is None else bool(_json(path).get("do_normalize", True))

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of the weights and what else of the checkpoint and its engine can move a number."""
        config = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()
        return {
            "weights": sha256_of(self.weights),
            "config": config,
            "transformers": _version("transformers"),
            "torch": _version("torch"),
        }

    def here(self) -> bool:
        """Return whether the weights are on this machine; imports nothing heavy and asks no network."""
        known = Path(self.which.model).is_dir() or find_spec("huggingface_hub") is not None
        return known and any(self._find(name, online=False) for name in _WEIGHTS)

    def load(self, kind: Any) -> Any:
        """Return the network in evaluation mode, float32, on the CPU.

        Args:
            kind: An auto class of transformers.

        Raises:
            EvalError: The weights do not fit, or hold more than tensors.
        """
        import torch

        folder = self.weights.parent
        _ = self.config  # its errors are clearer than those of transformers
        try:
            with quiet():
                network, report = kind.from_pretrained(
                    str(folder),
                    use_safetensors=self.weights.suffix == ".safetensors",
                    weights_only=True,
                    local_files_only=True,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
        except Exception as error:  # a file of weights from a stranger may fail in any way
            said = str(error).strip().splitlines()
            raise EvalError(f"{self.weights} cannot be loaded: {said[0] if said else type(error).__name__}") from error
        lacking = [key for key in sorted(report["missing_keys"]) if not key.endswith(_IDLE_KEYS)]
        if lacking:
            # transformers would fill them at random, differently in each process
            raise EvalError(f"{self.weights} lacks {', '.join(lacking[:3])}: it is not the checkpoint of {folder}")
        return network.eval()

    def _find(self, name: str, *, online: bool) -> Path | None:
        if Path(self.which.model).is_dir():
            found = Path(self.which.model) / name
            return found if found.is_file() else None
        if find_spec("transformers") is None:
            raise UsageError(f"{self.which.model} needs {PIP}")
        from huggingface_hub import try_to_load_from_cache

        if not online:
            try:
                cached = try_to_load_from_cache(self.which.model, name, revision=self.which.revision)
            except ValueError as error:  # not of the form owner/name
                raise UsageError(f"model={self.which.model}: no such folder, and no name on the hub") from error
            return Path(cached) if isinstance(cached, str) else None
        from transformers.utils.hub import cached_file

        try:
            fetched = cached_file(self.which.model, name, revision=self.which.revision)
        except (OSError, ValueError):
            return None
        return None if fetched is None else Path(fetched)

    def _absent(self, name: str) -> str:
        if Path(self.which.model).is_dir():
            return f"{self.which.model}: no {name} in it; save_pretrained writes {_CONFIG} and {_WEIGHTS[0]}"
        revision = f" at revision {self.which.revision}" if self.which.revision else ""
        return (
            f"no {name} of {self.which.model}{revision} here nor on the hub; where there is a network, download "
            f"{_CONFIG}, {_PREPROCESSOR} and {_WEIGHTS[0]} (or {_WEIGHTS[1]}) of it, and give model=FOLDER"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise EvalError(f"{path} holds no JSON object")
    return value


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError as error:
        raise UsageError(f"a transformers encoder needs {PIP}") from error
