"""The clip sets of a suite: opens files, and orders generators so that each runs after its prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError, UsageError, did_you_mean
from cdslm_eval.core.remote.addresses import has_scheme
from cdslm_eval.core.speakers import speakers_from
from cdslm_eval.core.toml import Problems
from cdslm_eval.plugin.contract import text_files
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.host import Host
from cdslm_eval.run.generation import GenerationRequest, generate_set
from cdslm_eval.suite.schema import SetSpec, Suite, SuiteSpec

__all__ = ["GeneratorCall", "PlannedSet", "SetKey", "absolute_options", "hint", "plan_sets", "write_sets"]

SetKey = tuple[Literal["references", "systems"], str]
_Key = TypeVar("_Key")
_PACKAGE = Path(__file__).parents[1]
"""Texts that come with the package are nobody's secret."""


@dataclass(frozen=True, slots=True)
class GeneratorCall:
    """A generator that writes a set.

    Attributes:
        spec: Its name with all options, as on the command line.
        prompts: The set of the suite that it works from, a path, or None.
        count: Number of clips.
        seconds: Their length in seconds.
        seed: Its seed.
        ignore_columns: Of the manifest of prompts, as of `ClipSet.open`.
    """

    spec: str
    prompts: SetKey | Path | None
    count: int
    seconds: float
    seed: int
    ignore_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedSet:
    """A set of the suite: `clips` of files, or the `call` that will write them; exactly one is not None."""

    key: SetKey
    clips: ClipSet | None = None
    call: GeneratorCall | None = None


def plan_sets(
    suite: Suite,
    host: Host,
    references_of: Mapping[str, str | None],
    problems: Problems,
    *,
    allow_outside: bool = False,
) -> tuple[PlannedSet, ...]:
    """Open the sets that are files, check the generators, and return all in an order that respects prompts.

    Args:
        suite: The file.
        host: Knows the generators.
        references_of: System -> name of its reference.
        problems: Takes what is wrong: a missing file, an unknown option, a cycle.
        allow_outside: Let generators read texts that lie outside the suite's folder.
    """
    planned: dict[SetKey, PlannedSet] = {}
    for key, spec in _specs(suite.spec).items():
        source = "path" if spec.path is not None else "generator"
        try:
            planned[key] = _planned(suite, host, key, spec, references_of, problems)
            call = planned[key].call
            if call is not None and not allow_outside:
                _check_inside(suite, host, call.spec)
        except (EvalError, OSError) as error:
            problems.add((*key, source), str(error))
    prompts_of = {
        key: entry.call.prompts
        for key, entry in planned.items()
        if entry.call is not None and isinstance(entry.call.prompts, tuple)
    }
    for cycle in cycles(prompts_of):
        names = [name for _, name in cycle]
        problems.add((*cycle[0], "prompts"), f"goes in a circle: {' -> '.join([*names, names[0]])}")
    order = list(planned)
    return tuple(sorted(planned.values(), key=lambda entry: (_depth(entry.key, prompts_of), order.index(entry.key))))


def write_sets(
    sets: Sequence[PlannedSet],
    host: Host,
    recognizer: str,
    folder: Path,
    log: Callable[[str], None],
    executor: Executor | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> dict[SetKey, ClipSet]:
    """Return the clips of every set; generators write theirs under `folder` unless they are there already.

    Args:
        sets: In an order in which prompts come first.
        host: Makes the generators.
        recognizer: Recognizes the phones of prompts where a generator needs them.
        folder: Where generated sets are written.
        log: Receives one line for each set that is generated.
        executor: Where generators run; None is this process, or "local" on several devices.
        jobs: Worker processes of the executor.
        device: Where their models run.
    """
    clips: dict[SetKey, ClipSet] = {}
    for entry in sets:
        if entry.clips is not None:
            clips[entry.key] = entry.clips
            continue
        call = entry.call
        assert call is not None  # a set has one of the two
        prompts: ClipSet | None = None
        if isinstance(call.prompts, Path):
            prompts = ClipSet.open(call.prompts, ignore_columns=call.ignore_columns)
        if isinstance(call.prompts, tuple):
            prompts = clips[call.prompts]
        request = GenerationRequest(call.spec, prompts, call.count, call.seconds, call.seed, recognizer)
        written = generate_set(host, request, folder, log, executor, jobs, device)
        clips[entry.key] = ClipSet(entry.key[1], written.sources, written.origin)
    return clips


def _specs(spec: SuiteSpec) -> dict[SetKey, SetSpec]:
    references: dict[SetKey, SetSpec] = {("references", name): entry for name, entry in spec.references.items()}
    systems: dict[SetKey, SetSpec] = {("systems", name): entry for name, entry in spec.systems.items()}
    return references | systems


def _planned(
    suite: Suite,
    host: Host,
    key: SetKey,
    spec: SetSpec,
    references_of: Mapping[str, str | None],
    problems: Problems,
) -> PlannedSet:
    if spec.path is not None:
        clips = ClipSet.open(_located(suite, spec.path), name=key[1], ignore_columns=spec.ignore_columns)
        if spec.allow_truncated:
            clips = clips.allowing_truncated()
        if spec.speakers_from is not None:
            (clips,) = speakers_from([clips], spec.speakers_from)
        return PlannedSet(key, clips=clips)
    whole = suite.spec
    text = _generator_spec(suite, host, spec)
    generator = host.make("generator", text)
    generator.fingerprint()  # reads its weights' digest: a missing file is found now, not after hours of measuring
    prompts = _prompts(suite, key, spec, references_of)
    if generator.prompts and prompts is None:
        problems.add((*key, "generator"), f"{spec.generator} works from clips; name them with prompts")
    if isinstance(prompts, Path):
        ClipSet.open(prompts, ignore_columns=spec.ignore_columns)
    seed = whole.seed if spec.seed is None else spec.seed
    count, seconds = spec.count or whole.count, spec.seconds or whole.seconds
    call = GeneratorCall(text, prompts, count, seconds, seed, tuple(spec.ignore_columns))
    return PlannedSet(key, call=call)


def _located(suite: Suite, path: str) -> Path | str:
    """Return where a path of a suite lies: an object, or a file relative to the suite's folder."""
    return path if has_scheme(path) else suite.folder / path


def _check_inside(suite: Suite, host: Host, spec: str) -> None:
    """Refuse a text outside the suite's folder: its lines end up in manifests, whoever wrote the suite."""
    for option, path in text_files(host.make("generator", spec).options).items():
        if not any(Path(path).resolve().is_relative_to(folder.resolve()) for folder in (suite.folder, _PACKAGE)):
            raise UsageError(
                f"option {option!r}: {path} lies outside the suite's folder; move it there, or trust the suite with "
                "--allow-outside"
            )


def _prompts(suite: Suite, key: SetKey, spec: SetSpec, references_of: Mapping[str, str | None]) -> SetKey | Path | None:
    """Return what a generator works from: a set of the suite, a path, or the system's reference."""
    whole = suite.spec
    if spec.prompts is None:
        reference = references_of.get(key[1]) if key[0] == "systems" else None
        return ("references", reference) if reference is not None and reference in whole.references else None
    if spec.prompts in whole.references:
        return "references", spec.prompts
    if spec.prompts in whole.systems:
        return "systems", spec.prompts
    return suite.folder / spec.prompts


def _generator_spec(suite: Suite, host: Host, spec: SetSpec) -> str:
    """Return a generator with all its options as the command line writes it."""
    name, _, rest = str(spec.generator).partition(":")
    known = host.find("generator", name).component.Options.model_fields
    options = [rest] if rest else []
    for key, value in absolute_options(suite, spec.options).items():
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}.{hint(key, known)}")
        if "," in str(value):
            raise UsageError(f"option {key!r}: a generator's option cannot hold a comma")
        options.append(f"{key}={value}")
    return f"{name}:{','.join(options)}" if options else name


def absolute_options(suite: Suite, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which texts that start with ./ or ../ are paths from the suite's folder.

    Raises:
        UsageError: There is no such file.
    """
    resolved: dict[str, Any] = {}
    for key, value in options.items():
        resolved[key] = value
        if isinstance(value, str) and value.startswith(("./", "../")):
            path = (suite.folder / value).resolve()
            if not path.exists():
                near = hint(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
                raise UsageError(f"option {key!r}: {path}: no such file or directory.{near}")
            resolved[key] = str(path)
    return resolved


def hint(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known one, else all of them."""
    known = list(known)
    return did_you_mean(name, known) or f" Known: {', '.join(known[:20]) or 'none'}."


def cycles(following: Mapping[_Key, _Key]) -> list[list[_Key]]:
    """Return the cycles of a graph in which every node has at most one edge, each from its first node in the mapping.

    Example:
        >>> cycles({"a": "b", "b": "a", "c": "a"})
        [['a', 'b']]
    """
    reported: set[_Key] = set()
    result = []
    for start in following:
        trail = [start]
        while (node := following.get(trail[-1])) is not None and node not in trail:
            trail.append(node)
        if node == start and start not in reported:
            reported.update(trail)
            result.append(trail)
    return result


def _depth(key: SetKey, prompts_of: Mapping[SetKey, SetKey]) -> int:
    """Return how many sets must be written before this one."""
    depth, seen = 0, {key}
    while (before := prompts_of.get(key)) is not None and before not in seen:
        key = before
        seen.add(key)
        depth += 1
    return depth
