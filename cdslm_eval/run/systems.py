"""Opens the systems of a run: paths, sets, generators, arrays that lie in memory, each under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core import speakers
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.core.remote.addresses import has_scheme
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.specs import FileSpec
from cdslm_eval.run.scoring import REFERENCE

__all__ = ["GeneratorLike", "open_reference", "open_set", "open_systems", "pair_of", "with_choices"]

GeneratorLike = str | Generator | type[Generator]
Generate = Callable[[GeneratorLike], ClipSet]
"""Returns the clips that a generator makes."""


def open_systems(
    host: Host, systems: Any, generate: Generate | None, ignore_columns: Sequence[str] = ()
) -> list[ClipSet]:
    """Return the sets of a run, in order, with names that differ.

    Args:
        host: Finds generators.
        systems: One system or a sequence of them; a mapping, or pairs `("name", system)`, name them. A system is a
            path, a `ClipSet`, a generator (spec, class or instance), or a list of arrays as `ClipSet.from_arrays`
            takes them.
        generate: Makes the clips of a generator; None where only sets will do.
        ignore_columns: As of `ClipSet.open`.

    Raises:
        UsageError: A system cannot be opened, or two have one name.
    """
    opened = [_named(open_set(host, system, generate, name, ignore_columns), name) for name, system in _items(systems)]
    if not opened:
        raise UsageError("no system to score: name at least one")
    _distinguish(opened)
    return opened


def open_set(
    host: Host,
    system: Any,
    generate: Generate | None,
    name: str | None = None,
    ignore_columns: Sequence[str] = (),
) -> ClipSet:
    """Return one set; see `open_systems` for what a system may be."""
    if isinstance(system, ClipSet):
        return system
    if isinstance(system, str | Path):
        return _open_text(host, str(system), generate, ignore_columns)
    if isinstance(system, Generator) or (isinstance(system, type) and issubclass(system, Generator)):
        if generate is None:
            raise UsageError(f"{system.name}: a generator; write its clips first and name the folder")
        return generate(system)
    if _is_array(system):
        return ClipSet.from_arrays([system], name or "clips")
    if isinstance(system, Sequence) and system and all(_is_array(item) for item in system):
        return ClipSet.from_arrays(system, name or "clips")
    raise UsageError(
        f"{name or 'a system'}: {type(system).__name__} is no path, set, generator, or list of (samples, rate_hz)"
    )


def _items(systems: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield (name or None, system)."""
    if isinstance(systems, Mapping) and not _is_array(systems):
        yield from ((str(name), system) for name, system in systems.items())
        return
    listed = isinstance(systems, list | tuple) and not isinstance(systems, ClipSet)
    if not listed or _is_array(systems) or (systems and all(_is_array(item) for item in systems)):
        yield None, systems
        return
    for item in systems:
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            yield item
        else:
            yield None, item


def _is_array(item: object) -> bool:
    """Return whether an object is one clip in memory, as `ClipSet.from_arrays` takes it."""
    if isinstance(item, Clip):
        return True
    if isinstance(item, Mapping):
        return {"array", "sampling_rate"} <= set(item)
    return isinstance(item, tuple) and len(item) == 2 and hasattr(item[0], "shape")


def _open_text(host: Host, text: str, generate: Generate | None, ignore_columns: Sequence[str]) -> ClipSet:
    """Open a path, or the generator that a text names."""
    if has_scheme(text) or Path(text).exists():
        return ClipSet.open(text, ignore_columns=ignore_columns)
    known = host.registered("generator")
    name = text.partition(":")[0]
    if name in known or FileSpec.parse(text):
        if generate is None:
            raise UsageError(f"{text}: a generator; write its clips first: cdslm-eval generate {text} --out DIR")
        return generate(text)
    try:
        return ClipSet.open(text)
    except UsageError as error:
        if "/" in text or not known:
            raise
        raise UsageError(
            f"{error} {UnknownNameError('generator', name, known, host.absence('generator', name))}"
        ) from error


def _named(clips: ClipSet, name: str | None) -> ClipSet:
    """Return a set under the name that the user chose; a set of the user's own is not renamed in place."""
    return clips if name is None else ClipSet(name, clips.sources, clips.origin)


def _distinguish(systems: list[ClipSet]) -> None:
    """Name sets of one name by as much of their path as makes them differ."""
    for depth in range(2, 12):
        names = [clips.name for clips in systems]
        clashing = [number for number, clips in enumerate(systems) if names.count(clips.name) > 1]
        if not clashing:
            return
        for number in clashing:
            clips = systems[number]
            longer = "/".join(Path(clips.origin).resolve().with_suffix("").parts[-depth:])
            systems[number] = ClipSet(longer, clips.sources, clips.origin)
    first = systems[clashing[0]]
    raise UsageError(f"the same set is named twice: {first.origin}; give each a name of its own, as NAME=PATH")


def open_reference(host: Host, reference: Any, ignore_columns: Sequence[str] = ()) -> ClipSet | None:
    """Return the set of real speech, under the name that results give it; None where there is none."""
    if reference is None:
        return None
    if isinstance(reference, str | Path):
        opened = ClipSet.open(reference, ignore_columns=ignore_columns)
    else:
        opened = open_set(host, reference, None)
    return ClipSet(REFERENCE, opened.sources, opened.origin)


def pair_of(system: Any) -> Any:
    """Return one side of a comparison as `open_systems` takes it: `{"name": system}` becomes a pair."""
    if isinstance(system, Mapping) and len(system) == 1:
        return next(iter(system.items()))
    return system


def with_choices(
    systems: Sequence[ClipSet], reference: ClipSet | None, speakers_from: str | None, *, allow_truncated: bool
) -> tuple[list[ClipSet], ClipSet | None]:
    """Return the sets as the caller wants them read.

    Args:
        systems: The systems.
        reference: Real speech, where there is any.
        speakers_from: Where speakers are read from, as of `cdslm_eval.core.speakers`; None changes nothing.
        allow_truncated: Read files that end before their header says as far as they go.
    """
    sets = [*systems, *([reference] if reference is not None else [])]
    if allow_truncated:
        sets = [clips.allowing_truncated() for clips in sets]
    if speakers_from is not None:
        sets = speakers.speakers_from(sets, speakers_from)
    return sets[: len(systems)], sets[-1] if reference is not None else None
