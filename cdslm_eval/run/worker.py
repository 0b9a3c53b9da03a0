"""Worker: runs every wanted measurer on the clips of a task, each decoded once and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.levels import is_silent
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES, Failed, Measurer, Skipped
from cdslm_eval.plugin.failures import describe
from cdslm_eval.run.batch_sizes import BatchSizes, is_out_of_memory
from cdslm_eval.run.decoding import DecodedUnit, Read, Unit, decoded_groups
from cdslm_eval.run.row_checks import required_columns

__all__ = ["DECODING", "Measured", "Started", "Worker"]

DECODING = -1
"""Number of the decoder where a measurer's number is expected."""


@dataclass(frozen=True, slots=True)
class Started:
    """A measurer starts; a time-out after this is charged to it."""

    measurer: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip under one measurer.

    `cacheable` is False where the outcome rests on a failure of the machine (a model that cannot be opened, a failed
    upstream feature): the store does not keep it, and the next run measures it again.
    """

    uid: int
    measurer: int
    outcome: Outcome
    cacheable: bool = True


@dataclass(frozen=True)
class Worker:
    """Opens every measurer once, then measures chunks of clips.

    Attributes:
        measurers: All measurers of the run, upstream ones first; a unit names them by number.
        device: Passed to `open`.
        decoders: Threads that decode the next clips while others are measured; 0 decodes each when it is needed.
        fingerprints: Of the measurers where the run was started (weights, engines); None for one without.
        versions: Of the measurers where the run was started: rows are kept under them.
    """

    measurers: tuple[Measurer, ...]
    device: str
    decoders: int = 0
    fingerprints: tuple[Mapping[str, str] | None, ...] = ()
    versions: tuple[str, ...] = ()

    def problem(self) -> str:
        """Return which measurer cannot work here as it does where the run was started, or "".

        It has another version or other weights, or lacks them.
        """
        for measurer, version in zip(self.measurers, self.versions, strict=False):
            if type(measurer).version != version:
                return f"{measurer.name}: is version {type(measurer).version} there, and {version} here"
        for measurer, expected in zip(self.measurers, self.fingerprints, strict=False):
            if expected is None:
                continue
            if absent := type(measurer).missing():
                return f"{measurer.name}: {absent}"
            try:
                own = dict(measurer.fingerprint())
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                return f"{measurer.name}: {describe(error, type(measurer).__module__)}"
            if own != expected:
                return f"{measurer.name}: has other weights or another engine there"
        return ""

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

            threads = stack.enter_context(ThreadPoolExecutor(self.decoders)) if self.decoders else None
            yield partial(self._measure, ready=ready, sizes=BatchSizes(), threads=threads)

    def _measure(
        self,
        units: Sequence[Unit],
        ready: Callable[[int], str],
        sizes: BatchSizes,
        threads: ThreadPoolExecutor | None,
    ) -> Iterator[Read | Started | Measured]:
        for group in decoded_groups(units, self.measurers, threads):
            decoded: list[DecodedUnit] = []
            yield Started(DECODING)
            for result in group:
                yield from result.reads
                decoded.append(result)
            yield from self._measure_group(decoded, ready, sizes)

    def _measure_group(
        self, decoded: Sequence[DecodedUnit], ready: Callable[[int], str], sizes: BatchSizes
    ) -> Iterator[Read | Started | Measured]:
        clips = {result.unit.uid: result.clip for result in decoded if result.clip is not None}
        unpaired = {result.unit.uid: result.problem for result in decoded if result.problem}
        units = [result.unit for result in decoded]
        chunk = _Chunk(
            clips,
            {result.unit.uid: result.fault for result in decoded},
            {unit.uid: dict(unit.upstream) for unit in units},
        )
        for number in sorted({number for unit in units for number in unit.wanted}):
            measurer = self.measurers[number]
            yield Started(number)
            waiting = [unit.uid for unit in units if number in unit.wanted and unit.uid in clips]
            if reason := ready(number):
                yield from _not_opened(number, measurer, reason, waiting, chunk)
                continue
            if "reference_audio" in measurer.needs:
                for uid in (uid for uid in waiting if uid in unpaired):
                    yield Measured(uid, number, Outcome("failed", unpaired[uid], {}), cacheable=False)
                waiting = [uid for uid in waiting if uid not in unpaired]
            for uid, outcome in _outcomes(measurer, waiting, chunk, sizes):
                cacheable = not chunk.failed_upstream(measurer, uid)
                if measurer.provides:
                    chunk.upstream[uid].setdefault(measurer.provides, outcome)
                yield Measured(uid, number, outcome, cacheable)


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
    # dependents would report "no phones" as a property of the clip, and hide whose model it is
    outcome = Outcome("failed", f"{measurer.name}: {reason}" if measurer.provides else reason, {})
    for uid in uids:
        if measurer.provides:
            chunk.upstream[uid].setdefault(measurer.provides, outcome)
        yield Measured(uid, number, outcome, cacheable=False)


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
