"""Where the files of a model lie: a folder, the Hugging Face cache, or the hub; and what identifies their content."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from cdslm_eval.core.errors import EvalError

__all__ = ["SAFE", "Checkpoint", "Wanted", "demand_digest", "find_checkpoint", "is_cached", "sha256_of"]

Wanted = Sequence[str | tuple[str, ...]]
"""File names that a model needs; a tuple lists alternatives, any one of which will do."""

SAFE = ("model.safetensors", "model.safetensors.index.json")
"""Weights that can be read without running code: one file, or the index of several."""
_PATTERNS = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model on this machine.

    Attributes:
        folder: Where its files lie.
        revision: Commit on the hub; "" for a folder of the user's.
    """

    folder: Path
    revision: str = ""

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the SHA-256 of those of its files that match `names` (shell patterns), by file name."""
        paths = {path for name in names for path in self.folder.glob(name) if path.is_file()}
        return {path.name: sha256_of(path) for path in sorted(paths)}


def find_checkpoint(model: str, wanted: Wanted, *, asker: str, revision: str | None = None) -> Checkpoint:
    """Return a model's files: of a folder, else of the hub's cache, else downloaded now.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        wanted: The files without which it cannot be used.
        asker: Who asks, for messages.
        revision: Branch, tag or commit on the hub.

    Raises:
        EvalError: Files are missing; the message names them and says what to do.
    """
    if Path(model).is_dir():
        _complete(Path(model), wanted, model, asker)
        return Checkpoint(Path(model))
    if Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise EvalError(f"{asker}: {model}: no such folder, nor a name on the hub such as owner/model")
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise EvalError(f"{asker}: {model} is no folder here; the hub needs pip install huggingface_hub") from error
    for offline in (True, False):
        if not offline and not _reachable(hub.constants.ENDPOINT):
            break
        try:
            folder = Path(
                hub.snapshot_download(
                    model, revision=revision, allow_patterns=list(_PATTERNS), local_files_only=offline
                )
            )
        except (OSError, ValueError):
            continue
        if not offline or not _lacking(folder, wanted):
            _complete(folder, wanted, model, asker)
            return Checkpoint(folder, folder.name)
    said = f" at revision {revision}" if revision else ""
    raise EvalError(
        f"{asker}: {model}{said} is neither in the cache of this machine nor to be had from the hub; where there is a "
        f"network, download {_listed(wanted)} and give their folder as model=FOLDER"
    )


def demand_digest(path: Path, sha256: str | None, asker: str) -> None:
    """Refuse a file whose SHA-256 is not the one that was asked for; None asks for none.

    Raises:
        EvalError: The digest is another; the message has both.
    """
    if sha256 is not None and sha256_of(path) != sha256.lower():
        raise EvalError(
            f"{asker}: {path} has SHA-256 {sha256_of(path)}, not {sha256} as asked; download it again or mend sha256="
        )


def is_cached(model: str, name: str = "config.json") -> bool:
    """Return whether a file of a model on the hub lies in this machine's cache; asks no network."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(model, name), str)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex; a file that has not changed is read once per process."""
    stat = path.stat()
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    del size, mtime_ns
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lacking(folder: Path, wanted: Wanted) -> list[str]:
    groups = [(one,) if isinstance(one, str) else one for one in wanted]
    return [" or ".join(group) for group in groups if not any((folder / name).is_file() for name in group)]


def _complete(folder: Path, wanted: Wanted, model: str, asker: str) -> None:
    """Raise an error that names what is missing."""
    if lacking := _lacking(folder, wanted):
        pickled = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        why = f"; {pickled[0]} is pickled and is not loaded, save it as safetensors" if pickled else ""
        raise EvalError(f"{asker}: {model}: no {', no '.join(lacking)} in it; {asker} wants {_listed(wanted)}{why}")


def _listed(wanted: Wanted) -> str:
    return ", ".join(one if isinstance(one, str) else " or ".join(one) for one in wanted)


@cache
def _reachable(endpoint: str) -> bool:
    """Return whether the hub's host answers; its own client tries for half a minute where there is no network."""
    parts = urlsplit(endpoint)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5).close()
    except OSError:
        return False
    return True
