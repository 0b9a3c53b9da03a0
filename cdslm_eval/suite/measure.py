"""Measures the sets of a suite: what the store lacks, each set and each copy once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.run import Measurement, Progress, Request, Runner
from cdslm_eval.run.channel import ChannelStudy, study_channels
from cdslm_eval.run.recognition_gain import TextRows, measure_texts, phones_of_texts
from cdslm_eval.run.scoring import requests_for
from cdslm_eval.suite.cache import read_copies
from cdslm_eval.suite.plan import Plan
from cdslm_eval.suite.sets import SetKey

__all__ = ["Rows", "RunOptions", "Shard", "measure", "reference_groups"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal parts of every set, `number` from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse "I/N".

        Raises:
            UsageError: It has another form, or I is not in 1..N.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isascii() and of.isascii() and number.isdigit() and of.isdigit()):
            raise UsageError(f"--shard {text!r}: write it as I/N, such as 1/3")
        if not 1 <= int(number) <= int(of):
            raise UsageError(f"--shard {text!r}: the first number lies in 1..{of}")
        return cls(int(number), int(of))

    def part(self, clips: ClipSet) -> ClipSet:
        """Return this shard's clips of a set: every N-th, so that shards cost the same."""
        return ClipSet(clips.name, clips.sources[self.number - 1 :: self.of], clips.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a suite is run this time.

    Attributes:
        store: The file of rows.
        jobs: Worker processes.
        device: Of metrics with a model; "" takes the suite's.
        executor: Where metrics run; None takes the suite's.
        only: Patterns of systems and metrics, as they were typed.
        shard: Measure only this part, and judge nothing.
        against: The recorded run to compare with.
        keep_failures: Trust failures of earlier runs.
        progress: Receives how far the measuring is.
        log: Receives lines of text.
    """

    store: Path
    jobs: int = 1
    device: str = ""
    executor: Executor | None = None
    only: tuple[str, ...] = ()
    shard: Shard | None = None
    against: Path | None = None
    keep_failures: bool = False
    progress: Progress | None = None
    log: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of every set.

    Attributes:
        systems: System -> its rows.
        references: Reference -> its rows, where a metric of the suite reads them.
        fingerprints: (set, metric) -> digest of all that the rows of the set under the metric depend on.
        channels: Reference -> the channels of its systems, where they were measured.
        texts: Reference -> its rows under the phones of its texts, where it has any.
    """

    systems: Mapping[str, Measurement]
    references: Mapping[str, Measurement]
    fingerprints: Mapping[tuple[SetKey, str], str]
    channels: Mapping[str, ChannelStudy] = field(default_factory=dict)
    texts: Mapping[str, TextRows] = field(default_factory=dict)

    def reference(self, name: str | None) -> Measurement | None:
        """Return the rows of a reference, where there are any."""
        return None if name is None else self.references.get(name)

    def fingerprint(self, kind: Literal["references", "systems"], name: str, metric: Metric) -> str:
        """Return the digest of what a set's rows under a metric depend on."""
        return self.fingerprints[(kind, name), metric.name]


def measure(plan: Plan, options: RunOptions, store: Store, sets: Mapping[SetKey, ClipSet]) -> Rows:
    """Measure every set under every metric; what sets share is measured once."""
    spec, metrics, profiler = plan.suite.spec, list(plan.metrics.values()), plan.profiler
    runner = Runner(
        store,
        options.executor or plan.host.make("executor", spec.run.executor),
        plan.recognizer,
        jobs=options.jobs,
        time_limit_s=spec.budget.clip_seconds,
        device=options.device or spec.run.device,
        keep_failures=options.keep_failures,
        transcriber=plan.transcriber,
    )

    def clips(key: SetKey) -> ClipSet:
        whole = ClipSet(key[1], sets[key].sources, sets[key].origin)
        return options.shard.part(whole) if options.shard else whole

    requests: list[Request] = []
    keys: list[SetKey] = []
    for reference, systems in reference_groups(plan).items():
        real = clips(("references", reference)) if reference else None
        group = requests_for([clips(("systems", name)) for name in systems], real, metrics, profiler, real_row=True)
        requests += group
        keys += [("systems", name) for name in systems]
        if reference and len(group) > len(systems):
            keys.append(("references", reference))
    if any("audio" in measurer.needs for measurer in (*metrics, *plan.upstream.values())):
        read_copies(store, runner.executor, [request.clips for request in requests], options.jobs)
    measured = dict(zip(keys, runner.run(requests, options.progress), strict=True))
    channels = {}
    if profiler is not None and options.shard is None:
        for reference, systems in reference_groups(plan).items():
            if reference and (rows := measured.get(("references", reference))) is not None:
                of_systems = [measured["systems", name] for name in systems]
                channels[reference] = study_channels(
                    runner, of_systems, rows, metrics, profiler, seed=spec.seed, progress=options.progress
                )
        # nothing but the study reads profiles: records and keys of results go on without them
        measured = {
            key: rows.narrowed([metric for metric in rows.request.metrics if metric is not profiler])
            for key, rows in measured.items()
        }
    return Rows(
        systems={name: rows for (kind, name), rows in measured.items() if kind == "systems"},
        references={name: rows for (kind, name), rows in measured.items() if kind == "references"},
        fingerprints={
            (key, metric.name): rows.fingerprint(metric)
            for key, rows in measured.items()
            for metric in rows.request.metrics
        },
        channels=channels,
        texts={} if options.shard else _texts(plan, options, runner, measured),
    )


def _texts(
    plan: Plan, options: RunOptions, runner: Runner, measured: Mapping[SetKey, Measurement]
) -> dict[str, TextRows]:
    """Return the rows of every reference under the phones of its texts, of those that have any."""
    metrics, seed = list(plan.metrics.values()), plan.suite.spec.seed
    texts = {}
    for (kind, name), rows in measured.items():
        if kind == "references":
            phones = phones_of_texts(plan.host, metrics, plan.recognizer, rows.request.clips, seed)
            if (own := measure_texts(runner, phones, metrics, options.progress)) is not None:
                texts[name] = own
    return texts


def reference_groups(plan: Plan) -> dict[str | None, list[str]]:
    """Return reference -> the systems that are compared with it."""
    groups: dict[str | None, list[str]] = {}
    for system, reference in plan.references_of.items():
        groups.setdefault(reference, []).append(system)
    return groups
