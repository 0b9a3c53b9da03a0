"""Generates ranges of clips on any executor: which are missing, a worker that encodes them, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip, flac_bytes
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError, EvalError, UsageError
from cdslm_eval.plugin.clip_parts import PartialGenerator
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.execution import Executor, Finished, Lane, Lost, Produced, Task, Worker
from cdslm_eval.plugin.failures import describe
from cdslm_eval.run.executors.devices import named_devices

__all__ = [
    "EncodedClip",
    "GeneratedClip",
    "GeneratedPart",
    "InProcess",
    "PromptOf",
    "RangeWorker",
    "clip_record",
    "generated",
    "missing_ranges",
]


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A generated clip on its way to the folder: a node that generates need not mount it.

    Attributes:
        number: Number of the clip.
        flac: Its samples as 16-bit FLAC.
        record: Its line of the manifest, without the path.
    """

    number: int
    flac: bytes
    record: dict[str, Any]

    def encoded(self) -> EncodedClip:
        """Return the clip itself."""
        return self


@dataclass(frozen=True, slots=True)
class GeneratedClip:
    """A generated clip that is not encoded yet.

    Attributes:
        number: Number of the clip.
        clip: The clip.
        prompt: What is kept in front of it.
    """

    number: int
    clip: Clip
    prompt: Clip | None

    def encoded(self) -> EncodedClip:
        """Return the clip as FLAC.

        Raises:
            EvalError: Its samples are none that FLAC can hold.
        """
        return _encoded(self.number, self.clip, self.prompt)


@dataclass(frozen=True, slots=True)
class GeneratedPart:
    """The next samples of a generated clip that is written while it is generated.

    Attributes:
        number: Number of the clip.
        clip: The clip with these samples alone.
        prompt: What is kept in front of it, with its first part.
        last: Whether the clip ends with them.
    """

    number: int
    clip: Clip
    prompt: Clip | None
    last: bool


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the rest of a range was not generated, and whether the request is at fault."""

    reason: str
    usage: bool


class PromptOf:
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


@dataclass(frozen=True, slots=True)
class RangeWorker:
    """A worker's function: generates the clips of a range, and encodes them where they are generated.

    Attributes:
        generator: The generator, opened once per process.
        prompts: What it works from; decoded when indexed.
        seconds: Wanted duration of each clip, in seconds.
        seed: Seed of the request.
        prompt_of: Finds the prompt that is kept in front of each clip, where prompts are kept.
        device: Passed to `open`.
        encodes: Whether clips are encoded here, else by whoever gets them.
    """

    generator: Generator
    prompts: Sequence[Clip]
    seconds: float
    seed: int
    prompt_of: PromptOf | None = None
    device: str = "auto"
    encodes: bool = True

    def problem(self) -> str:
        """Return what the generator lacks on this machine, or ""."""
        if absent := type(self.generator).missing():
            return f"{self.generator.name}: {absent}"
        try:
            self.generator.fingerprint()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            return f"{self.generator.name}: {describe(error, type(self.generator).__module__)}"
        return ""

    @contextmanager
    def open(self) -> Iterator[Callable[[range], Iterator[EncodedClip | GeneratedClip | GeneratedPart | _Failure]]]:
        """Open the generator when the first range comes, and provide the function."""
        with self.generator.open(self.device):
            yield self._clips

    def _clips(self, numbers: range) -> Iterator[EncodedClip | GeneratedClip | GeneratedPart | _Failure]:
        try:
            if isinstance(self.generator, PartialGenerator) and not self.encodes:
                yield from self._parts(self.generator, numbers)
                return
            clips = self.generator.clip_range(self.prompts, numbers, self.seconds, self.seed)
            for number, clip in zip(numbers, clips, strict=False):  # a finite set may end before
                made = GeneratedClip(number, clip, self.prompt_of(clip) if self.prompt_of else None)
                yield made.encoded() if self.encodes else made
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the other ranges are generated
            reason = describe(error, type(self.generator).__module__)
            yield _Failure(reason, isinstance(error, UsageError))

    def _parts(self, generator: PartialGenerator, numbers: range) -> Iterator[GeneratedPart]:
        started: set[int] = set()
        for part in generator.clip_parts(self.prompts, numbers, self.seconds, self.seed):
            first = part.number not in started
            started.add(part.number)
            prompt = self.prompt_of(part.clip) if self.prompt_of and first else None
            yield GeneratedPart(part.number, part.clip, prompt, part.last)


class InProcess(Executor):
    """Runs tasks in the process of the caller: a generator may hold what cannot be sent to another."""

    name = "in-process"

    def devices(self, device: str) -> tuple[str, ...]:
        """Return none: this process is the one worker, whatever the device that is named.

        Raises:
            UsageError: There is no such device.
        """
        named_devices(device)
        return ()

    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks one after the other."""
        del jobs
        with worker.open() as work:
            while (task := next_task()) is not None:
                for value in work(task.payload):
                    yield Produced(task.ident, value)
                yield Finished(task.ident)


def missing_ranges(generator: Generator, count: int, done: Collection[int], parts: int) -> list[range]:
    """Return the ranges that hold every clip that is not there yet, whole batches each.

    Args:
        generator: Decides whether ranges can be generated apart, and how many clips make a batch.
        count: Clips of the request.
        done: Numbers of the clips that are there.
        parts: How many ranges to aim at.
    """
    batch = max(1, generator.batch_clips)
    if type(generator).clip_range is Generator.clip_range:
        parts = 1  # each range would generate all clips before it
    size = batch * max(1, -(-count // (batch * parts)))
    ranges = []
    for start in range(0, count, size):
        own = range(start, min(start + size, count))
        if (first := next((number for number in own if number not in done), None)) is not None:
            # from the start of its batch, so that a resumed batch holds the clips that it would have held
            ranges.append(range(first - first % batch, own.stop))
    return ranges


def generated(
    executor: Executor, worker: RangeWorker, ranges: Sequence[range], jobs: int, devices: Sequence[str] = ()
) -> Iterator[EncodedClip | GeneratedClip | GeneratedPart]:
    """Yield the clips of all ranges as they arrive, in any order.

    Args:
        executor: Where they are generated.
        worker: Generates them.
        ranges: Numbers of clips.
        jobs: Worker processes, where no devices are named.
        devices: Get a worker each, and share the ranges.

    Raises:
        EvalError: Ranges failed; raised when the others are through.
    """
    tasks = (Task(ident, numbers) for ident, numbers in enumerate(ranges))
    failures: list[_Failure] = []
    workers = [(replace(worker, device=name), 1) for name in devices] or [(worker, jobs)]
    lanes = [Lane(own, lambda: next(tasks, None), processes) for own, processes in workers]
    with closing(_closable(executor.run_lanes(lanes))) as events:
        for event in events:
            match event:
                case Produced(value=_Failure() as failure):
                    failures.append(failure)
                case Produced(value=clip):
                    yield clip
                case Lost(ident, reason):
                    numbers = ranges[ident]
                    failures.append(_Failure(f"clips {numbers.start} to {numbers.stop - 1}: {reason}", usage=False))
    if failures:
        first, more = failures[0], len(failures) - 1
        further = f" ({more} of the other {len(ranges) - 1} ranges of clips failed too)" if more else ""
        raise (UsageError if first.usage else EvalError)(f"{first.reason}{further}")


def _closable(events: Iterator[Any]) -> Any:
    """Pass events on; closing it ends the executor's workers, whatever kind of iterator the executor returned."""
    yield from events


def _encoded(number: int, clip: Clip, prompt: Clip | None) -> EncodedClip:
    # checked before it is encoded: FLAC would clip samples of another scale into a square wave
    if reason := fault(Levels.of(clip.samples).peak):
        raise EvalError(f"clip {clip.key!r} of the generator: {reason}")
    try:
        samples = clip.samples if prompt is None else np.concatenate([prompt.samples, clip.samples])
        flac = flac_bytes(samples, clip.rate_hz)
    except AudioError as error:
        raise EvalError(f"clip {clip.key!r} of the generator: {error}") from error
    return EncodedClip(number, flac, clip_record(clip, prompt))


def clip_record(clip: Clip, prompt: Clip | None) -> dict[str, Any]:
    """Return the line of the manifest of a clip, without the path."""
    fields = ("text", "speaker", "language")
    record: dict[str, Any] = {"key": clip.key}
    record |= {name: value for name in fields if (value := getattr(clip, name)) is not None}
    if prompt is not None:
        record["prompt_seconds"] = prompt.seconds
    if clip.phones is not None:
        record["phones"] = " ".join(clip.phones)
    return record
