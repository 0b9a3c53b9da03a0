"""ClipSet: an ordered set of clips from a directory, a manifest or a Kaldi wav.scp, decoded only when asked."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from cdslm_eval.core.audio import AUDIO_SUFFIXES, Clip, as_samples, checked_rate, content_digest, read_audio
from cdslm_eval.core.errors import AudioError, UsageError, did_you_mean

__all__ = ["IN_MEMORY", "ClipSet", "Source", "decode"]

MANIFEST = "manifest.jsonl"
IN_MEMORY = "memory"
"""Origin of a set that came from no file."""
_SIDECAR_BYTES = 1 << 20
_FIELDS = ("path", "key", "text", "speaker", "phones", "reference", "reference_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One clip that is not decoded yet.

    Attributes:
        key: Name of the clip within its set.
        path: Audio file.
        text: What is said, from a manifest or a `.txt` sidecar.
        speaker: Who says it; clips of one speaker are resampled together.
        phones: Phones from a manifest or a `.phones` sidecar (white space between them).
        reference: Audio file of the paired real clip.
        reference_text: What the paired real clip says.
        decoded: The clip itself, where it lies in memory; `path` is then a label that no file has.
    """

    key: str
    path: str
    text: str | None = None
    speaker: str | None = None
    phones: tuple[str, ...] | None = None
    reference: str | None = None
    reference_text: str | None = None
    decoded: Clip | None = None

    @property
    def bytes(self) -> int:
        """Size of the clip where it lies; 0 where it cannot be found out."""
        if self.decoded is not None:
            return self.decoded.samples.nbytes
        try:
            return Path(self.path).stat().st_size
        except OSError:
            return 0

    def offers(self) -> frozenset[str]:
        """Return what the clip can give to a metric ("phones" means a sidecar, not a recognizer)."""
        given = {
            "text": self.text,
            "speaker": self.speaker,
            "phones": self.phones,
            "reference_audio": self.reference,
            "reference_text": self.reference_text,
        }
        return frozenset({"audio"} | {name for name, value in given.items() if value is not None})


def decode(source: Source, *, with_reference: bool = False) -> Clip:
    """Decode one source, and its paired reference where it has one and that is asked for.

    Raises:
        AudioError: Its file, or its reference's, cannot be read.
    """
    if source.decoded is not None:
        return source.decoded
    audio = read_audio(source.path)
    reference = None
    if with_reference and source.reference is not None:
        reference = decode(Source(key=source.key, path=source.reference, text=source.reference_text))
    return Clip(
        key=source.key,
        samples=audio.samples,
        rate_hz=audio.rate_hz,
        digest=content_digest(audio.samples, audio.rate_hz),
        text=source.text,
        speaker=source.speaker,
        phones=source.phones,
        reference=reference,
    )


class ClipSet(Sequence[Clip]):
    """An ordered set of clips; indexing decodes, `sources` does not.

    Args:
        name: How the set is called in tables.
        sources: Its clips; keys must be unique.
        origin: Where it came from, for provenance.
    """

    def __init__(self, name: str, sources: Iterable[Source], origin: str = "") -> None:
        self.name = name
        self.sources = tuple(sources)
        self.origin = origin
        seen: set[str] = set()
        for source in self.sources:
            if source.key in seen:
                raise UsageError(f"{origin or name}: the key {source.key!r} stands twice; keys must be unique")
            seen.add(source.key)

    @classmethod
    def open(cls, path: Path | str, name: str | None = None) -> ClipSet:
        """Open a directory, a `.jsonl`, `.csv` or `.tsv` manifest, or a Kaldi `wav.scp`.

        A directory that holds a `manifest.jsonl`, as `cdslm-eval generate` writes it, is read through that.

        Raises:
            UsageError: The path does not exist, holds no audio, or a line of it cannot be used.
        """
        path = Path(path)
        if not path.exists():
            near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
            raise UsageError(f"{path}: no such file or directory.{near}")
        if path.is_dir():
            manifest = path / MANIFEST
            sources = _from_records(_jsonl(manifest), path) if manifest.is_file() else list(_from_directory(path))
            if not sources:
                raise UsageError(
                    f"{path}: no audio in it (nor below it); suffixes such as .wav .flac .ogg .mp3 are read"
                )
            return cls(name or path.resolve().name, sources, str(path))
        readers = {".jsonl": _jsonl, ".csv": _separated(","), ".tsv": _separated("\t")}
        if path.suffix.lower() in readers:
            sources = _from_records(readers[path.suffix.lower()](path), path.parent)
        elif path.suffix == ".scp":
            sources = list(_from_scp(path))
        else:
            raise UsageError(f"{path}: not a directory, nor a manifest (.jsonl .csv .tsv), nor a Kaldi wav.scp")
        if not sources:
            raise UsageError(f"{path}: the manifest names no clip")
        return cls(name or path.stem, sources, str(path))

    @classmethod
    def from_clips(cls, clips: Iterable[Clip], name: str = "clips") -> ClipSet:
        """Return a set of clips that lie in memory.

        Args:
            clips: Their keys must differ.
            name: How the set is called in tables.

        Raises:
            UsageError: Two clips have one key.
        """
        return cls(name, [_in_memory(clip) for clip in clips], IN_MEMORY)

    @classmethod
    def from_arrays(cls, arrays: Iterable[Any], name: str = "clips") -> ClipSet:
        """Return a set of arrays, such as a training loop has just generated.

        Args:
            arrays: Pairs `(samples, rate_hz)`; samples are floats in [-1, 1] or 16-bit integers, `[samples]` (numpy, or
                a tensor of any library that numpy can read), or mappings `{"array": ..., "sampling_rate": ...}`, or
                `Clip`s.
            name: How the set is called in tables.

        Raises:
            UsageError: One of them is no such pair, has more than one channel, or is not at this scale.
        """
        return cls.from_clips([_clip(item, number, name) for number, item in enumerate(arrays)], name)

    def offers(self) -> frozenset[str]:
        """Return what at least one clip of the set can give."""
        return frozenset().union(*(source.offers() for source in self.sources)) if self.sources else frozenset()

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> ClipSet: ...
    def __getitem__(self, index: int | slice) -> Clip | ClipSet:
        if isinstance(index, slice):
            return ClipSet(self.name, self.sources[index], self.origin)
        return decode(self.sources[index])

    def __iter__(self) -> Iterator[Clip]:
        return (decode(source) for source in self.sources)

    def __repr__(self) -> str:
        return f"<ClipSet {self.name}: {len(self)} clips from {self.origin or 'memory'}>"


def _in_memory(clip: Clip) -> Source:
    samples = as_samples(clip.samples)
    # the label holds the digest, so that equal labels are equal audio
    digest = content_digest(samples, clip.rate_hz)
    return Source(
        key=clip.key,
        path=f"{IN_MEMORY}:{digest}",
        text=clip.text,
        speaker=clip.speaker,
        phones=clip.phones,
        decoded=dataclasses.replace(clip, samples=samples, digest=digest),
    )


def _clip(item: Any, number: int, name: str) -> Clip:
    """Return an array as a clip whose key is its number."""
    if isinstance(item, Clip):
        return item
    if isinstance(item, Mapping) and {"array", "sampling_rate"} <= set(item):
        samples, rate_hz = item["array"], item["sampling_rate"]
    elif isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item[0], str):
        samples, rate_hz = item
    else:
        raise UsageError(f"{name}, clip {number}: give (samples, rate_hz), not {type(item).__name__}")
    try:
        return Clip(key=f"{number:05d}", samples=as_samples(samples), rate_hz=checked_rate(rate_hz))
    except AudioError as error:
        raise UsageError(f"{name}, clip {number}: {error}") from error


def _from_directory(folder: Path) -> Iterator[Source]:
    paths = sorted(
        (p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()),
        key=lambda p: p.relative_to(folder).as_posix(),
    )
    stems: dict[str, int] = {}
    for path in paths:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        stems[stem] = stems.get(stem, 0) + 1
    for path in paths:
        relative = path.relative_to(folder)
        stem = relative.with_suffix("").as_posix()
        phones = _sidecar(path.with_suffix(".phones"))
        yield Source(
            key=stem if stems[stem] == 1 else relative.as_posix(),
            path=str(path),
            text=_sidecar(path.with_suffix(".txt")),
            phones=tuple(phones.split()) if phones is not None else None,
        )


class _Sidecars:
    """Finds `.txt` and `.phones` files next to audio, listing each folder once: a manifest may name a million clips."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def read(self, audio: str, suffix: str) -> str | None:
        """Return the text of the sidecar of an audio file, or None where there is none."""
        folder, name = os.path.split(audio)
        if folder not in self._names:
            try:
                names = [path.name for path in Path(folder or ".").iterdir()]
            except OSError:
                names = []  # the audio is reported as missing when it is decoded
            self._names[folder] = frozenset(name for name in names if name.endswith((".txt", ".phones")))
        if not self._names[folder]:
            return None
        beside = Path(name).stem + suffix
        return _sidecar(Path(folder, beside)) if beside in self._names[folder] else None


def _sidecar(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _SIDECAR_BYTES:
        raise UsageError(f"{path}: a sidecar of over 1 MiB; is it really the text of one clip?")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(file, 1)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UsageError(f"{where}: a JSON object per line is wanted, with at least a 'path'")
        yield where, record


def _separated(delimiter: str) -> Any:
    def read(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the rows of a table by its first line's names."""
        rows = csv.DictReader((line for _, line in _lines(path)), delimiter=delimiter)
        if "path" not in (rows.fieldnames or ()):
            raise UsageError(
                f"{path}: the first line must name the columns, 'path' among them; it has {rows.fieldnames}"
            )
        for record in rows:
            yield f"{path}, line {rows.line_num}", {name: value for name, value in record.items() if value}

    return read


def _from_records(records: Iterable[tuple[str, Mapping[str, Any]]], base: Path) -> list[Source]:
    sources, sidecars = [], _Sidecars()
    for where, record in records:
        path = record.get("path")
        if not isinstance(path, str) or not path:
            raise UsageError(
                f"{where}: no 'path'.{did_you_mean('path', map(str, record)) or ' It names the audio file.'}"
            )
        for name in _FIELDS:
            if record.get(name) is not None and not isinstance(record[name], str | list | int | float):
                raise UsageError(f"{where}: {name!r} must be text")
        reference = record.get("reference")
        audio = str(base / path)
        text, phones = _text(record.get("text")), record.get("phones")
        text = sidecars.read(audio, ".txt") if text is None else text
        phones = sidecars.read(audio, ".phones") if phones is None else phones
        sources.append(
            Source(
                key=str(record.get("key") or Path(path).with_suffix("").as_posix()),
                path=audio,
                text=text,
                speaker=_text(record.get("speaker")),
                phones=tuple(phones.split() if isinstance(phones, str) else map(str, phones)) if phones else None,
                reference=str(base / str(reference)) if reference else None,
                reference_text=_text(record.get("reference_text")),
            )
        )
    return sources


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _from_scp(path: Path) -> Iterator[Source]:
    """Read Kaldi's `wav.scp`, with `text` and `utt2spk` beside it where they are there."""
    beside = {name: _table(path.with_name(name)) for name in ("text", "utt2spk")}
    sidecars = _Sidecars()
    for number, line in _lines(path):
        key, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not key:
            continue
        if not rest or rest.endswith("|"):
            what = "a command, and commands from a file are not run; write plain files" if rest else "no path"
            raise UsageError(f"{path}, line {number}: {key!r} has {what}")
        audio = str(path.parent / rest)
        text, phones = beside["text"].get(key), sidecars.read(audio, ".phones")
        yield Source(
            key=key,
            path=audio,
            text=sidecars.read(audio, ".txt") if text is None else text,
            speaker=beside["utt2spk"].get(key),
            phones=tuple(phones.split()) if phones is not None else None,
        )


def _table(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    parts = (line.strip().partition(" ") for _, line in _lines(path))
    return {key: rest.strip() for key, _, rest in parts if key}
