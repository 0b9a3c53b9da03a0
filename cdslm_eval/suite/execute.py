"""Runs a planned suite: generates, measures what the store lacks, summarises, judges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.provenance import host_facts, versions
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.score_result import ScoreResult
from cdslm_eval.results.suite_result import Judgement, SuiteResult
from cdslm_eval.run import Measurement, Progress, Runner
from cdslm_eval.run.comparison import differences
from cdslm_eval.run.samples import sample_of
from cdslm_eval.run.scoring import REFERENCE, over_budget, requests_for, set_digest, summarise
from cdslm_eval.stats.sample import Sample
from cdslm_eval.suite.against import changes, comparable, refuse_other_identities
from cdslm_eval.suite.contents import learn_contents
from cdslm_eval.suite.judge import judge, measured_difference, measured_value
from cdslm_eval.suite.keep import kept_differences, kept_scores, key_of
from cdslm_eval.suite.plan import Plan
from cdslm_eval.suite.record import Record, history, put_roster, records_folder

__all__ = ["Shard", "Wish", "run_suite"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `of` equal parts of every set, `number` from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "I/N".

        Raises:
            UsageError: It is not that, or I is not in 1..N.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isascii() and of.isascii() and number.isdigit() and of.isdigit()):
            raise UsageError(f"--shard {text!r}: write it as I/N, such as 1/3")
        if not 1 <= int(number) <= int(of):
            raise UsageError(f"--shard {text!r}: the first number lies in 1..{of}")
        return cls(int(number), int(of))

    def part(self, clips: ClipSet) -> ClipSet:
        """Return this shard's clips of a set: every N-th, so that parts cost the same."""
        return ClipSet(clips.name, clips.sources[self.number - 1 :: self.of], clips.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a suite is to be run this time.

    Attributes:
        store: Where rows are kept.
        jobs: Worker processes.
        device: "" takes the suite's.
        only: Patterns of systems and metrics, as they were given.
        shard: Measure only this part, and judge nothing.
        against: The recorded run to compare with.
        keep_failures: Trust failures of earlier runs.
        progress: Told how far the measuring is.
        say: Told what happens.
    """

    store: Path
    jobs: int = 1
    device: str = ""
    only: tuple[str, ...] = ()
    shard: Shard | None = None
    against: Path | None = None
    keep_failures: bool = False
    progress: Progress | None = None
    say: Callable[[str], None] = lambda _: None


def run_suite(plan: Plan, wish: Wish) -> SuiteResult:
    """Run a suite.

    Everything that was measured is in the store when this returns or raises, KeyboardInterrupt included; the same call
    goes on from there.

    Returns:
        The result; of a shard, one without estimates or judgements.

    Raises:
        UsageError: A set cannot be opened, a generator fails, or the recorded run measured something else.
    """
    with ExitStack() as stack:
        record = None
        if wish.against is not None:
            record = Record.of(stack.enter_context(Store(wish.against, read_only=True)))
            refuse_other_identities(plan, record)
        plan.open_sets(wish.store.with_suffix(".clips"), wish.say)
        run = _SuiteRun(plan, wish, stack.enter_context(Store(wish.store)), record)
        run.measure()
        return run.part_done() if wish.shard else run.finish()


class _SuiteRun:
    """One run under way: the rows of every set, and what is made of them."""

    def __init__(self, plan: Plan, wish: Wish, store: Store, record: Record | None) -> None:
        spec = plan.suite.spec
        self.plan, self.wish, self.store, self.record = plan, wish, store, record
        self.metrics = list(plan.metrics.values())
        self.runner = Runner(
            store,
            plan.host.make("executor", spec.run.executor),
            plan.recognizer,
            jobs=wish.jobs,
            time_limit_s=spec.budget.clip_seconds,
            device=wish.device or spec.run.device,
            keep_failures=wish.keep_failures,
            transcriber=plan.transcriber,
        )
        self.groups: dict[str | None, list[str]] = {}
        for system, reference in plan.references_of.items():
            self.groups.setdefault(reference, []).append(system)
        self.systems: dict[str, Measurement] = {}
        self.references: dict[str, Measurement] = {}
        self._sides: dict[tuple[str, str], Sample] = {}
        self._marks: dict[tuple[int, str], str] = {}

    def _set(self, room: str, name: str) -> ClipSet:
        whole = self.plan.opened[room, name]
        clips = ClipSet(name, whole.sources, whole.origin)
        return self.wish.shard.part(clips) if self.wish.shard else clips

    def measure(self) -> None:
        """Measure every set under every metric; what sets share is measured once."""
        requests, owners = [], []
        for reference, systems in self.groups.items():
            real = self._set("references", reference) if reference else None
            asked = requests_for([self._set("systems", one) for one in systems], real, self.metrics)
            requests += asked
            owners += [(self.systems, one) for one in systems]
            if reference and len(asked) > len(systems):
                owners.append((self.references, reference))
        if any("audio" in one.needs for one in (*self.metrics, *self.plan.givers.values())):
            sets = [one.clips for one in requests]
            learn_contents(self.store, self.runner.executor, sets, self.wish.jobs)
        for (book, name), one in zip(owners, self.runner.run(requests, self.wish.progress), strict=True):
            book[name] = one

    def part_done(self) -> SuiteResult:
        """Note that this shard was measured."""
        assert self.wish.shard is not None  # `run_suite` asks
        shard = {"number": self.wish.shard.number, "of": self.wish.shard.of}
        settings = {"suite": self._suite_settings(), "shard": shard}
        self.store.put_run(settings, [])
        return SuiteResult(
            name=self.plan.suite.spec.name,
            scores=ScoreResult(estimates=(), settings=settings),
            cells=tuple(self.plan.cells),
        )

    def finish(self) -> SuiteResult:
        """Summarise, compare, judge, and keep the run."""
        plan, spec = self.plan, self.plan.suite.spec
        by_group = {name: self._summary(name, systems) for name, systems in self.groups.items()}
        settings = self._settings()
        against = self._against(settings["sets"]) if self.record else {}
        scores = _together(list(by_group.values()), plan.systems, settings)
        same = {name: self._same_audio(name, settings["sets"]) for name in against}
        judgements = self._judgements(scores, against)
        blocked = {(one.system, one.metric) for one in plan.cells if one.why_not}
        asked = [one for one in scores.estimates if (one.system, one.metric) not in blocked]
        self.store.put_run(settings, [one.as_json() for one in scores.estimates])
        return SuiteResult(
            name=spec.name,
            scores=scores,
            judgements=judgements,
            cells=tuple(plan.cells),
            changes=changes(against, same),
            over_budget=tuple(
                over_budget(
                    dataclasses.replace(scores, estimates=tuple(asked)), spec.budget.failures, strict=spec.budget.strict
                )
            ),
            past=tuple(history(records_folder(self.wish.store), spec.name)),
        )

    def _mark(self, one: Measurement, metric: Metric) -> str:
        """Return what the rows of a set under a metric depend on; asked once per run."""
        key = id(one), metric.name
        if key not in self._marks:
            self._marks[key] = one.fingerprint(metric)
        return self._marks[key]

    def _summary(self, reference: str | None, systems: list[str]) -> ScoreResult:
        measured = [self.systems[one] for one in systems]
        real = self.references.get(reference) if reference else None
        marks = [
            (name, [self._mark(one, m) for m in self.metrics]) for name, one in zip(systems, measured, strict=True)
        ]
        beside = [self._mark(real, m) for m in real.request.metrics] if real else []
        key = key_of(
            "scores", self.plan.suite.spec.seed, reference, marks, beside, [repr(m.statistics) for m in self.metrics]
        )
        clips = real.request.clips if real else None
        seed = self.plan.suite.spec.seed
        return kept_scores(self.store, key, lambda: summarise(measured, real, self.metrics, reference=clips, seed=seed))

    def _side(self, system: str, metric: Metric) -> Sample:
        if (system, metric.name) not in self._sides:
            self._sides[system, metric.name] = sample_of(self.systems[system], metric)
        return self._sides[system, metric.name]

    def _difference(
        self, system: str, metric: Metric, other: str, mark: object, side: Callable[[], Sample]
    ) -> list[Difference]:
        """Return a system minus something else under a metric."""
        reference = self.plan.references_of[system]
        real = self.references.get(reference) if reference else None
        versus = real if any(one.needs_reference for one in metric.statistics.values()) else None
        seed = self.plan.suite.spec.seed
        key = key_of(
            "difference",
            seed,
            other,
            mark,
            self._mark(self.systems[system], metric),
            versus and self._mark(versus, metric),
        )

        def make() -> list[Difference]:
            """Compare."""
            sample = sample_of(versus, metric) if versus else None
            identity = self.plan.identities[metric.name].ident
            return differences(metric, identity, (self._side(system, metric), side()), sample, seed=seed)

        return kept_differences(self.store, key, make)

    def _against(self, digests: Mapping[str, Any]) -> dict[str, list[Difference]]:
        """Return every system of both runs, now minus recorded."""
        record = self.record
        assert record is not None  # `finish` asks
        found: dict[str, list[Difference]] = {}
        for system, metric in comparable(self.plan, record, digests):
            mark = (record.settings["rosters"][system], record.identity(system, metric.name))

            def side(system: str = system, metric: Metric = metric) -> Sample:
                """Read the recorded rows when they are needed."""
                return record.side(system, metric.name)

            found.setdefault(system, []).extend(self._difference(system, metric, "recorded", mark, side))
        return found

    def _same_audio(self, system: str, digests: Mapping[str, Any]) -> bool:
        assert self.record is not None  # `finish` asks
        now, then = digests[system], self.record.settings["sets"][system]
        return bool(now["decoded"]) and (now["digest"], now["clips"]) == (then["digest"], then["clips"])

    def _judgements(self, scores: ScoreResult, against: Mapping[str, Sequence[Difference]]) -> tuple[Judgement, ...]:
        values: dict[tuple[str, str], Estimate] = {(one.system, one.name): one for one in scores.estimates}
        found = []
        for planned in self.plan.gates:
            gate, system = planned.gate, planned.system
            own = values[system, gate.name]
            if gate.against == "baseline":
                some: Sequence[Difference] = self._to_baseline(system, planned.baseline, own.metric)
                measured = measured_difference(_named(some, gate.name), planned.baseline, own.n_scored)
            elif gate.against == "recorded":
                name = self.record.name if self.record else ""
                measured = measured_difference(_named(against.get(system, ()), gate.name), name, own.n_scored)
            else:
                measured = measured_value(gate, own)
            found.append(judge(gate, planned.title, system, measured, planned.undecided))
        return tuple(found)

    def _to_baseline(self, system: str, baseline: str, metric_name: str) -> list[Difference]:
        metric = self.plan.metrics[metric_name]
        mark = self._mark(self.systems[baseline], metric)
        return self._difference(system, metric, "baseline", mark, lambda: self._side(baseline, metric))

    def _suite_settings(self) -> dict[str, Any]:
        suite = self.plan.suite
        against = str(self.wish.against) if self.wish.against else None
        return {
            "name": suite.spec.name,
            "path": str(suite.path),
            "digest": suite.digest,
            "text": suite.text,
            "only": list(self.wish.only),
            "against": against,
        }

    def _settings(self) -> dict[str, Any]:
        plan, spec = self.plan, self.plan.suite.spec
        sets = {**self.systems, **{f"reference {name}": one for name, one in self.references.items()}}
        origins = sorted({one.request.clips.origin for one in self.references.values()})
        return {
            "suite": self._suite_settings(),
            "seed": spec.seed,
            "recognizer": spec.recognizer,
            "transcriber": None if plan.transcriber is None else spec.transcriber or plan.transcriber.name,
            "reference": ", ".join(origins) or None,
            "references": plan.references_of,
            "metrics": {name: dict(one.parts) for name, one in plan.identities.items() if name in plan.metrics},
            "sets": {name: set_digest(one) for name, one in sets.items()},
            "rosters": {name: put_roster(self.store, one, one.request.metrics) for name, one in sets.items()},
            "versions": versions(plan.host),
            "host": host_facts(),
        }


def _named(found: Sequence[Difference], name: str) -> Difference:
    for one in found:
        if one.name == name:
            return one
    blank = dict.fromkeys(("difference", "low", "high", "p_value", "detectable"), float("nan"))
    why = "the recorded run has no such value for this system"
    return Difference(
        name=name,
        unit="",
        better="neither",
        identity="",
        quantity="value",
        paired=False,
        method="",
        reason=why,
        **blank,
    )


def _together(groups: Sequence[ScoreResult], systems: Sequence[str], settings: Mapping[str, Any]) -> ScoreResult:
    """Join the results of systems with different references, in the order of the suite."""
    place = {name: number for number, name in enumerate(systems)}
    paths: dict[tuple[str, str], str] = {}
    for one in groups:
        # two references may have clips of one key, and a wrong one must not be played
        paths |= {at: path for at, path in one.clip_paths.items() if len(groups) == 1 or at[0] != REFERENCE}
    return ScoreResult(
        estimates=tuple(sorted((e for one in groups for e in one.estimates), key=lambda e: place[e.system])),
        failures=tuple(failure for one in groups for failure in one.failures),
        contributions=tuple(item for one in groups for item in one.contributions),
        exemplars=tuple(exemplar for one in groups for exemplar in one.exemplars),
        warnings=tuple(dict.fromkeys(warning for one in groups for warning in one.warnings)),
        settings=settings,
        clip_paths=paths,
    )
