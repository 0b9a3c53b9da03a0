"""Find the files of a model (folder, installed distribution, hub cache, hub) and identify them by content."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cdslm_eval.core.errors import EvalError, UsageError

__all__ = [
    "PICKLED",
    "SAFE",
    "Checkpoint",
    "RequiredFiles",
    "check_sha256",
    "distribution_file",
    "find_checkpoint",
    "is_cached",
    "read_json",
    "sha256_of",
]

RequiredFiles = Sequence[str | tuple[str, ...]]
"""File names that a model needs; a tuple lists alternatives, any one of which is enough."""

SAFE = ("model.safetensors", "model.safetensors.index.json")
"""Weights that are read without running code: one file, or the index of several."""
PICKLED = "pytorch_model.bin"
"""Pickled weights; only a loader that passes `weights_only=True` may list them as an alternative."""
_PATTERNS = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")


def distribution_file(requirement: str, relative_path: str, sha256: str, *, install: str = "") -> Path:
    """Return the path of a file inside an installed distribution, verified by its digest.

    The distribution is found through its metadata: none of its code is imported, so that neither its import side
    effects nor its own requirements matter. Put `sha256` into the component's `fingerprint`.

    Args:
        requirement: The distribution, with the version whose file is meant: "speechmos==0.0.1.1".
        relative_path: Path of the file inside site-packages, with "/": "speechmos/dnsmos_models/model_v8.onnx".
        sha256: Digest that the file must have, in hex.
        install: Command that installs it; "pip install REQUIREMENT" where it is left out.

    Raises:
        UsageError: The distribution is not installed.
        EvalError: It has no such file, or the file has another digest; both name the version that is installed.

    Example:
        >>> distribution_file("no-such-thing==1.0", "no_such_thing/weights.onnx", "0" * 64)
        Traceback (most recent call last):
        cdslm_eval.core.errors.UsageError: no-such-thing==1.0 is not installed. Install: pip install no-such-thing==1.0
    """
    name, _, version = requirement.partition("==")
    install = install or f"pip install {requirement}"
    try:
        owner = distribution(name)
    except PackageNotFoundError as error:
        raise UsageError(f"{requirement} is not installed. Install: {install}") from error
    installed = f"{name} {owner.version} is installed"
    fix = f"Install: {install.replace('pip install', 'pip install --force-reinstall', 1)}"
    path = Path(str(owner.locate_file(relative_path)))
    if not path.is_file():
        raise EvalError(f"{path}: no such file ({installed}{f', {version} has it' if version else ''}). {fix}")
    if (digest := sha256_of(path)) != sha256.lower():
        raise EvalError(f"{path}: SHA-256 {digest[:12]}..., expected {sha256[:12]}... ({installed}). {fix}")
    return path


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on this machine.

    Attributes:
        folder: Folder of its files.
        revision: Commit on the hub; "" for a folder of the user's.
    """

    folder: Path
    revision: str = ""

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of those of its files that match `names` (shell patterns), by file name."""
        paths = {path for name in names for path in self.folder.glob(name) if path.is_file()}
        return {path.name: sha256_of(path) for path in sorted(paths)}


def find_checkpoint(model: str, required: RequiredFiles, *, user: str, revision: str | None = None) -> Checkpoint:
    """Return a model's files: of a folder, else of the hub's cache, else downloaded now.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        required: The files without which it cannot be used.
        user: Name of the component that uses them, for messages.
        revision: Branch, tag or commit on the hub.

    Raises:
        UsageError: `model` is neither a folder nor a name on the hub.
        EvalError: Files are missing; the message names them and the fix.
    """
    if Path(model).is_dir():
        _check_complete(Path(model), required, model, user)
        return Checkpoint(Path(model))
    if Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise UsageError(f"{user}: {model}: no such folder, nor a name on the hub such as owner/model")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(f"{user}: {model} is no folder. Install: pip install huggingface_hub, for the hub") from error
    for offline in (True, False):
        if not offline and not _reachable(huggingface_hub.constants.ENDPOINT):
            break
        folder = _snapshot(model, revision, required, offline=offline)
        # an incomplete cache is no error: the hub may have the rest
        if folder is not None and (not offline or not _lacking(folder, required)):
            _check_complete(folder, required, model, user)
            return Checkpoint(folder, folder.name)
    at_revision = f" at revision {revision}" if revision else ""
    raise EvalError(
        f"{user}: {model}{at_revision} is not in this machine's cache and the hub does not provide it. "
        f"Use: download {_listed(required)} where there is a network, and pass their folder as model=FOLDER"
    )


def _snapshot(model: str, revision: str | None, required: RequiredFiles, *, offline: bool) -> Path | None:
    """Return the folder of a model's files in the hub's cache, or None where the hub has no such model."""
    from huggingface_hub import snapshot_download

    # the pickled twin is fetched only where the repository has no safetensors
    accepts_pickled = any(PICKLED in names for names in required if isinstance(names, tuple))
    for patterns in (_PATTERNS, (*_PATTERNS, PICKLED)) if accepts_pickled else (_PATTERNS,):
        try:
            folder = Path(
                snapshot_download(model, revision=revision, allow_patterns=list(patterns), local_files_only=offline)
            )
        except (OSError, ValueError):
            return None
        if not _lacking(folder, required):
            break
    return folder


def check_sha256(path: Path, sha256: str | None, user: str) -> None:
    """Refuse a file whose SHA-256 differs from `sha256`; None accepts any.

    Raises:
        EvalError: The digest differs; the message has both.
    """
    if sha256 is not None and sha256_of(path) != sha256.lower():
        raise EvalError(
            f"{user}: {path} has SHA-256 {sha256_of(path)}, and sha256={sha256} was required. "
            "Use: download it again, or correct sha256="
        )


def is_cached(model: str, name: str = "config.json") -> bool:
    """Return whether a file of a model on the hub is in this machine's cache; uses no network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(model, name), str)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        EvalError: The file is not readable, is not JSON, or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise EvalError(f"{path} holds no JSON object")
    return value


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex; an unchanged file is read once per process."""
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lacking(folder: Path, required: RequiredFiles) -> list[str]:
    groups = [(names,) if isinstance(names, str) else names for names in required]
    return [" or ".join(group) for group in groups if not any((folder / name).is_file() for name in group)]


def _check_complete(folder: Path, required: RequiredFiles, model: str, user: str) -> None:
    """Raise an error that names the missing files."""
    if lacking := _lacking(folder, required):
        pickled = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        why = f"; {pickled[0]} is pickled and is not loaded, save it as safetensors" if pickled else ""
        raise EvalError(f"{user}: {model}: no {', no '.join(lacking)} in it; {user} needs {_listed(required)}{why}")


def _listed(required: RequiredFiles) -> str:
    return ", ".join(names if isinstance(names, str) else " or ".join(names) for names in required)


@cache
def _reachable(endpoint: str) -> bool:
    """Return whether the hub's host answers; its own client tries for half a minute where there is no network."""
    parts = urlsplit(endpoint)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
