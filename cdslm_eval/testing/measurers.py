"""What every metric, recognizer and transcriber must keep, each demand a check of its own."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet, Source
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.plugin.contract import Failed, Measurer, Metric, Recognizer, Skipped, Transcriber
from cdslm_eval.plugin.identity import identify
from cdslm_eval.run.decoding import Unit
from cdslm_eval.run.worker import Measured, Worker
from cdslm_eval.testing.check import (
    Bound,
    Check,
    Subject,
    bind,
    children,
    demand,
    in_time,
    no_heavy_import,
    stdout_of,
)
from cdslm_eval.testing.clips import empty, odd, silent, spoken, written
from cdslm_eval.testing.recognition import CHANNEL_CHECKS, PHONE_CHECK
from cdslm_eval.testing.rows import demand_close, demand_columns, demand_finite

__all__ = [
    "METRIC_CHECKS",
    "RECOGNIZER_CHECKS",
    "TRANSCRIBER_CHECKS",
    "check_metric",
    "check_recognizer",
    "check_transcriber",
]

_HANG_S = 60.0


def _declares(measurer: Measurer) -> None:
    from cdslm_eval.plugin.admission import CLIP_PARTS, KINDS, complaint

    kind = next(kind for kind in ("recognizer", "transcriber", "metric") if isinstance(measurer, KINDS[kind][1]))
    problem = complaint(type(measurer), kind, KINDS[kind][1])
    demand(not problem, f"{type(measurer).__name__}: {problem}")
    demand(
        bool((type(measurer).__doc__ or "").strip()),
        f"{measurer.name} has no docstring; `metrics` shows its first line",
    )
    unknown = (set(measurer.needs) | set(measurer.wants)) - set(CLIP_PARTS)
    demand(not unknown, f"needs and wants may name {', '.join(sorted(CLIP_PARTS))}, not {sorted(unknown)}")
    demand(measurer.rate_hz is None or measurer.rate_hz > 0, f"rate_hz is {measurer.rate_hz!r}")


def _identity(measurer: Measurer) -> None:
    first, second = identify(measurer).parts, identify(measurer).parts
    demand(first == second, f"its identity changes from one call to the next: {first} then {second}")
    facts = measurer.fingerprint()
    for name, value in measurer.options.model_dump(mode="json").items():
        path = isinstance(value, str) and "/" in value and Path(value).exists()
        demand(
            not path,
            f"option {name!r} puts the path {value} into the identity, so that the same files elsewhere are another "
            "metric; declare it with cdslm_eval.plugin.contract.located, and give the files' digests in fingerprint()",
        )
    strings = all(isinstance(name, str) and isinstance(fact, str) for name, fact in facts.items())
    demand(strings, f"fingerprint() must map strings to strings, not {dict(facts)!r}")


def _pickles(measurer: Measurer) -> None:
    again = pickle.loads(pickle.dumps(measurer))  # noqa: S301 - our own bytes
    demand(again.options == measurer.options, "its options are not the same after pickling; workers get a pickled copy")


def _speech(measurer: Measurer) -> None:
    outcomes = _outcomes(measurer, spoken())
    scored = [outcome for outcome in outcomes if outcome.status == "ok"]
    reasons = [
        f"{clip.key}: {outcome.status}: {outcome.reason}" for clip, outcome in zip(spoken(), outcomes, strict=True)
    ]
    demand(bool(scored), f"no spoken sentence could be measured: {reasons}")
    demand(all(outcome.status != "failed" for outcome in outcomes), f"a spoken sentence failed: {reasons}")
    for one in scored:
        demand_columns(measurer, one.row)


def _silence(measurer: Measurer) -> None:
    _speaks_up(measurer, [silent()], "digital silence")


def _empty(measurer: Measurer) -> None:
    _speaks_up(measurer, [empty()], "a clip without a sample")


def _odd(measurer: Measurer) -> None:
    for clip in odd():
        _speaks_up(measurer, [clip], clip.key)


def _speaks_up(measurer: Measurer, clips: Sequence[Clip], what: str) -> None:
    """Demand that a clip ends in time in a finite row, `Skipped`, `Failed` or an exception, when measured directly."""

    def measure() -> list[Any]:
        try:
            with measurer.open("cpu"):
                return list(measurer.measure([clip.at_rate(measurer.rate_hz) for clip in clips]))
        except Exception as error:  # noqa: BLE001 - an exception is an answer: the host charges it to the clip
            return [Failed(str(error))]

    rows = in_time(measure, _HANG_S, f"measuring {what}")
    demand(len(rows) == len(clips), f"{what}: {len(rows)} rows for {len(clips)} clips")
    for row in rows:
        demand_finite(row, what)


def _one(measurer: Measurer) -> None:
    alone = _outcomes(measurer, spoken()[1:2])
    demand(len(alone) == 1, f"one clip gave {len(alone)} outcomes")
    demand(alone[0].status != "failed", f"a clip alone failed: {alone[0].reason}")


def _order(measurer: Measurer) -> None:
    forth = _outcomes(measurer, spoken())
    back = _outcomes(measurer, spoken()[::-1])[::-1]
    demand_close(forth, back, "measured in reverse order")


def _batch(measurer: Measurer) -> None:
    with measurer.open("cpu"):
        clips = _admitted(measurer)
        together = list(measurer.measure(clips))
        alone = [row for clip in clips for row in measurer.measure([clip])]
    demand_close([_outcome(row) for row in together], [_outcome(row) for row in alone], "measured one by one")


def _again(measurer: Measurer) -> None:
    demand_close(_outcomes(measurer, spoken()), _outcomes(measurer, spoken()), "measured again", relative=1e-6)


def _hands_off(measurer: Measurer) -> None:
    clips = _admitted(measurer)
    before = [clip.samples.tobytes() for clip in clips]
    with measurer.open("cpu"):
        list(measurer.measure(clips))
    same = [clip.samples.tobytes() for clip in clips] == before
    demand(same, "it changes the samples of a clip; other metrics get the same array")


def _prints_nothing(measurer: Measurer) -> None:
    def measure() -> None:
        with measurer.open("cpu"):
            list(measurer.measure(_admitted(measurer)))

    text = stdout_of(measure)
    demand(not text, f"it writes to standard output, which belongs to the results of the command: {text[:80]!r}")


def _beside_others(measurer: Measurer) -> None:
    from cdslm_eval.builtin.metrics.signal import Signal

    other = Signal()
    alone = _measured([other], spoken())[0]
    beside = _measured([measurer, other], spoken())[1]
    demand_close(alone, beside, f"{other.name} measured beside {measurer.name}", relative=0.0)


def _kept(measurer: Measurer) -> None:
    outcomes = [outcome for outcome in _outcomes(measurer, spoken()) if outcome.status == "ok"]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.cdslm") as store:
        ident = identify(measurer).ident
        with store.writing():
            store.put_identity(ident, identify(measurer).parts)
            for number, outcome in enumerate(outcomes):
                store.put_row(ident, str(number), outcome)
        back = [outcome for outcome in store.outcomes(ident, map(str, range(len(outcomes)))) if outcome is not None]
    demand_close(outcomes, back, "read back from the store", relative=1e-6)


def _time_limit(measurer: Measurer) -> None:
    """Run the measurer in a real worker under a limit that nothing can keep."""
    from cdslm_eval.run import Request, Runner
    from cdslm_eval.run.executors.local import LocalExecutor

    before = children()
    reader: Any = measurer if isinstance(measurer, Metric) else _READERS[measurer.provides]()
    with tempfile.TemporaryDirectory() as folder:
        clips = ClipSet("clips", written(spoken()[:2], Path(folder)))
        with Store(Path(folder) / "store.cdslm") as store:
            recognizer = measurer if isinstance(measurer, Recognizer) else _sidecar()
            transcriber = measurer if isinstance(measurer, Transcriber) else None
            runner = Runner(store, LocalExecutor(), recognizer, time_limit_s=1e-9, transcriber=transcriber)
            (measurement,) = runner.run([Request(clips, (reader,))])
            outcomes = list(measurement.outcomes(reader))
    demand(len(outcomes) == 2, f"{len(outcomes)} outcomes for 2 clips under a time limit")
    demand(
        all(outcome.status != "ok" or outcome.row for outcome in outcomes),
        "a clip that ran out of time has an empty row",
    )
    demand(children() <= before, "a worker process is left behind")


class _Reads(Metric):
    """Reads an upstream feature, so that a run opens its provider."""

    name = "reads"
    statistics = {}  # noqa: RUF012 - declared by the contract as a ClassVar

    def measure(self, clips: Sequence[Clip]) -> Iterator[dict[str, int]]:
        """Yield how many phones or characters there are."""
        for clip in clips:
            yield {"length": len(clip.transcript or clip.phones or ())}


class _ReadsPhones(_Reads):
    needs = frozenset({"phones"})


class _ReadsTranscript(_Reads):
    needs = frozenset({"transcript"})


_READERS = {"phones": _ReadsPhones, "transcript": _ReadsTranscript}


def _sidecar() -> Recognizer:
    from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer

    return SidecarRecognizer()


def _statistics(metric: Metric) -> None:
    from cdslm_eval.stats.sample import gather
    from cdslm_eval.stats.statistic import Context

    outcomes = _outcomes(metric, spoken())
    names = [own for name, statistic in metric.statistics.items() for own in statistic.names(name)]
    demand(len(set(names)) == len(names), f"two statistics give values of one name: {names}")
    sample = gather(outcomes, range(len(outcomes)))
    for name, statistic in metric.statistics.items():
        if statistic.needs_reference or not sample.complete(statistic.columns).any():
            continue
        estimates = statistic.estimate(sample, None, Context(name=name, metric=metric.name)).estimates
        estimated = tuple(estimate.name for estimate in estimates)
        demand(estimated == statistic.names(name), f"{name} estimates {estimated}, not {statistic.names(name)}")
        for estimate in estimates:
            demand(bool(np.isfinite(estimate.value)), f"{estimate.name} of five spoken sentences is {estimate.value}")


def _words(transcriber: Transcriber) -> None:
    for outcome in _outcomes(transcriber, spoken()):
        text = outcome.row.get("transcript") if outcome.status == "ok" else ""
        demand(isinstance(text, str), f"a transcript is text, not {text!r}")


def _admitted(measurer: Measurer) -> list[Clip]:
    """Return the spoken clips as the host would hand them over."""
    return [clip.at_rate(measurer.rate_hz) for clip in spoken() if clip.seconds >= max(measurer.min_seconds, 1e-9)]


def _outcomes(measurer: Measurer, clips: Sequence[Clip]) -> list[Outcome]:
    return _measured([measurer], clips)[0]


def _measured(measurers: Sequence[Measurer], clips: Sequence[Clip]) -> list[list[Outcome]]:
    """Return the outcome of each clip under each measurer, decoded and guarded as in a worker of a run."""
    with tempfile.TemporaryDirectory() as folder, _bench(measurers) as work:
        sources = written(tuple(clips), Path(folder))
        units = [
            Unit(uid, source, tuple(range(len(measurers))), _perfect_upstream(source))
            for uid, source in enumerate(sources)
        ]
        found = {(one.measurer, one.uid): one.outcome for one in work(units) if isinstance(one, Measured)}
    return [[found[number, uid] for uid in range(len(clips))] for number in range(len(measurers))]


@contextmanager
def _bench(measurers: Sequence[Measurer]) -> Iterator[Any]:
    with Worker(tuple(measurers), "cpu").open() as work:
        yield work


def _perfect_upstream(source: Source) -> dict[str, Outcome]:
    """Return what a recognizer and a transcriber that make no mistake give."""
    return {
        "phones": Outcome("ok", "", {"phones": list(source.phones or ())}),
        "transcript": Outcome("ok", "", {"transcript": source.text or ""}),
    }


def _outcome(row: Any) -> Outcome:
    if isinstance(row, Skipped | Failed):
        return Outcome("skipped" if isinstance(row, Skipped) else "failed", row.reason, {})
    return Outcome("ok", "", dict(row))


_BOTH = (
    Check("declares itself", _declares),
    Check("identity is stable", _identity),
    Check("pickles", _pickles),
    Check("its hook imports no model library", no_heavy_import),
    Check("measures speech, with its declared columns", _speech),
    Check("silence", _silence),
    Check("empty clip", _empty),
    Check("odd clips give no NaN and do not hang", _odd),
    Check("one item", _one),
    Check("order does not matter", _order),
    Check("a batch equals one by one", _batch),
    Check("same clips, same numbers", _again),
    Check("leaves samples alone", _hands_off),
    Check("changes no other metric", _beside_others),
    Check("writes nothing to standard output", _prints_nothing),
    Check("rows survive the store", _kept),
    Check("times out cleanly", _time_limit),
)
METRIC_CHECKS = (*_BOTH, Check("statistics are numbers", _statistics))
RECOGNIZER_CHECKS = (*_BOTH, PHONE_CHECK, *CHANNEL_CHECKS)
TRANSCRIBER_CHECKS = (*_BOTH, Check("transcripts are text", _words))


def check_metric(metric: Subject) -> list[Bound]:
    """Return the checks that every metric must pass, each ready to be called.

    Args:
        metric: The metric's class, an instance, or a function without arguments that returns one.
    """
    return bind(METRIC_CHECKS, metric)


def check_recognizer(recognizer: Subject) -> list[Bound]:
    """Return the checks that every recognizer must pass, each ready to be called."""
    return bind(RECOGNIZER_CHECKS, recognizer)


def check_transcriber(transcriber: Subject) -> list[Bound]:
    """Return the checks that every transcriber must pass, each ready to be called."""
    return bind(TRANSCRIBER_CHECKS, transcriber)
