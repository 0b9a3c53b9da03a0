"""Settings as they can be published: no paths of this machine, no list of everything that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["publishable"]

# facts that only this machine's owner needs: a page that is published as a supplement leaves them out
_PRIVATE = frozenset({"distributions", "rosters"})


def publishable(value: Any, *, private_paths: bool = False, drop: frozenset[str] = _PRIVATE) -> Any:
    """Return settings without absolute paths and without the list of installed distributions.

    A path below the working directory becomes relative to it; of any other only the last two parts stay. Relative
    paths still repeat a run from the same folder.

    Args:
        value: Settings, or a part of them.
        private_paths: Keep absolute paths.
        drop: Keys that are left out.

    Example:
        >>> publishable({"reference": "/data/me/speech/real", "versions": {"distributions": {"a": "1"}}})
        {'reference': '…/speech/real', 'versions': {}}
    """
    if isinstance(value, Mapping):
        items = value.items()
        return {k: publishable(v, private_paths=private_paths, drop=drop) for k, v in items if k not in drop}
    if isinstance(value, list | tuple):
        return [publishable(item, private_paths=private_paths, drop=drop) for item in value]
    if isinstance(value, str) and not private_paths and value.startswith(("/", "~")) and "\n" not in value:
        return _relative(value)
    return value


def _relative(text: str) -> str:
    path = Path(text)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        parts = path.parts[1:]
        return str(Path("…", *parts[-2:])) if parts else text
