"""Completion of values in a shell: names of metrics, components and formats, and suite files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["formats", "generators", "metrics", "of_kind", "suites"]


def of_kind(*kinds: str) -> Callable[[str], list[str]]:
    """Return a completer of the names of some kinds of component, such as "metric"."""

    def complete(incomplete: str) -> list[str]:
        """Return the names that begin like what is typed."""
        return _matching(_names(kinds), incomplete)

    return complete


def metrics(incomplete: str) -> list[str]:
    """Complete the last name of a comma-separated list; names before it are not offered again."""
    before, comma, last = incomplete.rpartition(",")
    taken = set(before.split(","))
    return [f"{before}{comma}{name}" for name in _matching(_names(("metric",)), last) if name not in taken]


def generators(incomplete: str) -> list[str]:
    """Complete the name of a generator; nothing for a path, which the shell completes itself."""
    return _matching(_names(("generator",)), incomplete) if "/" not in incomplete else []


def suites(incomplete: str) -> list[str]:
    """Complete the name of a TOML file, and of folders on the way to it."""
    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    if not folder.is_dir():
        return []
    head = incomplete[: incomplete.rfind("/") + 1]
    names = (f"{path.name}/" if path.is_dir() else path.name for path in sorted(folder.iterdir()))
    fitting = (name for name in names if name.endswith((".toml", "/")) and not name.startswith("."))
    return _matching((f"{head}{name}" for name in fitting), incomplete)


def formats(incomplete: str) -> list[str]:
    """Complete a format of `--format`."""
    return _matching(("table", "json", "csv", "tsv", "md", "latex"), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _names(kinds: Iterable[str]) -> list[str]:
    from cdslm_eval.plugin.host import Host

    host = Host()
    return [name for kind in kinds for name in host.registered(kind)]
