"""Rates: how fast measurers were on this machine, kept per user, and what a run will take by them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import default_store_path
from cdslm_eval.plugin.contract import UPSTREAM_FEATURES
from cdslm_eval.run.clip_states import ClipState, ClipStates
from cdslm_eval.run.lanes import runs_on_device

__all__ = ["CLIP_S", "Rate", "RateBook", "duration_text", "forecast"]

CLIP_S = 10.0
"""Length in seconds of the clips that rates are measured on, and of clips whose length is not known yet."""
_WORTH_SAYING_S = 10.0
_MANY_CLIPS = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one measurer is, one worker on one core or GPU.

    Attributes:
        name: The metric, recognizer or transcriber.
        ident: Identity of its rows.
        device: "cpu" or "cuda".
        clips_per_s: Clips of 10 s a second, upstream features excluded.
        real_time_factor: Seconds of work per second of audio.
        cpu_s_per_clip: Processor seconds per clip, which a busy machine does not move.
        memory_mb: Most memory of its worker process, in MB.
        gpu_memory_mb: Most memory of the GPU that torch took, in MB; None without torch or a GPU.
        start_up_s: Seconds from the start of the worker to its first row, less the row itself.
        clips: Clips that were measured.
        audio: What the clips were.
        measured: Date, as YYYY-MM-DD.
    """

    name: str
    ident: str
    device: str
    clips_per_s: float
    real_time_factor: float
    cpu_s_per_clip: float
    memory_mb: float
    gpu_memory_mb: float | None
    start_up_s: float
    clips: int
    audio: str
    measured: str


class RateBook:
    """The rates of this machine, in one JSON file per user; rates of other machines in it are left alone.

    Args:
        path: The file; by default `rates.json` next to the user's own store.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_store_path().with_name("rates.json")
        self._machine = _machine()

    def rates(self) -> dict[tuple[str, str], Rate]:
        """Return the rates of this machine by identity and device.

        Raises:
            UsageError: The file is no book of rates.
        """
        names = {field.name for field in fields(Rate)}
        try:
            rates = [Rate(**entry) for entry in self._read().get(self._machine, []) if set(entry) == names]
        except (TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        return {(rate.ident, rate.device): rate for rate in rates}

    def add(self, rates: Iterable[Rate]) -> None:
        """Keep rates, in place of earlier ones of the same identity and device.

        Raises:
            UsageError: The file cannot be written, or is no book of rates.
        """
        book, own = self._read(), self.rates()
        own.update({(rate.ident, rate.device): rate for rate in rates})
        book[self._machine] = [asdict(rate) for _, rate in sorted(own.items())]
        half = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            half.write_text(json.dumps(book, indent=1), encoding="utf-8")
            half.replace(self.path)
        except OSError as error:
            raise UsageError(f"{self.path}: measured rates cannot be kept there: {error.strerror}") from error

    def _read(self) -> dict[str, Any]:
        try:
            book = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(error) from error
        if not isinstance(book, dict):
            raise self._damaged("no object")
        return book

    def _damaged(self, why: object) -> UsageError:
        return UsageError(f"{self.path}: not readable as measured rates ({why}); delete it and run cdslm-eval bench")


def forecast(
    rates: Mapping[tuple[str, str], Rate],
    clip_states: ClipStates,
    pending: Sequence[ClipState],
    jobs: int,
    device: str,
    n_devices: int = 0,
) -> str:
    """Return a sentence on how long measuring will take, or why that is not known; "" for a run of seconds.

    Counted are the rates of what is left, upstream features included, shared by the workers; neither decoding nor the
    intervals afterwards.

    Args:
        rates: Measured ones, by identity and device.
        clip_states: What is known of clips.
        pending: The clips with something left to measure.
        jobs: Worker processes.
        device: As requested; "auto" takes the GPU's rate where there is one.
        n_devices: Devices that have a worker each, beside the workers of the CPU; 0 where all workers do everything.
    """
    graph, jobs = clip_states.graph, max(1, min(jobs, len(pending)))
    seconds_of = _lengths(pending)
    work: Counter[int] = Counter()
    clips: Counter[int] = Counter()
    for number, states in _left(clip_states, pending).items():
        clips[number] = len(states)
        work[number] = math.ceil(sum(seconds_of[id(state)] for state in states))
    on_device = {number for number in work if n_devices and runs_on_device(graph.measurers[number])}
    chosen = {
        number: _rate(rates, graph.identities[number].ident, "cpu" if n_devices and number not in on_device else device)
        for number in work
    }
    if unknown := sorted(graph.measurers[number].name for number, rate in chosen.items() if rate is None):
        if len(pending) < _MANY_CLIPS:
            return ""
        why = f"no rate of {', '.join(unknown)} was measured here"
        return f"how long {len(pending)} clips take is not known: {why}; Use: cdslm-eval bench"
    seconds = {number: work[number] * rate.real_time_factor for number, rate in chosen.items() if rate}
    of_devices = sum(seconds[number] for number in on_device)
    total = max(of_devices / max(1, n_devices), (sum(seconds.values()) - of_devices) / jobs)
    total += sum(rate.start_up_s for rate in chosen.values() if rate)
    if total < _WORTH_SAYING_S:
        return ""
    oldest = min(rate.measured for rate in chosen.values() if rate)
    workers = f"{jobs} worker" + "s" * (jobs > 1)
    if n_devices:
        workers += f" and {n_devices} device" + "s" * (n_devices > 1)
    guessed = sum(1 for state in pending if state.facts is None and state.source.decoded is None)
    counted = f"; {guessed} clips of unknown length count as {CLIP_S:g} s" if guessed else ""
    return (
        f"measuring {len(pending)} clips takes about {duration_text(total)} on {workers}, by rates of {oldest}{counted}"
    )


def duration_text(seconds: float) -> str:
    """Return a duration in one unit that a person would use.

    Example:
        >>> duration_text(42), duration_text(200), duration_text(9000)
        ('42 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _lengths(states: Iterable[ClipState]) -> dict[int, float]:
    """Return the seconds of each clip, by its state's id."""
    lengths = {}
    for state in states:
        if state.facts is not None:
            lengths[id(state)] = state.facts.seconds
        else:
            clip = state.source.decoded
            lengths[id(state)] = CLIP_S if clip is None else clip.seconds
    return lengths


def _left(clip_states: ClipStates, pending: Sequence[ClipState]) -> dict[int, list[ClipState]]:
    """Return the clips that each measurer has still to run on, providers of upstream features included."""
    graph = clip_states.graph
    left: dict[int, list[ClipState]] = {}
    for state in pending:
        for number in state.left:
            left.setdefault(number, []).append(state)
    for feature in reversed(UPSTREAM_FEATURES):
        readers = [number for number in left if feature in graph.depends_on[number]]
        if not readers:
            continue
        provider = graph.number(graph.providers[feature])
        states = {id(state): state for number in readers for state in left[number]}
        keys = {ident: clip_states.subject(state, provider) for ident, state in states.items()}
        known = clip_states.store.statuses(graph.identities[provider].ident, {key for key in keys.values() if key})
        running = {id(state) for state in left.get(provider, [])}
        unknown = [s for ident, s in states.items() if ident not in running and (keys[ident] or "") not in known]
        if unknown:
            left.setdefault(provider, []).extend(unknown)
    return left


def _rate(rates: Mapping[tuple[str, str], Rate], ident: str, device: str) -> Rate | None:
    kinds = ("cuda", "cpu") if device == "auto" else (device.partition(":")[0],)
    return next((rates[ident, kind] for kind in kinds if (ident, kind) in rates), None)


def _machine() -> str:
    """Return a digest of what decides speed: a folder of settings may be shared by several machines."""
    facts = [platform.node(), platform.machine(), str(os.cpu_count()), platform.python_version()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
