"""Writes what a generator makes as a set of clips with a manifest, resumable clip by clip."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core import defaults
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.storage import storage_of
from cdslm_eval.plugin.contract import Failed, Generator, Recognizer, Skipped
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.recognition import default_recognizer
from cdslm_eval.run.clip_ranges import InProcess, PromptOf, RangeWorker, generated, missing_ranges
from cdslm_eval.run.clip_writing import ClipWriter
from cdslm_eval.run.executors.devices import names_several
from cdslm_eval.run.executors.local import LocalExecutor
from cdslm_eval.run.prompts import Prompts

__all__ = ["CONTINUATIONS", "GenerationRequest", "generate_into", "generate_set", "prompts_for", "with_options"]

CONTINUATIONS = "continuations.jsonl"
"""Manifest of the clips without their prompts, where these were kept in front of them."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A generator and what it is to make.

    Attributes:
        generator: A spec such as "babble:2", a class, or an instance.
        prompts: Clips to continue, transform or learn from.
        count: How many clips.
        seconds: Their length in seconds.
        seed: The same seed gives the same clips.
        recognizer: Recognizes the phones of prompts that carry none, where the generator needs phones.
        label: What the generator is called in the manifest; its spec or its name by default.
        keep_prompts: Write each clip behind the prompt that it continues, and where the prompt ends.
    """

    generator: str | Generator | type[Generator]
    prompts: ClipSet | None = None
    count: int = defaults.CLIP_COUNT
    seconds: float = defaults.CLIP_SECONDS
    seed: int = 0
    recognizer: str | Recognizer | type[Recognizer] = defaults.RECOGNIZER
    label: str = ""
    keep_prompts: bool = False

    @property
    def name(self) -> str:
        """The generator as manifests, folders and messages name it."""
        return self.label or (self.generator if isinstance(self.generator, str) else self.generator.name)


def with_options(
    host: Host, generator: str | Generator | type[Generator], options: Mapping[str, Any] | None
) -> tuple[str | Generator | type[Generator], str]:
    """Return a generator that is named without options with those that are passed by name, and its label.

    Raises:
        UsageError: An option cannot be used, or the generator is not a bare name.
    """
    if options is None:
        return generator, ""
    if not isinstance(generator, str) or ":" in generator:
        raise UsageError("options go with the bare name of a generator")
    label = f"{generator}:" + ",".join(f"{name}={value}" for name, value in options.items())
    return host.build("generator", generator, options, label), label


def generate_set(
    host: Host,
    request: GenerationRequest,
    folder: Path,
    note: Callable[[str], None],
    executor: Executor | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> ClipSet:
    """Return the set that a request describes, written under `folder` unless it lies there already.

    Args:
        host: Finds the generator.
        request: What to make.
        folder: Holds one folder per request.
        note: Called with a sentence before clips are made.
        executor: Where clips are generated; None is this process, or "local" on several devices.
        jobs: Worker processes of the executor.
        device: Where its model runs: "auto", "cpu", "cuda", or devices by name, which get a worker each.
    """
    generator = host.resolve("generator", request.generator)
    facts = {
        "spec": request.name,
        "version": generator.version,
        "fingerprint": dict(generator.fingerprint()),
        "prompts": _prompts_key(request.prompts) if generator.prompts else "",
        "count": request.count,
        "seconds": request.seconds,
        "seed": request.seed,
        "recognizer": _recognizer_key(host, request) if "phones" in generator.prompts else "",
    }
    if not isinstance(request.generator, str):
        # a spec holds its options as text
        facts["options"] = generator.options.model_dump(mode="json")
    if generator.code:
        facts["code"] = generator.code
    if request.keep_prompts:
        facts["keep_prompts"] = True
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", request.name)[:60]
    target = folder / f"{name}-{digest}"
    if not (target / MANIFEST).is_file():
        note(f"{request.name}: generating {request.count} clips into {target}")
        _write_set(host, generator, request, target, executor=executor, jobs=jobs, device=device)
    return ClipSet.open(target, name=request.name)


def _recognizer_key(host: Host, request: GenerationRequest) -> str:
    recognizer = request.recognizer
    if recognizer == defaults.RECOGNIZER:
        return default_recognizer(host)
    return recognizer if isinstance(recognizer, str) else f"{recognizer.name}@{recognizer.version}"


def _prompts_key(prompts: ClipSet | None) -> str:
    """Return what distinguishes one set of prompts from another without decoding it."""
    if prompts is None:
        return ""
    parts = []
    for source in prompts.sources:
        if source.decoded is not None:
            parts.append(source.path)
            continue
        try:
            stamp = storage_of(source.path).stamp(source.path)
        except OSError as error:
            raise UsageError(f"{source.path}: cannot be read: {error.strerror}") from error
        version = stamp.inode if is_remote(source.path) else stamp.mtime_ns
        parts.append(f"{source.address} {stamp.size} {version}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def generate_into(
    host: Host,
    request: GenerationRequest,
    folder: Path,
    progress: Progress | None = None,
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    device: str = "auto",
) -> Path:
    """Write clips as 16-bit FLAC and a `manifest.jsonl`; clips that an interrupted call left are kept.

    Args:
        host: Finds the generator.
        request: What to make.
        folder: Made when absent.
        progress: Called with (clips written, clips to write).
        executor: Where clips are generated, in ranges where the generator can; None is this process, or "local" on
            several devices.
        jobs: Worker processes of the executor.
        device: As for `generate_set`.

    Returns:
        The manifest.

    Raises:
        UsageError: The generator needs prompts that the set does not carry, or the folder holds the clips of another
            request.
        EvalError: Clips could not be generated; the others are kept, and the same call continues.
    """
    generator = host.resolve("generator", request.generator)
    return _write_set(host, generator, request, folder, progress, executor=executor, jobs=jobs, device=device)


def _write_set(
    host: Host,
    generator: Generator,
    request: GenerationRequest,
    folder: Path,
    progress: Progress | None = None,
    *,
    executor: Executor | None,
    jobs: int,
    device: str,
) -> Path:
    """Write the clips of a generator that was resolved, as `generate_into` does, and return their manifest."""
    prompts = prompts_for(host, request, generator)
    if request.keep_prompts:
        generator.check_continues()
    prompt_of = PromptOf(request.prompts, prompts) if request.keep_prompts else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from error
    facts: dict[str, Any] = {
        "spec": request.name,
        "seconds": request.seconds,
        "seed": request.seed,
        "version": generator.version,
    }
    if request.keep_prompts:
        facts["keep_prompts"] = True
    header = {"order": facts}  # the key under which folders of earlier versions hold it
    runs_on = executor or (LocalExecutor() if names_several(device) else InProcess())
    devices = runs_on.devices(device)
    # in this process a clip is encoded by the writer's thread, and elsewhere where it is generated
    encodes = not isinstance(runs_on, InProcess)
    worker = RangeWorker(generator, prompts, request.seconds, request.seed, prompt_of, device, encodes)
    n_workers = len(devices) or (jobs if executor else 0)

    def note(written: int) -> None:
        """Report the clips that are written."""
        if progress:
            progress(written, request.count)

    with ClipWriter(folder, header, note) as writer:
        ranges = missing_ranges(generator, request.count, set(writer.records), 4 * n_workers or 1)
        for clip in generated(runs_on, worker, ranges, jobs, devices):
            writer.add(clip)
    about = {**facts, "count": len(writer.records), "info": dataclasses.asdict(generator.info())}
    _finish(folder, request, about, writer.records)
    writer.finish()
    return folder / MANIFEST


def _finish(
    folder: Path, request: GenerationRequest, facts: Mapping[str, Any], records: Mapping[int, Mapping[str, Any]]
) -> None:
    """Write the manifest of all clips and what is known of their generator."""
    if not records:
        raise EvalError(f"{request.name}: the generator yielded no clip")
    lines = [json.dumps(records[number], ensure_ascii=False) for number in sorted(records)]
    if request.keep_prompts:
        lines, continuations = _without_prompts(lines)
        (folder / CONTINUATIONS).write_text("\n".join(continuations) + "\n", encoding="utf-8")
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "generator.json").write_text(json.dumps(facts, indent=1, default=str) + "\n", encoding="utf-8")


def _without_prompts(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the manifest lines of clips that begin with their prompts, and those of the continuations in them."""
    whole, continuations = [], []
    for record in map(json.loads, lines):
        prompt_seconds = record.pop("prompt_seconds")
        continuations.append(json.dumps({**record, "offset": prompt_seconds}, ensure_ascii=False))
        # words and phones are those of what was generated
        known = {name: value for name, value in record.items() if name not in ("text", "phones")}
        whole.append(json.dumps({**known, "prompt_seconds": prompt_seconds}, ensure_ascii=False))
    return whole, continuations


def prompts_for(host: Host, request: GenerationRequest, generator: Generator) -> Sequence[Clip]:
    """Return the prompts of a request as its generator reads them: decoded when indexed, with phones where needed.

    Raises:
        UsageError: The generator needs prompts and there are none, or they lack what it needs.
    """
    needs = set(generator.prompts)
    if not needs:
        return Prompts(request.prompts, None)
    if request.prompts is None:
        raise UsageError(f"{request.name}: needs clips to work from; name them with --prompts DIR")
    lacking = needs - {"phones"} - request.prompts.offers()
    if lacking:
        raise UsageError(f"{request.name}: the prompts have no {', '.join(sorted(lacking))}")
    phones = list(_phones(host, request.recognizer, request.prompts)) if "phones" in needs else None
    return Prompts(request.prompts, phones)


def _phones(host: Host, spec: str | Recognizer | type[Recognizer], prompts: ClipSet) -> Iterator[tuple[str, ...]]:
    """Yield the phones of each prompt: its own where every prompt has them, else the recognizer's."""
    if all(source.phones is not None for source in prompts.sources):
        yield from (source.phones or () for source in prompts.sources)
        return
    recognizer: Recognizer = host.resolve("recognizer", spec)
    with recognizer.open("auto"):
        for clip in prompts:
            for row in recognizer.recognize([clip.at_rate(recognizer.rate_hz)]):
                if isinstance(row, Skipped | Failed):
                    raise EvalError(f"{clip.key}: {recognizer.name}: {row.reason}")
                yield tuple(row)
