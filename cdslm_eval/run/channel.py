"""Measures the channels of a run: profiles of its sets, and the reference put through each system's channel."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdslm_eval.core.channel import RATE_HZ, Channel, ChannelProfile, pooled
from cdslm_eval.core.channel_match import match_channel
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.derivation import Derivation
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.sources import Source, decode
from cdslm_eval.plugin.contract import Metric, Recognizer
from cdslm_eval.plugin.host import Host
from cdslm_eval.results.channel import ChannelReport, SetChannel
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.run.runner import Measurement, Request, Runner

__all__ = ["ChannelStudy", "ProbeRows", "inaudible", "profiler_for", "sees_channel", "study_channels"]

THROUGH_S, PROBE_S = 900.0, 300.0
"""Audio of the reference that is put through each system's channel, and of that what is played backwards or degraded
to probe the recognizer, in seconds."""
CHEAP = 0.01
"""Real-time factor of a recognizer up to which channels are measured by default (ours): phone-ctc takes about 3 s
of two cores for each system, pocketsphinx half a minute."""
_MATCH_CLIPS = 12
_VERSION = 2
_DEGRADATIONS = {"white noise at 20 dB SNR": Channel.noise(20.0), "an 8 kHz sampling rate": Channel.band(4000.0)}


@dataclass(frozen=True, slots=True)
class ProbeRows:
    """The rows of the reference put through one system's channel."""

    through: Measurement
    backwards: Measurement
    backwards_through: Measurement


@dataclass(frozen=True, slots=True)
class ChannelStudy:
    """The channels of the sets of one reference, and the rows of the derived sets.

    Attributes:
        report: Profiles, for readers.
        probes: System -> the reference through its channel; a system whose channel is not known has none.
        degraded: Degradation -> rows of the degraded reference.
    """

    report: ChannelReport
    probes: Mapping[str, ProbeRows]
    degraded: Mapping[str, Measurement]

    @property
    def key(self) -> str:
        """A digest of what was derived, for keys of results that rest on it."""
        return hashlib.sha256(repr(self.report).encode()).hexdigest()


def sees_channel(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return the metrics with a value that a channel moves as language does."""
    return tuple(metric for metric in metrics if any(s.sees_channel for s in metric.statistics.values()))


def profiler_for(host: Host, metrics: Sequence[Metric], recognizer: Recognizer, wanted: bool | None) -> Metric | None:
    """Return the metric that profiles channels, where the channel is to be measured next to the metrics of a run.

    Args:
        host: Makes it.
        metrics: The metrics of the run.
        recognizer: Provides their phones.
        wanted: True or False decides; None is True for a recognizer that declares a real-time factor of at most .01.

    Raises:
        UsageError: It is wanted, and the recognizer does not read audio.
    """
    if wanted is False or not sees_channel(metrics):
        return None
    if "audio" not in recognizer.needs:
        if wanted:
            raise UsageError(f"{recognizer.name} does not read audio, so that no channel moves its phones")
        return None
    cost = recognizer.real_time_factor
    if wanted is None and (cost is None or cost > CHEAP):
        return None
    profiler: Metric = host.make("metric", "channel")
    return profiler


def study_channels(
    runner: Runner,
    systems: Sequence[Measurement],
    real: Measurement,
    metrics: Sequence[Metric],
    profiler: Metric,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> ChannelStudy:
    """Measure the reference through the channel of every system.

    Args:
        runner: Measures the derived sets; rows that the store holds are not measured again.
        systems: The systems, measured under the profiler too.
        real: The reference, measured under the profiler too.
        metrics: The metrics of the run.
        profiler: The metric whose rows are channel profiles.
        seed: Chooses the clips of the reference.
        progress: Called with (clips done, clips to do).
    """
    drawn, seconds = _drawn(real, profiler, seed)
    sources = real.request.clips.sources
    through = [sources[clip] for clip, start in drawn if start < THROUGH_S]
    probe = through[: sum(start < PROBE_S for _, start in drawn)]
    tried = {real.digests()[clip] or "": sources[clip] for clip, _ in drawn[:_MATCH_CLIPS]}
    derivations: dict[str, Derivation] = {}
    for system in systems:
        profiles = _profiles(system, profiler)
        if profiles and through:
            channel = _matched(runner, pooled(list(profiles.values())), tried)
            derivations[system.request.clips.name] = Derivation(channel)
    seeing = sees_channel(metrics)

    def request(name: str, sources: Sequence[Source], derivation: Derivation) -> Request:
        return Request(ClipSet(name, (s._replace(derivation=derivation) for s in sources)), seeing)

    neutral = Channel.neutral()
    requests = [request("backwards", probe, Derivation(neutral, backwards=True))]
    requests += [request(name, probe, Derivation(channel)) for name, channel in _DEGRADATIONS.items()]
    for name, derivation in derivations.items():
        requests.append(request(f"through {name}", through, derivation))
        requests.append(request(f"backwards {name}", probe, dataclasses.replace(derivation, backwards=True)))
    backwards, *measured = runner.run(requests, progress)
    degraded = dict(zip(_DEGRADATIONS, measured, strict=False))
    pairs = measured[len(_DEGRADATIONS) :]
    probes = {
        name: ProbeRows(pairs[2 * number], backwards, pairs[2 * number + 1]) for number, name in enumerate(derivations)
    }
    sets = [_set_channel(measurement, profiler, derivations) for measurement in (real, *systems)]
    report = ChannelReport(sets=tuple(sets), clips=len(through), seconds=round(min(seconds, THROUGH_S), 3))
    return ChannelStudy(report, probes, degraded)


def _profiles(measurement: Measurement, profiler: Metric) -> dict[int, ChannelProfile]:
    """Return the profile of each clip that has one, by its number in the set."""
    outcomes = enumerate(measurement.outcomes(profiler))
    return {clip: ChannelProfile.from_row(outcome.row) for clip, outcome in outcomes if outcome.status == "ok"}


def _drawn(real: Measurement, profiler: Metric, seed: int) -> tuple[list[tuple[int, float]], float]:
    """Return numbers of the reference's clips in a random order, with the seconds before each, and the seconds of all.

    The order is that of their digests under the seed: it does not depend on names and order of the files.
    """
    sources, digests = real.request.clips.sources, real.digests()
    lengths = {
        clip: float(outcome.row["seconds"])
        for clip, outcome in enumerate(real.outcomes(profiler))
        if outcome.status == "ok"
    }
    order = sorted(lengths, key=lambda clip: (digests[clip] or "", sources[clip].key))
    shuffled = [order[index] for index in np.random.default_rng([seed, 0x6472]).permutation(len(order))]
    drawn, seconds = [], 0.0
    for clip in shuffled:
        drawn.append((clip, seconds))
        seconds += lengths[clip]
    return drawn, seconds


def _matched(runner: Runner, target: ChannelProfile, sources: Mapping[str, Source]) -> Channel:
    """Return the channel that gives clips (by their digests) a profile, from the store where it was matched before."""
    row = json.dumps([_VERSION, target.as_row(), list(sources)])
    key = f"channel:{hashlib.sha256(row.encode('utf-8', 'surrogatepass')).hexdigest()}"
    if (text := runner.store.recall(key)) is not None:
        return Channel(**{name: _array(value) for name, value in json.loads(text).items()})
    clips = []
    for source in sources.values():
        try:
            clips.append(decode(source).at_rate(RATE_HZ).samples)
        except AudioError:
            continue  # it was readable a moment ago; the others will do
    channel = match_channel(target, clips)
    fields = {field.name: getattr(channel, field.name) for field in dataclasses.fields(channel)}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
    runner.store.remember(key, json.dumps(plain))
    return channel


def _array(value: Any) -> Any:
    return np.asarray(value, np.float64) if isinstance(value, list) else value


def _set_channel(measurement: Measurement, profiler: Metric, derivations: Mapping[str, Derivation]) -> SetChannel:
    name = measurement.request.clips.name
    profiles = _profiles(measurement, profiler)
    if not profiles:
        return SetChannel(name=name)
    profile = pooled(list(profiles.values()))
    phones, speech_s = 0, 0.0
    confidences: list[float] = []
    for clip, row in _recognized(measurement):
        if clip in profiles:
            phones += len(row["phones"])
            speech_s += profiles[clip].speech_s
        if row.get("confidence") is not None:
            confidences.append(float(row["confidence"]))
    return SetChannel(
        name=name,
        bandwidth_hz=profile.bandwidth_hz,
        snr_db=profile.snr_db,
        decay_db_s=profile.decay_db_s,
        level_dbfs=profile.level_dbfs,
        phones_per_s=phones / speech_s if speech_s else math.nan,
        confidence=float(np.mean(confidences)) if confidences else math.nan,
        derivation=derivations[name].ident if name in derivations else "",
    )


def _recognized(measurement: Measurement) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the recognizer's row of each clip that has one."""
    for clip, outcome in enumerate(measurement.upstream("phones")):
        if outcome.status == "ok":
            yield clip, outcome.row


def inaudible(estimates: Sequence[Estimate]) -> Iterator[str]:
    """Yield a sentence for a system whose audio hides what the recognizer separates, by its clearest value.

    Args:
        estimates: Of one system under one statistic.
    """
    clear = [(e.acoustics.audible_clean_low, e) for e in estimates if e.acoustics and e.acoustics.audible_clean_low > 0]
    if not clear:
        return
    estimate = max(clear, key=lambda pair: pair[0])[1]
    own = estimate.acoustics
    if own is not None and own.inaudible:
        yield (
            f"{estimate.system}: the recognizer cannot tell languages apart in this audio: in its channel, real speech "
            f"backwards is {max(0.0, own.audible):.3f} {estimate.unit} from real speech ({estimate.name}); without it, "
            f"{own.audible_clean:.3f}"
        )
