"""Decodes the clips of a task, one after the other or ahead of what measures them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Clip, Decoded, content_digest, read_audio
from cdslm_eval.core.clips import Source
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.regular import check_regular
from cdslm_eval.core.remote.prefetch import Fetched, Prefetch
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import storage_of
from cdslm_eval.core.store import FileFacts, Outcome
from cdslm_eval.plugin.contract import Measurer

__all__ = ["DecodedUnit", "Read", "Unit", "decode_unit", "decoded_groups", "read_with_facts"]

_GROUP_BYTES = 64 << 20
_UNKNOWN_BYTES = 1 << 20
"""Taken for the size of a clip whose size is not known before it is read: that of half a minute of speech."""
_GROUPS_AHEAD = 1


class Unit(NamedTuple):
    """One clip and what is to be measured of it; a named tuple, because a run may send a million to workers.

    Attributes:
        uid: Number of the clip in the run.
        source: The clip.
        wanted: Numbers of the measurers to run.
        upstream: Upstream feature ("phones", "transcript") -> its outcome, where that is known already.
    """

    uid: int
    source: Source
    wanted: tuple[int, ...]
    upstream: Mapping[str, Outcome] = {}


@dataclass(frozen=True, slots=True)
class Read:
    """A file, or a part of it, was decoded: its facts, or why it could not be."""

    uid: int
    address: Address
    facts: FileFacts | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DecodedUnit:
    """A clip that was decoded, or could not be.

    Attributes:
        unit: What was requested.
        reads: Files that were decoded for it.
        clip: The clip; None where it could not be decoded.
        fault: What is wrong with its samples whatever the metric, or "".
        problem: Why its reference could not be read, or "".
    """

    unit: Unit
    reads: tuple[Read, ...]
    clip: Clip | None = None
    fault: str = ""
    problem: str = ""


def decoded_groups(
    units: Sequence[Unit], measurers: Sequence[Measurer], threads: ThreadPoolExecutor | None
) -> Iterator[Iterator[DecodedUnit]]:
    """Yield the clips of a task in groups, each the largest batch of what measures them, decoded as they are read.

    Args:
        units: The clips.
        measurers: By number.
        threads: Decode the next group while this one is measured; None decodes each clip when it is read.
    """
    # objects of the next groups are read while one is measured
    with Prefetch(address for unit in units for address in _read_by(unit, measurers)) as fetches:
        yield from _decoded_groups(units, measurers, threads, fetches)


def _decoded_groups(
    units: Sequence[Unit], measurers: Sequence[Measurer], threads: ThreadPoolExecutor | None, fetches: Prefetch
) -> Iterator[Iterator[DecodedUnit]]:
    if threads is None:
        for group in _groups(units, measurers):
            yield (decode_unit(unit, measurers, fetches) for unit in group)
        return
    ahead: deque[list[Future[DecodedUnit]]] = deque()
    try:
        for group in _groups(units, measurers):
            ahead.append([threads.submit(decode_unit, unit, measurers, fetches) for unit in group])
            if len(ahead) > _GROUPS_AHEAD:
                yield (future.result() for future in ahead.popleft())
        while ahead:
            yield (future.result() for future in ahead.popleft())
    finally:
        for future in (future for group in ahead for future in group):
            future.cancel()


def _groups(units: Sequence[Unit], measurers: Sequence[Measurer]) -> Iterator[list[Unit]]:
    size = max(measurers[number].batch_clips for unit in units for number in unit.wanted)
    group: list[Unit] = []
    weight = 0
    for unit in units:
        size_bytes = unit.source.bytes
        own = _UNKNOWN_BYTES if size_bytes is None else size_bytes
        if group and (len(group) >= size or weight + own > _GROUP_BYTES):
            yield group
            group, weight = [], 0
        group.append(unit)
        weight += own
    yield group


def _read_by(unit: Unit, measurers: Sequence[Measurer]) -> Iterator[Address]:
    """Yield the addresses that decoding a clip reads, in its order."""
    needs = {need for number in unit.wanted for need in measurers[number].needs}
    if "audio" in needs and unit.source.decoded is None:
        yield unit.source.address
    if "reference_audio" in needs and unit.source.reference is not None:
        yield Address(unit.source.reference)


def decode_unit(unit: Unit, measurers: Sequence[Measurer], fetches: Prefetch) -> DecodedUnit:
    """Decode a clip and its reference, as far as its measurers need them, from what was read ahead where it was."""
    try:
        return _decode(unit, measurers, fetches)
    except AudioError as error:
        reason = str(error)
    except MemoryError:
        reason = "out of memory when decoded; raise --memory-limit, or cut the clip"
    return DecodedUnit(unit, (Read(unit.uid, unit.source.address, None, reason),))


def _decode(unit: Unit, measurers: Sequence[Measurer], fetches: Prefetch) -> DecodedUnit:
    """Decode a clip (and its reference) where a wanted measurer reads audio at all.

    Raises:
        AudioError: It cannot be read. A reference that cannot is a problem of the metrics that need it alone.
    """
    source = unit.source
    needs = {need for number in unit.wanted for need in measurers[number].needs}
    wants = {want for number in unit.wanted for want in measurers[number].wants}
    reads: list[Read] = []
    samples, rate_hz, digest, peak, problem = np.zeros(0, np.float32), 1, "", 0.0, ""
    reference = None
    if source.decoded is not None:
        # what lies in memory has no file to vouch for: nothing is read, its digest is known
        samples, rate_hz, digest = source.decoded.samples, source.decoded.rate_hz, source.decoded.digest
        peak = Levels.of(samples).peak
    elif "audio" in needs:
        audio, facts = read_with_facts(
            source.address, allow_truncated=source.allow_truncated, fetched=fetches.take(source.address)
        )
        reads.append(Read(unit.uid, source.address, facts))
        samples, rate_hz, digest = audio.samples, audio.rate_hz, facts.digest
        peak = math.nan if facts.peak is None else facts.peak
    if "reference_audio" in needs and source.reference is not None:
        paired = Address(source.reference)
        try:
            audio, facts = read_with_facts(paired, allow_truncated=source.allow_truncated, fetched=fetches.take(paired))
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
    clip = source.derived(clip) if len(samples) else clip
    return DecodedUnit(unit, tuple(reads), clip, fault(peak), problem)


def read_with_facts(
    address: Address, *, allow_truncated: bool = False, fetched: Fetched | None = None
) -> tuple[Decoded, FileFacts]:
    """Decode a file, or a part of it, and describe its content.

    Args:
        address: The file.
        allow_truncated: As of `read_audio`.
        fetched: What was read of it ahead.

    Raises:
        AudioError: It cannot be read.
    """
    check_regular(address.path)
    try:
        # from before it is read: where it changes meanwhile, its content is read again next time
        stamp = fetched.stamp if fetched is not None else storage_of(address.path).stamp(address.path)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from error
    except UsageError as error:
        raise AudioError(str(error)) from error
    audio = read_audio(
        address.path,
        allow_truncated=allow_truncated,
        span=address.span,
        packed=address.packed,
        content=None if fetched is None else fetched.content,
    )
    levels = Levels.of(audio.samples, audio.channel_energy)
    finite = math.isfinite(levels.peak)
    facts = FileFacts(
        **stamp._asdict(),
        digest=content_digest(audio.samples, audio.rate_hz),
        seconds=len(audio.samples) / audio.rate_hz,
        rate_hz=audio.rate_hz,
        channels=audio.channels,
        encoding=audio.encoding,
        mixdown=audio.mixdown,
        peak=levels.peak if finite else None,
        dc_offset=levels.dc_offset if finite else None,
        level_dbfs=levels.dbfs if finite else None,
        cancelled=levels.cancelled if finite else None,
        truncated=audio.truncated,
    )
    return audio, facts
