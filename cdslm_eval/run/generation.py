"""Lets a generator write a set of clips with its manifest, resumable clip by clip."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import AudioError, EvalError, UsageError
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.host import Host

__all__ = ["Order", "generate_into", "generate_set"]

_PARTIAL = "manifest.part.jsonl"


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of a generator.

    Attributes:
        spec: Its name with options, such as "babble:2".
        prompts: Clips to continue, transform or learn from.
        count: How many clips.
        seconds: Their length in seconds.
        seed: The same seed gives the same clips.
        recognizer: Gives the prompts' phones where the generator asks for them.
    """

    spec: str
    prompts: ClipSet | None
    count: int
    seconds: float
    seed: int
    recognizer: str = "pocketsphinx"


def generate_set(host: Host, order: Order, folder: Path, say: Callable[[str], None]) -> ClipSet:
    """Return the set that an order gives, made under `folder` unless it is there already."""
    generator = host.make("generator", order.spec)
    facts = {
        "spec": order.spec,
        "version": generator.version,
        "fingerprint": dict(generator.fingerprint()),
        "prompts": _prompts_key(order.prompts) if generator.prompts else "",
        "count": order.count,
        "seconds": order.seconds,
        "seed": order.seed,
        "recognizer": order.recognizer if "phones" in generator.prompts else "",
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", order.spec)[:60]
    place = folder / f"{name}-{digest}"
    if not (place / MANIFEST).is_file():
        say(f"{order.spec}: generating {order.count} clips into {place}")
        generate_into(host, generator, order, place)
    return ClipSet.open(place, name=order.spec)


def _prompts_key(prompts: ClipSet | None) -> str:
    """Return what tells one set of prompts from another without decoding it."""
    if prompts is None:
        return ""
    parts = []
    for source in prompts.sources:
        try:
            stat = Path(source.path).stat()
        except OSError as error:
            raise UsageError(f"{source.path}: cannot be read: {error.strerror}") from error
        parts.append(f"{source.path} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def generate_into(
    host: Host, generator: Generator, order: Order, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write clips as 16-bit FLAC and a `manifest.jsonl`; clips that an interrupted call left are kept.

    Returns:
        The manifest.

    Raises:
        UsageError: The generator needs prompts that the set does not carry, or the folder holds another order's clips.
    """
    prompts = _Prompts(host, order, generator)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from error
    half = folder / _PARTIAL
    header = {"order": {"spec": order.spec, "seconds": order.seconds, "seed": order.seed, "version": generator.version}}
    done = _resume(half, header)
    with half.open("a", encoding="utf-8") as file:
        if not done and half.stat().st_size == 0:
            file.write(json.dumps(header) + "\n")
        for number, clip in enumerate(generator.clips(prompts, order.count, order.seconds, order.seed)):
            if number >= done:
                file.write(json.dumps(_write(folder, number, clip), ensure_ascii=False) + "\n")
                file.flush()
            if progress:
                progress(number + 1, order.count)
    lines = half.read_text(encoding="utf-8").splitlines()[1:]
    if not lines:
        raise EvalError(f"{order.spec}: the generator gave no clip")
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    info = {**header["order"], "count": len(lines), "info": dataclasses.asdict(generator.info())}
    (folder / "generator.json").write_text(json.dumps(info, indent=1, default=str) + "\n", encoding="utf-8")
    half.unlink()
    return folder / MANIFEST


def _resume(half: Path, header: dict[str, Any]) -> int:
    """Return how many clips an interrupted call of the same order wrote; drop a line that it did not finish."""
    if not half.is_file():
        return 0
    text = half.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    lines = whole.splitlines()
    if lines and json.loads(lines[0]) != header:
        raise UsageError(f"{half.parent}: holds clips of another order; name an empty folder")
    half.write_text(whole, encoding="utf-8")
    return max(0, len(lines) - 1)


def _write(folder: Path, number: int, clip: Clip) -> dict[str, Any]:
    name = f"{number:05d}.flac"
    try:
        write_flac(folder / name, clip.samples, clip.rate_hz)
    except AudioError as error:
        raise EvalError(f"clip {clip.key!r} of the generator: {error}") from error
    record: dict[str, Any] = {"path": name, "key": clip.key}
    for field in ("text", "speaker"):
        if getattr(clip, field) is not None:
            record[field] = getattr(clip, field)
    if clip.phones is not None:
        record["phones"] = " ".join(clip.phones)
    return record


class _Prompts(Sequence[Clip]):
    """Prompts as the generator wants them: decoded when indexed, with phones where it asks for phones."""

    def __init__(self, host: Host, order: Order, generator: Generator) -> None:
        self._set = order.prompts
        self._phones: list[tuple[str, ...]] | None = None
        wanted = set(generator.prompts)
        if not wanted:
            return
        if self._set is None:
            raise UsageError(f"{order.spec}: needs clips to work from; name them with --prompts DIR")
        lacking = wanted - {"phones"} - self._set.offers()
        if lacking:
            raise UsageError(f"{order.spec}: the prompts have no {', '.join(sorted(lacking))}")
        if "phones" in wanted:
            self._phones = list(_heard(host, order.recognizer, self._set))

    def __len__(self) -> int:
        return len(self._set) if self._set is not None else 0

    def __getitem__(self, index: Any) -> Any:
        if self._set is None:
            raise IndexError(index)
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        clip = self._set[index]
        return clip if self._phones is None else dataclasses.replace(clip, phones=self._phones[index])


def _heard(host: Host, spec: str, prompts: ClipSet) -> Iterator[tuple[str, ...]]:
    """Yield the phones of each prompt: its own where it has them, else the recognizer's."""
    if all(source.phones is not None for source in prompts.sources):
        yield from (source.phones or () for source in prompts.sources)
        return
    recognizer = host.make("recognizer", spec)
    with recognizer.open("auto"):
        for clip in prompts:
            for row in recognizer.recognize([clip.at_rate(recognizer.rate_hz)]):
                if isinstance(row, list | tuple):
                    yield tuple(row)
                else:
                    raise EvalError(f"{clip.key}: {recognizer.name}: {row.reason}")
