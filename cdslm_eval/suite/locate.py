"""On which line of a TOML file does a key stand? The parser of the standard library does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["line_of", "lines_of_keys"]

_HEADER = re.compile(r"^\s*(\[\[?)(.*?)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+))*)\s*="""
)
_PART = re.compile(r""""((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+)""")
_TRIPLE = re.compile(r'"""|\'\'\'')
Path = tuple[str | int, ...]


def _parts(text: str) -> list[str]:
    return [next(group for group in match.groups() if group is not None) for match in _PART.finditer(text)]


def lines_of_keys(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table header and key of a TOML text that is known to be valid.

    Arrays of tables count from 0: `("gates", 1, "gate")`.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    inside = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if line.count(inside) % 2 else inside
            continue
        header = _HEADER.match(line)
        if depth == 0 and header:
            names = tuple(_parts(header[2]))
            table = _within(names, counts, last=header[1] == "[[")
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if depth == 0 and key:
            found[(*table, *_parts(key[1]))] = number
        value = line[key.end() :] if key else line
        triple = _TRIPLE.search(value)
        if triple and value.count(triple[0]) % 2:
            inside = triple[0]
            continue
        bare = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*", "", value)
        depth = max(0, depth + bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}"))
    return found


def _within(names: tuple[str, ...], counts: dict[Path, int], *, last: bool) -> Path:
    """Return the path of a header, with the running number of every array of tables on its way."""
    path: Path = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if last and place == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def line_of(where: Sequence[str | int], known: dict[Path, int]) -> int | None:
    """Return the line of a key, or of the closest thing around it; None where nothing of it is written."""
    path = tuple(where)
    while path:
        if path in known:
            return known[path]
        path = path[:-1]
    return None
