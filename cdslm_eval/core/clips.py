"""ClipSet: an ordered set of clips from a directory, a manifest or a Kaldi wav.scp, decoded only when indexed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

from cdslm_eval.core.audio import Clip, as_samples, checked_rate, content_digest
from cdslm_eval.core.errors import AudioError, UsageError, did_you_mean
from cdslm_eval.core.kaldi import from_scp
from cdslm_eval.core.manifests import from_directory, from_records, json_lines, table_rows
from cdslm_eval.core.packed_sources import PackedSources
from cdslm_eval.core.parquet_tables import from_parquet
from cdslm_eval.core.remote.addresses import has_scheme
from cdslm_eval.core.remote.folders import from_objects
from cdslm_eval.core.remote.paths import AnyPath, ObjectPath
from cdslm_eval.core.sources import Source, decode
from cdslm_eval.core.tar_shards import from_tar

__all__ = ["IN_MEMORY", "ClipSet", "Source", "decode"]

MANIFEST = "manifest.jsonl"
IN_MEMORY = "memory"
"""Origin of a set that came from no file."""


Reader = Callable[[AnyPath, Sequence[str]], Iterable[Source]]
"""Returns the clips of a file, given patterns of columns that are passed over."""


def _of_records(rows: Callable[[AnyPath], Iterator[tuple[int, Mapping[str, Any]]]]) -> Reader:
    return lambda path, ignored: from_records(rows(path), path, ignored)


READERS: Mapping[str, Reader] = {
    ".jsonl.gz": _of_records(json_lines),
    ".jsonl": _of_records(json_lines),
    ".json": _of_records(json_lines),
    ".csv": _of_records(partial(table_rows, delimiter=",")),
    ".tsv": _of_records(partial(table_rows, delimiter="\t")),
    ".scp": lambda path, _: from_scp(path),
    ".tar": lambda path, _: from_tar(path),
    ".parquet": from_parquet,
}
"""End of a file's name -> what reads it."""


class ClipSet(Sequence[Clip]):
    """An ordered set of clips; indexing decodes, `sources` does not.

    Args:
        name: How the set is called in tables.
        sources: Its clips; keys must be unique.
        origin: Where it came from, for provenance.
    """

    def __init__(self, name: str, sources: Iterable[Source], origin: str = "") -> None:
        self.name = name
        self.sources = sources if isinstance(sources, PackedSources) else PackedSources(sources)
        self.origin = origin
        if not self.sources.keys_ascend:
            # sorted, because a set of a million keys takes ten times the memory
            keys = sorted(source.key for source in self.sources)
            for key, following in itertools.pairwise(keys):
                if key == following:
                    raise UsageError(f"{origin or name}: the key {key!r} occurs twice; keys must be unique")

    @classmethod
    def open(cls, path: Path | str, name: str | None = None, *, ignore_columns: Sequence[str] = ()) -> ClipSet:
        """Open a directory, a manifest (`.jsonl`, `.csv`, `.tsv`), a Kaldi `wav.scp`, or a shard (`.tar`, `.parquet`).

        Each may be an object, or a folder of objects: `s3://BUCKET/PATH`, `gs://`, `hf://`.

        A directory that holds a `manifest.jsonl`, as `cdslm-eval generate` writes it, is read through that. Manifests
        of NeMo and cuts of Lhotse are read too, `.json` and `.jsonl.gz` as they write them.

        Args:
            path: What to open.
            name: How the set is called in tables; by default as the path.
            ignore_columns: Patterns of columns of a manifest that are passed over, such as "gender" or "meta_*"; any
                other column that is not read is an error.

        Raises:
            UsageError: The path does not exist, holds no audio, or a line of it cannot be used.
        """
        if isinstance(path, str) and has_scheme(path):
            return cls._open_object(ObjectPath.parse(path), name, ignore_columns)
        path = Path(path)
        if not path.exists():
            near = did_you_mean(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
            raise UsageError(f"{path}: no such file or directory.{near}")
        if path.is_dir():
            manifest = path / MANIFEST
            if manifest.is_file():
                sources = from_records(json_lines(manifest), manifest, ignore_columns)
            else:
                sources = PackedSources(from_directory(path))
            if not sources:
                raise UsageError(
                    f"{path}: no audio in it (nor below it); suffixes such as .wav .flac .ogg .mp3 are read"
                )
            return cls(name or path.resolve().name, sources, str(path))
        return cls._open_file(path, name, ignore_columns)

    @classmethod
    def _open_object(cls, path: ObjectPath, name: str | None, ignore_columns: Sequence[str]) -> ClipSet:
        """Open what `open` does among objects: a file by the end of its name, else a folder."""
        if any(path.name.lower().endswith(suffix) for suffix in READERS):
            return cls._open_file(path, name, ignore_columns)
        manifest = path / MANIFEST
        try:
            listed = manifest.is_file()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        sources = (
            from_records(json_lines(manifest), manifest, ignore_columns)
            if listed
            else PackedSources(from_objects(path))
        )
        if not sources:
            raise UsageError(f"{path}: no audio below this address; suffixes such as .wav .flac .ogg .mp3 are read")
        return cls(name or path.name, sources, str(path))

    @classmethod
    def _open_file(cls, path: AnyPath, name: str | None, ignore_columns: Sequence[str]) -> ClipSet:
        reader = next((suffix for suffix in READERS if path.name.lower().endswith(suffix)), None)
        if reader is None:
            raise UsageError(
                f"{path}: not a directory, nor a manifest (.jsonl .csv .tsv), nor a Kaldi wav.scp, "
                "nor a shard (.tar .parquet)"
            )
        clips = READERS[reader](path, ignore_columns)
        sources = clips if isinstance(clips, PackedSources) else PackedSources(clips)
        if not sources:
            raise UsageError(f"{path}: it names no clip")
        return cls(name or path.name[: -len(reader)], sources, str(path))

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

    def allowing_truncated(self) -> ClipSet:
        """Return the set with files that end before their header says read as far as they go, instead of refused."""
        return ClipSet(self.name, (source._replace(allow_truncated=True) for source in self.sources), self.origin)

    def offers(self) -> frozenset[str]:
        """Return what at least one clip of the set can give."""
        return frozenset(itertools.chain.from_iterable(source.offers() for source in self.sources))

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
        language=clip.language,
        phones=clip.phones,
        prompt_seconds=clip.prompt_seconds,
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
