"""Reads pairs of clips: manifests, and the folders of sBLIMP, spoken StoryCloze and SALMon as they are released."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cdslm_eval.core.audio import AUDIO_SUFFIXES
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.core.manifests import json_lines, table_rows
from cdslm_eval.core.sources import Source

__all__ = ["LAYOUTS", "PAIRS", "PairSource", "layout_of", "open_pairs"]

PAIRS = "pairs.csv"
"""Manifest of a folder of pairs."""
_FIELDS = ("better", "worse", "family", "kind", "prefix_seconds")
_GOLD = "gold.csv"
_GOLD_FIELDS = ("id", "filename", "voice", "type", "subtype", "correct")
_NUMBERED = re.compile(r"(\d{1,9})_")
_SAMPLE = re.compile(r"sample_(\d{1,9})(?!\d)")


class PairSource(NamedTuple):
    """A pair that is not decoded yet.

    Attributes:
        better, worse: The clips, of which a good model prefers the first.
        family: Pairs of one family are not independent: intervals keep them together.
        kind: What makes the worse one worse; accuracies are reported for each kind.
        context_s: Seconds that both have in common, which are not scored.
    """

    better: Source
    worse: Source
    family: str
    kind: str = ""
    context_s: float = 0.0


def open_pairs(path: Path | str, layout: str = "auto") -> list[PairSource]:
    """Return the pairs of a manifest or of a folder.

    Args:
        path: A manifest (`.csv`, `.tsv`, `.jsonl`) with the columns `better` and `worse`, paths relative to its folder,
            and where known `family`, `kind` and `prefix_seconds`; a folder with such a `pairs.csv`; or a folder of a
            released set.
        layout: One of `LAYOUTS`, or "auto": by what is in the folder.

    Raises:
        UsageError: It cannot be read, a line of it cannot be used, or a file of it does not exist.
    """
    path = Path(path)
    name = layout_of(path, layout)
    own = LAYOUTS[name]
    pairs = [pair for folder in own.folders(path) for pair in own.read(folder)]
    if not pairs:
        raise UsageError(f"{path}: no pair in it, read as {name}")
    return pairs


def layout_of(path: Path | str, layout: str = "auto") -> str:
    """Return the name of the layout that a manifest or a folder is read as.

    Raises:
        UsageError: There is no such file or layout, or "auto" does not tell.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path}: no such file or directory; name a manifest of pairs, or a folder of them")
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"There is no layout {layout!r} of pairs. Known: auto, {', '.join(LAYOUTS)}.")
    fitting = [name for name in LAYOUTS if _is_there(LAYOUTS[name].folders(path))] if layout == "auto" else [layout]
    if not fitting:
        raise UsageError(
            f"{path}: no {PAIRS}, no {_GOLD} (sBLIMP), no files such as sample_0*.wav (SALMon) or 0_*.wav (StoryCloze) "
            "in it or in its folders"
        )
    return fitting[0]


def _is_there(folders: Iterator[Path]) -> bool:
    return next(folders, None) is not None


class _Layout(NamedTuple):
    """How pairs lie on the disk.

    Attributes:
        folders: Yields what holds some of them.
        read: Reads one of these.
        per_second: How their scores are compared where no option states it; None for totals of clips of one length.
    """

    folders: Callable[[Path], Iterator[Path]]
    read: Callable[[Path], Iterator[PairSource]]
    per_second: bool | None = None


def _folders(path: Path) -> Iterator[Path]:
    """Yield a folder and those right below it, in order of their names."""
    if path.is_dir():
        yield path
        yield from sorted(folder for folder in path.iterdir() if folder.is_dir())


def _with_file(name: str) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (folder / name for folder in _folders(path) if (folder / name).is_file())


def _with_names(pattern: re.Pattern[str]) -> Callable[[Path], Iterator[Path]]:
    return lambda path: (
        folder for folder in _folders(path) if any(pattern.match(file.name) for file in _audio(folder))
    )


def _audio(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES)


def _manifests(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif (path / PAIRS).is_file():
        yield path / PAIRS


def _read_manifest(manifest: Path) -> Iterator[PairSource]:
    readers: Mapping[str, Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]] = {
        ".csv": lambda: table_rows(manifest, ","),
        ".tsv": lambda: table_rows(manifest, "\t"),
        ".jsonl": lambda: json_lines(manifest),
    }
    if manifest.suffix.lower() not in readers:
        raise UsageError(f"{manifest}: a manifest of pairs is a {', '.join(readers)} file")
    for line, row in readers[manifest.suffix.lower()]():
        try:
            yield _pair(row, manifest.parent, line)
        except ValueError as error:
            raise UsageError(f"{manifest}, line {line}: {error}") from error


def _pair(row: Mapping[str, Any], folder: Path, line: int) -> PairSource:
    """Return the pair of a row; ValueError where a field cannot be used."""
    for name in row:
        if name not in _FIELDS:
            raise ValueError(f"the column {name!r} is not read.{did_you_mean(str(name), _FIELDS)} Read are {_FIELDS}")
    better, worse = (_file(row, name, folder) for name in ("better", "worse"))
    if better == worse:
        raise ValueError(f"'better' and 'worse' are one file, {better}")
    family, kind = (row.get(name) or "" for name in ("family", "kind"))
    for name, value in (("family", family), ("kind", kind)):
        if not isinstance(value, str | int):
            raise ValueError(f"{name!r} must be text, not {str(value)[:40]}")  # noqa: TRY004 - one kind for every field
    text = row.get("prefix_seconds")
    try:
        prefix_s = 0.0 if text in (None, "") else float(str(text))
    except ValueError:
        prefix_s = math.nan
    if not 0 <= prefix_s < math.inf:
        raise ValueError(f"'prefix_seconds' must be 0 or more seconds, not {str(text)[:40]!r}")
    return PairSource(_source(better), _source(worse), str(family) or f"line {line}", str(kind), prefix_s)


def _file(row: Mapping[str, Any], name: str, folder: Path) -> Path:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"no {name!r}. It names an audio file.")
    path = folder / value
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_there = False
    if not is_there:
        raise ValueError(f"{name!r}: there is no file {path}")
    return path


def _read_gold(gold: Path) -> Iterator[PairSource]:
    """Yield the pairs of sBLIMP: of each id and voice, the correct sentence and the other one."""
    groups: dict[tuple[str, str, str, str], tuple[list[Path], list[Path]]] = {}
    first: dict[tuple[str, str, str, str], int] = {}
    suffixes: dict[str, Path] = {}
    for file in _audio(gold.parent):
        suffixes.setdefault(file.stem, file)
    for line, row in table_rows(gold, ","):
        where = f"{gold}, line {line}"
        if lacking := [name for name in _GOLD_FIELDS if name not in row]:
            raise UsageError(f"{where}: no column {', '.join(lacking)}; sBLIMP has {', '.join(_GOLD_FIELDS)}")
        if row["correct"] not in ("0", "1"):
            raise UsageError(f"{where}: 'correct' is {row['correct'][:40]!r}; it must be 0 or 1")
        file_of = suffixes.get(Path(row["filename"]).name) or suffixes.get(Path(row["filename"]).stem)
        if file_of is None:
            raise UsageError(f"{where}: there is no audio file {row['filename'][:80]!r} in {gold.parent}")
        key = (row["type"], row["subtype"], row["id"], row["voice"])
        groups.setdefault(key, ([], []))[row["correct"] == "0"].append(file_of)
        first.setdefault(key, line)
    for key, (right, wrong) in groups.items():
        if len(right) != len(wrong):
            raise UsageError(
                f"{gold}, line {first[key]}: id {key[2]!r}, voice {key[3]!r} has {len(right)} correct and {len(wrong)} "
                "incorrect clips; they must be as many"
            )
        for better, worse in zip(right, wrong, strict=True):
            yield PairSource(_source(better), _source(worse), " ".join(key[:3]), key[0])


def _read_numbered(folder: Path) -> Iterator[PairSource]:
    """Yield the pairs of spoken StoryCloze: names begin with a number, even for the right ending, odd for the other."""
    numbered: dict[int, Path] = {}
    for file in _audio(folder):
        if match := _NUMBERED.match(file.name):
            number = int(match[1])
            if number in numbered:
                raise UsageError(f"{file}: has the number of {numbered[number].name}; each clip must have its own")
            numbered[number] = file
    for number, file in sorted(numbered.items()):
        if number ^ 1 not in numbered:
            raise UsageError(f"{file}: the other clip of its pair, number {number ^ 1}, is missing")
        if number % 2 == 0:
            other = numbered[number + 1]
            yield PairSource(_source(file), _source(other), f"{folder.name} {number // 2}", folder.name)


def _read_samples(folder: Path) -> Iterator[PairSource]:
    """Yield the pairs of SALMon: of two files with one sample number the first by name is the better one."""
    samples: dict[int, list[Path]] = {}
    for file in _audio(folder):
        if match := _SAMPLE.match(file.name):
            samples.setdefault(int(match[1]), []).append(file)
    for number, files in sorted(samples.items()):
        if len(files) != 2:
            raise UsageError(f"{files[0]}: sample {number} has {len(files)} files; a pair has 2")
        yield PairSource(_source(files[0]), _source(files[1]), f"{folder.name} {number}", folder.name)


def _source(path: Path) -> Source:
    return Source(key=path.stem, path=str(path))


LAYOUTS: Mapping[str, _Layout] = {
    "manifest": _Layout(_manifests, _read_manifest),
    # their clips differ in length; slamkit, by authors of SALMon and spoken StoryCloze, compares means over tokens
    "sblimp": _Layout(_with_file(_GOLD), _read_gold, per_second=True),
    "salmon": _Layout(_with_names(_SAMPLE), _read_samples, per_second=True),
    "storycloze": _Layout(_with_names(_NUMBERED), _read_numbered, per_second=True),
}
"""Layout of pairs on the disk -> how it is read and compared."""
