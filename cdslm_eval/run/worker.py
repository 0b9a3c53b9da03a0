"""What happens in a worker: decode each clip once, guard it, and let every wanted metric measure it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip, Decoded, content_digest, is_silent, read_audio
from cdslm_eval.core.clips import Source
from cdslm_eval.core.errors import AudioError, EvalError
from cdslm_eval.core.store import FileFacts, Outcome
from cdslm_eval.plugin.contract import GIVEN, Failed, Measurer, Metric, Skipped

__all__ = ["DECODING", "Begun", "Measured", "Read", "Unit", "Workbench", "read_with_facts"]

DECODING = -1
"""Stands for the decoder where a measurer's number is asked for."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One clip and what is wanted of it.

    Attributes:
        uid: Number of the clip in the run.
        source: The clip.
        wanted: Numbers of the measurers to run.
        given: What others gave ("phones", "transcript") -> its outcome, where that is known already.
    """

    uid: int
    source: Source
    wanted: tuple[int, ...]
    given: Mapping[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Read:
    """A file was decoded: its facts, or why it could not be."""

    uid: int
    path: str
    facts: FileFacts | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A measurer starts; a time-out after this is its own."""

    measurer: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip under one measurer; `lasting` is False for a failure that is the machine's, not the clip's."""

    uid: int
    measurer: int
    outcome: Outcome
    lasting: bool = True


@dataclass(frozen=True)
class Workbench:
    """The worker of a run: opens every measurer once, then measures chunks of clips.

    Attributes:
        measurers: All measurers of the run, those that give something to others before these; a unit names them by
            number.
        device: Handed to `open`.
    """

    measurers: tuple[Measurer, ...]
    device: str

    @contextmanager
    def open(self) -> Iterator[Callable[[Sequence[Unit]], Iterator[Read | Begun | Measured]]]:
        """Open the measurers as they are first needed, and hand out the function that measures a chunk."""
        with ExitStack() as stack:
            opened: dict[int, str] = {}

            def ready(number: int) -> str:
                """Open a measurer when it is first needed; return why it could not be, or nothing."""
                if number not in opened:
                    try:
                        stack.enter_context(self.measurers[number].open(self.device))
                        opened[number] = ""
                    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; its clips are told why
                        opened[number] = describe(error)
                return opened[number]

            yield lambda units: self._measure(units, ready)

    def _measure(self, units: Sequence[Unit], ready: Callable[[int], str]) -> Iterator[Read | Begun | Measured]:
        clips: dict[int, Clip] = {}
        unpaired: dict[int, str] = {}
        for unit in units:
            yield Begun(DECODING)
            try:
                clip, reads, problem = self._decode(unit)
            except AudioError as error:
                yield Read(unit.uid, unit.source.path, None, str(error))
                continue
            yield from reads
            clips[unit.uid] = clip
            if problem:
                unpaired[unit.uid] = problem
        given = {unit.uid: dict(unit.given) for unit in units}
        for number in sorted({number for unit in units for number in unit.wanted}):
            gives = self.measurers[number].gives
            yield Begun(number)
            waiting = [unit for unit in units if number in unit.wanted and unit.uid in clips]
            if reason := ready(number):
                for unit in waiting:
                    yield Measured(unit.uid, number, Outcome("failed", reason, {}), lasting=False)
                continue
            if "reference_audio" in self.measurers[number].needs:
                for unit in waiting:
                    if unit.uid in unpaired:
                        yield Measured(unit.uid, number, Outcome("failed", unpaired[unit.uid], {}), lasting=False)
                waiting = [unit for unit in waiting if unit.uid not in unpaired]
            for unit, outcome in self._outcomes(number, waiting, clips, given):
                if gives:
                    given[unit.uid].setdefault(gives, outcome)
                yield Measured(unit.uid, number, outcome)

    def _decode(self, unit: Unit) -> tuple[Clip, list[Read], str]:
        """Decode a clip (and its reference) as far as what is wanted looks at audio at all.

        A reference that cannot be read is a problem of those alone who need it; it is told in the last value.
        """
        source = unit.source
        needs = {need for number in unit.wanted for need in self.measurers[number].needs}
        wants = {want for number in unit.wanted for want in self.measurers[number].wants}
        reads: list[Read] = []
        samples, rate_hz, digest, problem = np.zeros(0, np.float32), 1, "", ""
        reference = None
        if source.decoded is not None:
            # what lies in memory has no file to vouch for: nothing is read, its digest is known
            samples, rate_hz, digest = source.decoded.samples, source.decoded.rate_hz, source.decoded.digest
        elif "audio" in needs:
            audio, facts = read_with_facts(source.path)
            reads.append(Read(unit.uid, source.path, facts))
            samples, rate_hz, digest = audio.samples, audio.rate_hz, facts.digest
        if "reference_audio" in needs and source.reference is not None:
            try:
                audio, facts = read_with_facts(source.reference)
            except AudioError as error:
                problem = f"its reference {source.reference}: {error}"
            else:
                reads.append(Read(unit.uid, source.reference, facts))
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
            phones=source.phones,
            reference=reference,
        )
        return clip, reads, problem

    def _outcomes(
        self, number: int, units: Sequence[Unit], clips: dict[int, Clip], given: Mapping[int, Mapping[str, Outcome]]
    ) -> Iterator[tuple[Unit, Outcome]]:
        measurer = self.measurers[number]
        admitted: list[tuple[Unit, Clip]] = []
        for unit in units:
            clip = clips[unit.uid]
            if withheld := _withheld(measurer, given[unit.uid]):
                yield unit, withheld
                continue
            clip = _with_given(measurer, clip, given[unit.uid])
            if refused := _refusal(measurer, clip):
                yield unit, Outcome("skipped", refused, {})
            else:
                at_rate = _resampled(clips, unit.uid, clip, measurer.rate_hz)
                admitted.append((unit, at_rate))
        for start in range(0, len(admitted), max(1, measurer.batch_clips)):
            some = admitted[start : start + max(1, measurer.batch_clips)]
            yield from zip((unit for unit, _ in some), _rows(measurer, [clip for _, clip in some]), strict=True)


def _asks(measurer: Measurer) -> list[str]:
    """Return what a measurer is given by others: not what it gives itself, from sidecars for instance."""
    return [name for name in GIVEN if name in {*measurer.needs, *measurer.wants} and name != measurer.gives]


def _withheld(measurer: Measurer, given: Mapping[str, Outcome]) -> Outcome | None:
    """Return what becomes of a clip for which nobody could give what the measurer needs."""
    for name in _asks(measurer):
        outcome = given.get(name)
        if outcome is not None and outcome.status != "ok" and name in measurer.needs:
            return Outcome(outcome.status, f"no {name}: {outcome.reason}", {})
    return None


def _with_given(measurer: Measurer, clip: Clip, given: Mapping[str, Outcome]) -> Clip:
    """Return the clip with what others gave, and without what came beside it under the same name."""
    rows = {name: given[name].row[name] if name in given and given[name].row else None for name in _asks(measurer)}
    if "phones" in rows:
        clip = dataclasses.replace(clip, phones=None if rows["phones"] is None else tuple(rows["phones"]))
    return dataclasses.replace(clip, transcript=rows["transcript"]) if "transcript" in rows else clip


def _resampled(clips: dict[int, Clip], uid: int, clip: Clip, rate_hz: int | None) -> Clip:
    """Return the clip at a rate; a clip is resampled once per rate, however many metrics ask."""
    if rate_hz is None or rate_hz == clip.rate_hz:
        return clip.at_rate(rate_hz)
    # negative keys beside the uid's own hold resampled copies for the length of the task
    place = -(uid * 1_000_000 + rate_hz)
    if place not in clips:
        clips[place] = clip.at_rate(rate_hz)
    kept = clips[place]
    return dataclasses.replace(kept, phones=clip.phones, transcript=clip.transcript)


def read_with_facts(path: str) -> tuple[Decoded, FileFacts]:
    """Decode a file and say what it holds.

    Raises:
        AudioError: It cannot be read.
    """
    try:
        stat = Path(path).stat()
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
    audio = read_audio(path)
    facts = FileFacts(
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        digest=content_digest(audio.samples, audio.rate_hz),
        seconds=len(audio.samples) / audio.rate_hz,
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        encoding=audio.encoding,
        mixdown=audio.mixdown,
    )
    return audio, facts


def _refusal(measurer: Measurer, clip: Clip) -> str:
    """Return why the clip lies outside what the measurer is defined for, or ""."""
    lacking = [need for need in sorted(measurer.needs) if not _has(clip, need)]
    if lacking:
        return f"no {' and no '.join(lacking).replace('_', ' ')}"
    if "audio" in measurer.needs:
        if len(clip.samples) == 0:
            return "no samples"
        if not np.isfinite(clip.samples).all():
            return "samples that are not finite"
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
        "transcript": clip.transcript,
        # a paired clip of which only the text was wanted has no digest
        "reference_audio": clip.reference.digest or None if clip.reference else None,
        "reference_text": clip.reference.text if clip.reference else None,
    }
    return values.get(need) is not None


def _rows(measurer: Measurer, clips: list[Clip]) -> list[Outcome]:
    """Measure a batch; when it breaks, clip by clip, so that only the guilty one fails."""
    try:
        rows = list(measurer.measure(clips))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the clip is told what
        if len(clips) == 1:
            return [Outcome("failed", describe(error), {})]
        return [outcome for clip in clips for outcome in _rows(measurer, [clip])]
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
    wanted = {measurer.gives} if measurer.gives else set()
    if isinstance(measurer, Metric):
        wanted = {column for statistic in measurer.statistics.values() for column in statistic.columns}
    if lacking := sorted(wanted - set(row)):
        return Outcome("failed", f"{measurer.name} gave a row without {', '.join(lacking)}", {})
    return Outcome("ok", "", dict(row))


def describe(error: Exception) -> str:
    """Return an error as a reason: our own ones as they are, others with their type."""
    return str(error) if isinstance(error, EvalError) else f"{type(error).__name__}: {error}".rstrip(": ")
