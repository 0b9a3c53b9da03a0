"""Checkpoints of transformers as encoders: the kind, the input scaling, and the identity of a checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.models import (
    PICKLED,
    SAFE,
    Pretrained,
    RequiredFiles,
    find_checkpoint,
    is_cached,
    read_json,
    sha256_of,
)
from cdslm_eval_embeddings.encoder import Which

__all__ = ["PIP", "Checkpoint"]

PIP = "pip install 'cdslm-eval-embeddings[transformers]'"
# the base models of some families are published as pickled tensors only; they are read with weights_only=True
_REQUIRED: RequiredFiles = ("config.json", (SAFE[0], PICKLED))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the hub or in a folder.

    Attributes:
        which: Its name and revision.
        kinds: The `model_type`s that are accepted.
    """

    which: Which
    kinds: tuple[str, ...]

    @cached_property
    def pretrained(self) -> Pretrained:
        """Its files, downloaded when they are not here yet.

        Raises:
            UsageError: transformers is not installed.
            EvalError: Files are missing.
        """
        if find_spec("transformers") is None:
            raise UsageError(f"{self.which.model} needs transformers. Install: {PIP}")
        user = f"encoder {self.kinds[0]}"
        checkpoint = find_checkpoint(self.which.model, _REQUIRED, user=user, revision=self.which.revision)
        return Pretrained(checkpoint, self.which.model, "float32", user)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration.

        Raises:
            EvalError: It is no JSON object, or that of another kind of network.
        """
        config = read_json(self.pretrained.folder / "config.json")
        kind = config.get("model_type")
        if kind not in self.kinds:
            raise UsageError(
                f"{self.which.model} is a {kind!r} checkpoint. Use: model=, with {' or '.join(self.kinds)}"
            )
        return config

    @cached_property
    def normalizes(self) -> bool:
        """Whether the network reads samples of mean 0 and variance 1; by default yes, as in transformers."""
        path = self.pretrained.folder / "preprocessor_config.json"
        return bool(read_json(path).get("do_normalize", True)) if path.is_file() else True

    def fingerprint(self) -> dict[str, str]:
        """Return the digest of the weights and what else of the checkpoint and its engine can move a number."""
        config = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()
        return {
            "weights": sha256_of(self.pretrained.weights),
            "config": config,
            "transformers": version("transformers"),
            "torch": version("torch"),
        }

    def here(self) -> bool:
        """Return whether the weights are on this machine; imports nothing heavy and uses no network."""
        folder = Path(self.which.model)
        return any((folder / name).is_file() or is_cached(self.which.model, name) for name in (SAFE[0], PICKLED))

    def load(self, kind: Any) -> Any:
        """Return the network in evaluation mode, float32, on the CPU.

        Args:
            kind: An auto class of transformers.

        Raises:
            EvalError: The weights do not fit, or hold more than tensors.
        """
        import torch

        _ = self.config  # its errors are clearer than those of transformers
        return self.pretrained.load(kind, torch.device("cpu"))
