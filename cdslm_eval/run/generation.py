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

import numpy as np

from cdslm_eval.core import defaults
from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import AudioError, EvalError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.plugin.contract import Failed, Generator, Recognizer, Skipped
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.recognition import default_recognizer

__all__ = ["CONTINUATIONS", "GenerationRequest", "generate_into", "generate_set", "prompts_for"]

CONTINUATIONS = "continuations.jsonl"
"""Manifest of the clips without their prompts, where these were kept in front of them."""
_PARTIAL = "manifest.part.jsonl"


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


def generate_set(host: Host, request: GenerationRequest, folder: Path, note: Callable[[str], None]) -> ClipSet:
    """Return the set that a request describes, written under `folder` unless it lies there already.

    Args:
        host: Finds the generator.
        request: What to make.
        folder: Holds one folder per request.
        note: Called with a sentence before clips are made.
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
        generate_into(host, request, target)
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
            stat = Path(source.path).stat()
        except OSError as error:
            raise UsageError(f"{source.path}: cannot be read: {error.strerror}") from error
        parts.append(f"{source.address} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def generate_into(host: Host, request: GenerationRequest, folder: Path, progress: Progress | None = None) -> Path:
    """Write clips as 16-bit FLAC and a `manifest.jsonl`; clips that an interrupted call left are kept.

    Args:
        host: Finds the generator.
        request: What to make.
        folder: Made when absent.
        progress: Called with (clips written, clips to write).

    Returns:
        The manifest.

    Raises:
        UsageError: The generator needs prompts that the set does not carry, or the folder holds the clips of another
            request.
    """
    generator = host.resolve("generator", request.generator)
    prompts = prompts_for(host, request, generator)
    if request.keep_prompts:
        generator.check_continues()
    prompt_of = _PromptOf(request.prompts, prompts) if request.keep_prompts else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from error
    partial = folder / _PARTIAL
    facts: dict[str, Any] = {
        "spec": request.name,
        "seconds": request.seconds,
        "seed": request.seed,
        "version": generator.version,
    }
    if request.keep_prompts:
        facts["keep_prompts"] = True
    header = {"order": facts}  # the key under which folders of earlier versions hold it
    done = _resume(partial, header)
    with partial.open("a", encoding="utf-8") as file:
        if not done and partial.stat().st_size == 0:
            file.write(json.dumps(header) + "\n")
        for number, clip in enumerate(generator.clips(prompts, request.count, request.seconds, request.seed)):
            if number >= done:
                record = _write(folder, number, clip, prompt_of(clip) if prompt_of else None)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
            if progress:
                progress(number + 1, request.count)
    lines = partial.read_text(encoding="utf-8").splitlines()[1:]
    if not lines:
        raise EvalError(f"{request.name}: the generator yielded no clip")
    if request.keep_prompts:
        lines, continuations = _without_prompts(lines)
        (folder / CONTINUATIONS).write_text("\n".join(continuations) + "\n", encoding="utf-8")
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    info = {**facts, "count": len(lines), "info": dataclasses.asdict(generator.info())}
    (folder / "generator.json").write_text(json.dumps(info, indent=1, default=str) + "\n", encoding="utf-8")
    partial.unlink()
    return folder / MANIFEST


def _resume(partial: Path, header: Mapping[str, Any]) -> int:
    """Return how many clips an interrupted call of the same request wrote; drop a line that it did not finish."""
    if not partial.is_file():
        return 0
    text = partial.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    lines = complete.splitlines()
    if lines and json.loads(lines[0]) != header:
        raise UsageError(f"{partial.parent}: holds clips of another request; name an empty folder")
    partial.write_text(complete, encoding="utf-8")
    return max(0, len(lines) - 1)


class _PromptOf:
    """Finds the prompt that a clip continues by its key: the prompt's own, with a number where prompts repeat."""

    def __init__(self, clips: ClipSet | None, prompts: Sequence[Clip]) -> None:
        self._prompts = prompts
        self._rows = {source.key: row for row, source in enumerate(clips.sources if clips is not None else ())}

    def __call__(self, clip: Clip) -> Clip:
        """Return the prompt at the clip's rate.

        Raises:
            UsageError: No prompt has such a key.
        """
        base, _, turn = clip.key.rpartition("-")
        row = self._rows.get(clip.key, self._rows.get(base) if turn.isdigit() else None)
        if row is None:
            raise UsageError(f"clip {clip.key!r}: no prompt has this key; generate without --keep-prompts")
        return self._prompts[row].at_rate(clip.rate_hz)


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


def _write(folder: Path, number: int, clip: Clip, prompt: Clip | None = None) -> dict[str, Any]:
    name = f"{number:05d}.flac"
    # checked before it is written: FLAC would clip samples of another scale into a square wave
    if reason := fault(Levels.of(clip.samples).peak):
        raise EvalError(f"clip {clip.key!r} of the generator: {reason}")
    try:
        samples = clip.samples if prompt is None else np.concatenate([prompt.samples, clip.samples])
        write_flac(folder / name, samples, clip.rate_hz)
    except AudioError as error:
        raise EvalError(f"clip {clip.key!r} of the generator: {error}") from error
    record: dict[str, Any] = {"path": name, "key": clip.key}
    for field in ("text", "speaker", "language"):
        if getattr(clip, field) is not None:
            record[field] = getattr(clip, field)
    if prompt is not None:
        record["prompt_seconds"] = prompt.seconds
    if clip.phones is not None:
        record["phones"] = " ".join(clip.phones)
    return record


def prompts_for(host: Host, request: GenerationRequest, generator: Generator) -> Sequence[Clip]:
    """Return the prompts of a request as its generator reads them: decoded when indexed, with phones where needed.

    Raises:
        UsageError: The generator needs prompts and there are none, or they lack what it needs.
    """
    needs = set(generator.prompts)
    if not needs:
        return _Prompts(request.prompts, None)
    if request.prompts is None:
        raise UsageError(f"{request.name}: needs clips to work from; name them with --prompts DIR")
    lacking = needs - {"phones"} - request.prompts.offers()
    if lacking:
        raise UsageError(f"{request.name}: the prompts have no {', '.join(sorted(lacking))}")
    phones = list(_phones(host, request.recognizer, request.prompts)) if "phones" in needs else None
    return _Prompts(request.prompts, phones)


class _Prompts(Sequence[Clip]):
    """Prompts that are decoded when they are indexed, with the phones that were recognized for them."""

    def __init__(self, clips: ClipSet | None, phones: Sequence[tuple[str, ...]] | None) -> None:
        self._clips, self._phones = clips, phones

    def __len__(self) -> int:
        return len(self._clips) if self._clips is not None else 0

    def __getitem__(self, index: Any) -> Any:
        if self._clips is None:
            raise IndexError(index)
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        clip = self._clips[index]
        if reason := fault(Levels.of(clip.samples).peak):
            raise EvalError(f"{self._clips.name}, prompt {clip.key!r}: {reason}")
        return clip if self._phones is None else dataclasses.replace(clip, phones=self._phones[index])


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
