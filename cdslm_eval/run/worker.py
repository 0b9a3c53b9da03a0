"""Worker: decodes each clip once, checks it, and runs every wanted measurer on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip, is_silent
from cdslm_eval.core.clips import Source
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.remote.prefetch import Prefetch
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import FileFacts, Outcome
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Failed, Measurer, Skipped
from cdslm_eval.plugin.failures import describe
from cdslm_eval.run.batch_sizes import BatchSizes, is_out_of_memory
from cdslm_eval.run.reading import read_with_facts
from cdslm_eval.run.row_checks import required_columns

__all__ = ["DECODING", "Measured", "Read", "Started", "Unit", "Worker"]

DECODING = -1
"""Number of the decoder where a measurer's number is expected."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One clip and what is to be measured of it.

    Attributes:
        uid: Number of the clip in the run.
        source: The clip.
        wanted: Numbers of the measurers to run.
        upstream: Upstream feature ("phones", "transcript") -> its outcome, where that is known already.
    """

    uid: int
    source: Source
    wanted: tuple[int, ...]
    upstream: Mapping[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """A file, or a part of it, was decoded: its facts, or why it could not be."""

    uid: int
    address: Address
    facts: FileFacts | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """A measurer starts; a time-out after this is charged to it."""

    measurer: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip under one measurer.

    `lasting` is False where the outcome rests on a failure of the machine (a model that cannot be opened, a failed
    upstream feature): the store does not keep it, and the next run measures it again.
    """

    uid: int
    measurer: int
    outcome: Outcome
    lasting: bool = True


@dataclass(frozen=True)
class Worker:
    """Opens every measurer once, then measures chunks of clips.

    Attributes:
        measurers: All measurers of the run, upstream ones first; a unit names them by number.
        device: Passed to `open`.
    """

    measurers: tuple[Measurer, ...]
    device: str

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Unit]], Iterator[Read | Started | Measured]]]:
        """Open the measurers when they are first needed, and yield the function that measures a chunk."""
        with ExitStack() as stack:
            opened: dict[int, str] = {}

            def ready(number: int) -> str:
                """Open a measurer when it is first needed; return why it could not be, or ""."""
                if number not in opened:
                    measurer = self.measurers[number]
                    try:
                        stack.enter_context(measurer.open(self.device))
                        opened[number] = ""
                    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; its clips get the reason
                        opened[number] = describe(error, type(measurer).__module__)
                return opened[number]

            yield partial(self._measure, ready=ready, sizes=BatchSizes())

    def _measure(
        self, units: Sequence[Unit], ready: Callable[[int], str], sizes: BatchSizes
    ) -> Iterator[Read | Started | Measured]:
        with Prefetch(address for unit in units for address in self._read_by(unit)) as ahead:
            # objects of the next part are read while this one is measured
            for first in range(0, len(units), part := self._clips_a_part(units)):
                yield from self._measure_part(units[first : first + part], ready, sizes, ahead)

    def _clips_a_part(self, units: Sequence[Unit]) -> int:
        """Return how many clips are decoded at once: those of the largest batch, or all where nothing is read ahead."""
        wanted = {number for unit in units for number in unit.wanted}
        if not wanted or not any(is_remote(unit.source.path) for unit in units):
            return max(1, len(units))
        return max(self.measurers[number].batch_clips for number in wanted)

    def _read_by(self, unit: Unit) -> Iterator[Address]:
        """Yield the addresses that `_decode` reads, in its order."""
        needs = {need for number in unit.wanted for need in self.measurers[number].needs}
        if "audio" in needs and unit.source.decoded is None:
            yield unit.source.address
        if "reference_audio" in needs and unit.source.reference is not None:
            yield Address(unit.source.reference)

    def _measure_part(
        self, units: Sequence[Unit], ready: Callable[[int], str], sizes: BatchSizes, ahead: Prefetch
    ) -> Iterator[Read | Started | Measured]:
        clips: dict[int, Clip] = {}
        faults: dict[int, str] = {}
        unpaired: dict[int, str] = {}
        for unit in units:
            yield Started(DECODING)
            try:
                clip, peak, reads, problem = self._decode(unit, ahead)
            except AudioError as error:
                yield Read(unit.uid, unit.source.address, None, str(error))
                continue
            except MemoryError:
                reason = "out of memory when decoded; raise --memory-limit, or cut the clip"
                yield Read(unit.uid, unit.source.address, None, reason)
                continue
            yield from reads
            clips[unit.uid], faults[unit.uid] = clip, fault(peak)
            if problem:
                unpaired[unit.uid] = problem
        chunk = _Chunk(clips, faults, {unit.uid: dict(unit.upstream) for unit in units})
        for number in sorted({number for unit in units for number in unit.wanted}):
            measurer = self.measurers[number]
            yield Started(number)
            waiting = [unit.uid for unit in units if number in unit.wanted and unit.uid in clips]
            if reason := ready(number):
                yield from _not_opened(number, measurer, reason, waiting, chunk)
                continue
            if "reference_audio" in measurer.needs:
                for uid in (uid for uid in waiting if uid in unpaired):
                    yield Measured(uid, number, Outcome("failed", unpaired[uid], {}), lasting=False)
                waiting = [uid for uid in waiting if uid not in unpaired]
            for uid, outcome in _outcomes(measurer, waiting, chunk, sizes):
                lasting = not chunk.failed_upstream(measurer, uid)
                if measurer.provides:
                    chunk.upstream[uid].setdefault(measurer.provides, outcome)
                yield Measured(uid, number, outcome, lasting)

    def _decode(self, unit: Unit, ahead: Prefetch) -> tuple[Clip, float, list[Read], str]:
        """Decode a clip (and its reference) where a wanted measurer reads audio at all; its peak is the second value.

        A reference that cannot be read is a problem of the metrics that need it alone; the last value is its reason.
        """
        source = unit.source
        needs = {need for number in unit.wanted for need in self.measurers[number].needs}
        wants = {want for number in unit.wanted for want in self.measurers[number].wants}
        reads: list[Read] = []
        samples, rate_hz, digest, peak, problem = np.zeros(0, np.float32), 1, "", 0.0, ""
        reference = None
        if source.decoded is not None:
            # what lies in memory has no file to vouch for: nothing is read, its digest is known
            samples, rate_hz, digest = source.decoded.samples, source.decoded.rate_hz, source.decoded.digest
            peak = Levels.of(samples).peak
        elif "audio" in needs:
            audio, facts = read_with_facts(
                source.address, allow_truncated=source.allow_truncated, fetched=ahead.take(source.address)
            )
            reads.append(Read(unit.uid, source.address, facts))
            samples, rate_hz, digest = audio.samples, audio.rate_hz, facts.digest
            peak = math.nan if facts.peak is None else facts.peak
        if "reference_audio" in needs and source.reference is not None:
            paired = Address(source.reference)
            try:
                audio, facts = read_with_facts(
                    paired, allow_truncated=source.allow_truncated, fetched=ahead.take(paired)
                )
            except AudioError as error:
                problem = f"its reference {source.reference}: {error}"
            else:
                reads.append(Read(unit.uid, paired, facts))
                reference = Clip(
                    key=source.key,
                    samples=audio.samples,
                    rate_hz=audio.rate_hz,
                    digest=facts.digest,
                    text=source.reference_text,
                )
        if reference is None and "reference_text" in needs | wants and source.reference_text is not None:
            reference = Clip(key=source.key, samples=samples[:0], rate_hz=rate_hz, text=source.reference_text)
        clip = Clip(
            key=source.key,
            samples=samples,
            rate_hz=rate_hz,
            digest=digest,
            text=source.text,
            speaker=source.speaker,
            language=source.language,
            phones=source.phones,
            reference=reference,
            prompt_seconds=source.prompt_seconds,
        )
        return source.derived(clip) if len(samples) else clip, peak, reads, problem


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The decoded clips of one task.

    Attributes:
        clips: By the clip's number in the run.
        faults: What is wrong with each clip's samples whatever the metric, or "".
        upstream: Of each clip: upstream feature -> its outcome.
        resampled: (clip, rate in Hz) -> the clip at that rate: resampled once, however many metrics share the rate.
    """

    clips: Mapping[int, Clip]
    faults: Mapping[int, str]
    upstream: Mapping[int, dict[str, Outcome]]
    resampled: dict[tuple[int, int], Clip] = field(default_factory=dict)

    def failed_upstream(self, measurer: Measurer, uid: int) -> bool:
        """Return whether a feature that the measurer reads failed for this clip."""
        outcomes = (self.upstream[uid].get(feature) for feature in _features(measurer))
        return any(outcome is not None and outcome.status == "failed" for outcome in outcomes)

    def at_rate(self, uid: int, clip: Clip, rate_hz: int | None) -> Clip:
        """Return a clip, with its upstream features, at a rate."""
        if rate_hz is None:
            return clip
        # kept where the clip has that rate already, too: its reference may have another
        if (uid, rate_hz) not in self.resampled:
            self.resampled[uid, rate_hz] = clip.at_rate(rate_hz)
        return dataclasses.replace(self.resampled[uid, rate_hz], phones=clip.phones, transcript=clip.transcript)


def _not_opened(
    number: int, measurer: Measurer, reason: str, uids: Sequence[int], chunk: _Chunk
) -> Iterator[Read | Started | Measured]:
    """Fail the clips of a measurer that could not be opened, and what depends on it with the same cause."""
    outcome = Outcome("failed", reason, {})
    for uid in uids:
        if measurer.provides:
            # without this, dependents would report "no phones" as a property of the clip and hide the cause
            cause = Outcome("failed", f"{measurer.name}: {reason}", {})
            chunk.upstream[uid].setdefault(measurer.provides, cause)
        yield Measured(uid, number, outcome, lasting=False)


def _outcomes(
    measurer: Measurer, uids: Sequence[int], chunk: _Chunk, sizes: BatchSizes
) -> Iterator[tuple[int, Outcome]]:
    admitted: list[tuple[int, Clip]] = []
    for uid in uids:
        if missing := _missing_upstream(measurer, chunk.upstream[uid]):
            yield uid, missing
            continue
        clip = _with_upstream(measurer, chunk.clips[uid], chunk.upstream[uid])
        if "audio" in measurer.needs and chunk.faults[uid]:
            yield uid, Outcome("failed", chunk.faults[uid], {})
        elif refused := _refusal(measurer, clip):
            yield uid, Outcome("skipped", refused, {})
        else:
            admitted.append((uid, chunk.at_rate(uid, clip, measurer.rate_hz)))
    while admitted:
        size = sizes.largest(measurer)
        batch, admitted = admitted[:size], admitted[size:]
        yield from zip((uid for uid, _ in batch), _rows(measurer, [clip for _, clip in batch], sizes), strict=True)


def _features(measurer: Measurer) -> list[str]:
    """Return the upstream features that a measurer reads: not the one it provides itself (from sidecars)."""
    return [name for name in UPSTREAM_FEATURES if name in {*measurer.needs, *measurer.wants} - {measurer.provides}]


def _missing_upstream(measurer: Measurer, upstream: Mapping[str, Outcome]) -> Outcome | None:
    """Return the outcome of a clip that has no value of a feature that the measurer needs."""
    for feature in _features(measurer):
        outcome = upstream.get(feature)
        if outcome is not None and outcome.status != "ok" and feature in measurer.needs:
            return Outcome(outcome.status, f"no {feature}: {outcome.reason}", {})
    return None


def _with_upstream(measurer: Measurer, clip: Clip, upstream: Mapping[str, Outcome]) -> Clip:
    """Return the clip with its upstream features, and without a sidecar's value of the same name."""
    values = {
        feature: upstream[feature].row[feature] if feature in upstream and upstream[feature].row else None
        for feature in _features(measurer)
    }
    if "phones" in values:
        clip = dataclasses.replace(clip, phones=None if values["phones"] is None else tuple(values["phones"]))
    return dataclasses.replace(clip, transcript=values["transcript"]) if "transcript" in values else clip


def _refusal(measurer: Measurer, clip: Clip) -> str:
    """Return why the clip lies outside what the measurer is defined for, or ""."""
    lacking = [need for need in sorted(measurer.needs) if not _has(clip, need)]
    if lacking:
        return f"no {' and no '.join(lacking).replace('_', ' ')}"
    if "audio" in measurer.needs:
        if len(clip.samples) == 0:
            return "no samples"
        if clip.seconds < measurer.min_seconds:
            return f"under {measurer.min_seconds:g} s"
        if not measurer.accepts_silence and is_silent(clip.samples):
            return "silent"
    return ""


def _has(clip: Clip, need: str) -> bool:
    values: Mapping[str, object] = {
        "audio": clip.samples,
        "text": clip.text,
        "phones": clip.phones,
        "speaker": clip.speaker,
        "language": clip.language,
        "transcript": clip.transcript,
        # a paired clip of which only the text was needed has no digest
        "reference_audio": clip.reference.digest or None if clip.reference else None,
        "reference_text": clip.reference.text if clip.reference else None,
        "prompt_seconds": clip.prompt_seconds,
    }
    return values.get(need) is not None


def _rows(measurer: Measurer, clips: list[Clip], sizes: BatchSizes) -> list[Outcome]:
    """Measure a batch; when it raises, half by half if memory is short, else clip by clip: only that clip fails."""
    size = sizes.largest(measurer)
    if len(clips) <= size:
        try:
            rows = list(measurer.measure(clips))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the clip gets the reason
            if len(clips) == 1:
                return [Outcome("failed", describe(error, type(measurer).__module__), {})]
            is_short = is_out_of_memory(error)
        else:
            return _all_checked(measurer, rows, clips)
        # after the handler: the traceback of the error holds the tensors of the batch
        if is_short:
            sizes.halve(measurer, len(clips))
        size = sizes.largest(measurer) if is_short else 1
    parts = (clips[start : start + size] for start in range(0, len(clips), size))
    return [outcome for part in parts for outcome in _rows(measurer, part, sizes)]


def _all_checked(measurer: Measurer, rows: Sequence[Any], clips: Sequence[Clip]) -> list[Outcome]:
    if len(rows) != len(clips):
        reason = f"{measurer.name} gave {len(rows)} rows for {len(clips)} clips"
        return [Outcome("failed", reason, {}) for _ in clips]
    return [_checked(measurer, row) for row in rows]


def _checked(measurer: Measurer, row: Any) -> Outcome:
    if isinstance(row, Skipped):
        return Outcome("skipped", row.reason, {})
    if isinstance(row, Failed):
        return Outcome("failed", row.reason, {})
    if not isinstance(row, Mapping):
        return Outcome("failed", f"{measurer.name} gave a {type(row).__name__} where a row was wanted", {})
    for name, value in row.items():
        if isinstance(value, float | np.floating | np.ndarray) and not np.isfinite(value).all():
            return Outcome("failed", f"{measurer.name} gave a value that is not finite for {name!r}", {})
    if lacking := [column for column in required_columns(measurer) if column not in row]:
        return Outcome("failed", f"{measurer.name} gave a row without {', '.join(lacking)}", {})
    return Outcome("ok", "", dict(row))
