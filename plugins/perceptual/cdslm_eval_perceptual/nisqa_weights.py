"""Where the weights of NISQA come from: a path, a cache, or a download that is checked before it is kept."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, cast

from cdslm_eval.core.errors import EvalError

__all__ = ["LICENCE", "SHA256", "URL", "cached", "load", "located"]

URL = "https://github.com/gabrielmittag/NISQA/raw/refs/heads/master/weights/nisqa.tar"
SHA256 = "7ec4cf937514dd3f8860b21e66fabd8ca87a168572675ef8d979c4c4ad2e805c"
LICENCE = "CC-BY-NC-SA-4.0"
VARIABLE = "CDSLM_EVAL_NISQA"
_TIMEOUT_S = 30.0
_MOST_BYTES = 16 << 20
_HOW = "give the file as nisqa:weights=FILE or in $" + VARIABLE


def cached() -> Path | None:
    """Return the weights that are here already: `$CDSLM_EVAL_NISQA`, our cache, or the one of torchmetrics."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    places = (_cache(), Path("~/.torchmetrics/NISQA/nisqa.tar").expanduser())
    return next((position for position in places if position.is_file()), None)


def located(weights: str | None, sha256: str = SHA256, url: str = URL) -> Path:
    """Return the weights' file, downloaded when it is nowhere yet, after its digest was checked.

    Args:
        weights: A path, or None to look where `cached` looks.
        sha256: The digest that it must have.
        url: Where it is downloaded from.

    Raises:
        EvalError: It is not there, is not the file of the digest, or cannot be downloaded.
    """
    path = Path(weights).expanduser() if weights else cached()
    if path is None:
        path = _download(url, sha256, _cache())
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EvalError(f"{path}: the weights of NISQA cannot be read: {error.strerror}; {_HOW}") from error
    if digest != sha256:
        raise EvalError(
            f"{path}: not the published weights of NISQA v2.0 (SHA-256 {digest[:12]}..., wanted {sha256[:12]}...); "
            f"download {URL} again, or, for weights of your own, add sha256={digest}"
        )
    return path


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings and the tensors in a checkpoint; nothing in it is executed.

    Raises:
        EvalError: It is not a checkpoint, or holds more than tensors and plain values.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        why = str(error).partition("\n")[0][:100]
        raise EvalError(f"{path}: not loaded, it is no checkpoint of NISQA or holds code ({why}); {_HOW}") from error
    if not isinstance(checkpoint, dict) or not {"args", "model_state_dict"} <= set(checkpoint):
        raise EvalError(f"{path}: a checkpoint, but not of NISQA: 'args' and 'model_state_dict' are wanted in it")
    return cast("dict[str, Any]", checkpoint["args"]), cast("dict[str, Any]", checkpoint["model_state_dict"])


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "cdslm_eval" / "nisqa.tar"


def _download(url: str, sha256: str, target: Path) -> Path:
    """Download to a file of its own beside the target, and rename it when its digest is right."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - ours, and the digest is checked
            body = answer.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise EvalError(f"the weights of NISQA cannot be downloaded from {url} ({why}); {_HOW}") from error
    digest = hashlib.sha256(body).hexdigest()
    if digest != sha256:
        raise EvalError(
            f"{url} gave another file than wanted (SHA-256 {digest[:12]}..., wanted {sha256[:12]}...); {_HOW}"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".nisqa-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
        Path(name).replace(target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise EvalError(f"{target}: cannot be written: {error.strerror}") from error
    return target
