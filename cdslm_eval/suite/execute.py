"""Runs a planned suite: writes its sets, measures, summarises, compares and judges."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.provenance import host_facts, versions
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.plugin.identity import cited
from cdslm_eval.plugin.recognition import cautions
from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.score_result import ScoreResult
from cdslm_eval.results.suite_result import Cell, Judgement, SuiteResult
from cdslm_eval.run.comparison import differences
from cdslm_eval.run.real_row import real_estimates
from cdslm_eval.run.samples import sample_of
from cdslm_eval.run.scoring import REFERENCE, over_budget, set_digest, summarise
from cdslm_eval.run.set_notes import unnamed_speakers
from cdslm_eval.run.shared_keys import shared_takes
from cdslm_eval.stats.sample import Sample
from cdslm_eval.suite.cache import cache_key, cached_differences, cached_scores
from cdslm_eval.suite.gates import judge, quantity_of_difference, quantity_of_estimate
from cdslm_eval.suite.measure import Rows, RunOptions, Shard, measure, reference_groups
from cdslm_eval.suite.plan import Plan, missing_inputs
from cdslm_eval.suite.recording import (
    Record,
    changes,
    comparable,
    history,
    put_clip_list,
    records_folder,
    refuse_other_identities,
)
from cdslm_eval.suite.sets import write_sets

__all__ = ["run_suite"]


def run_suite(plan: Plan, options: RunOptions) -> SuiteResult:
    """Run a suite.

    Everything that was measured is in the store when this returns or raises, KeyboardInterrupt included; the same call
    continues from there.

    Returns:
        The result; of a shard, one without estimates or judgements.

    Raises:
        UsageError: A set cannot be opened, a generator fails, or the recorded run measured something else.
    """
    start = time.monotonic()
    with ExitStack() as stack:
        record = None
        if options.against is not None:
            record = Record.of(stack.enter_context(Store(options.against, read_only=True)))
            refuse_other_identities(plan, record)
        folder = options.store.with_suffix(".clips")
        executor, run = options.executor, plan.suite.spec.run
        if executor is None and "executor" in run.model_fields_set:
            executor = plan.host.make("executor", run.executor)
        where = (executor, options.jobs, options.device or run.device)
        sets = write_sets(plan.sets, plan.host, plan.recognizer_spec, folder, options.log, *where)
        store = stack.enter_context(Store(options.store))
        rows = measure(plan, options, store, sets)
        cells = tuple(
            dataclasses.replace(
                cell,
                why_not=missing_inputs(plan.metrics[cell.metric], sets["systems", cell.system], plan.upstream),
            )
            for cell in plan.cells
        )
        if options.shard is not None:
            return _shard_result(plan, options, options.shard, store, cells)
        result = _result(plan, options, store, rows, record, cells)
        spent = {
            (system, metric.name): measured.seconds(metric)
            for system, measured in rows.systems.items()
            for metric in measured.request.metrics
        }
        return dataclasses.replace(result, measured_s=spent, seconds=time.monotonic() - start)


def _shard_result(plan: Plan, options: RunOptions, shard: Shard, store: Store, cells: tuple[Cell, ...]) -> SuiteResult:
    """Note in the store that a shard was measured."""
    settings = {"suite": _suite_settings(plan, options), "shard": {"number": shard.number, "of": shard.of}}
    store.put_run(settings, [])
    scores = ScoreResult(estimates=(), settings=settings)
    return SuiteResult(name=plan.suite.spec.name, scores=scores, cells=cells)


def _result(
    plan: Plan, options: RunOptions, store: Store, rows: Rows, record: Record | None, cells: tuple[Cell, ...]
) -> SuiteResult:
    """Summarise, compare and judge what was measured, and store the run."""
    spec = plan.suite.spec
    settings = _settings(plan, options, store, rows)
    groups = [_summary(plan, store, rows, reference, systems) for reference, systems in reference_groups(plan).items()]
    scores = _joined(
        groups, plan.systems, settings, [*_cautions(plan, rows), *_unnamed_speakers(groups)], _citations(plan)
    )
    to_recorded = _differences_to_recorded(plan, store, rows, record, settings["sets"]) if record else {}
    same_clips = {name: _same_audio(record, name, settings["sets"]) for name in to_recorded} if record else {}
    judgements = _judgements(plan, scores, _differences_to_baselines(plan, store, rows), to_recorded, record)
    store.put_run(settings, [estimate.as_json() for estimate in scores.estimates])
    blocked = {(cell.system, cell.metric) for cell in cells if cell.why_not}
    measurable = [estimate for estimate in scores.estimates if (estimate.system, estimate.metric) not in blocked]
    budgeted = dataclasses.replace(scores, estimates=tuple(measurable))
    return SuiteResult(
        name=spec.name,
        scores=scores,
        judgements=judgements,
        cells=cells,
        changes=changes(to_recorded, same_clips),
        over_budget=tuple(over_budget(budgeted, spec.budget.failures, strict=spec.budget.strict)),
        past=tuple(history(records_folder(options.store), spec.name)),
    )


def _summary(plan: Plan, store: Store, rows: Rows, reference: str | None, systems: Sequence[str]) -> ScoreResult:
    """Return the scores of the systems of one reference, from the store where it holds them."""
    metrics, seed = list(plan.metrics.values()), plan.suite.spec.seed
    real = rows.reference(reference)
    of_systems = [(name, [rows.fingerprint("systems", name, metric) for metric in metrics]) for name in systems]
    of_real = (
        [rows.fingerprint("references", str(reference), metric) for metric in real.request.metrics] if real else []
    )
    statistics = [repr(metric.statistics) for metric in metrics]
    channel = rows.channels.get(reference) if reference else None
    of_channel = channel.key if channel else None
    texts = rows.texts.get(reference) if reference else None
    of_texts = texts.key(metrics) if texts else None
    key = cache_key("score result", seed, reference, of_systems, of_real, statistics, of_channel, of_texts)
    measured = [rows.systems[name] for name in systems]
    clips = real.request.clips if real else None

    def compute() -> ScoreResult:
        scores = summarise(measured, real, metrics, reference=clips, seed=seed, channel=channel, texts=texts)
        return dataclasses.replace(scores, real=real_estimates(real, metrics, seed) if real else ())

    # clips to listen to are looked for each time: files may have moved since the numbers were computed
    takes = shared_takes([measurement.request.clips for measurement in measured])
    return dataclasses.replace(cached_scores(store, key, compute), takes=takes)


def _differences_to_baselines(plan: Plan, store: Store, rows: Rows) -> dict[tuple[str, str, str], list[Difference]]:
    """Return (system, baseline, metric) -> differences, for every gate on a baseline."""

    @functools.cache
    def side(system: str, metric_name: str) -> Sample:
        return sample_of(rows.systems[system], plan.metrics[metric_name])

    metric_of = {
        value: metric.name
        for metric in plan.metrics.values()
        for key, statistic in metric.statistics.items()
        for value in statistic.names(key)
    }
    wanted = {
        (planned.system, planned.baseline, metric_of[planned.gate.name]): None
        for planned in plan.gates
        if planned.gate.against == "baseline"
    }
    result = {}
    for system, baseline, name in wanted:
        metric = plan.metrics[name]
        sides = functools.partial(side, system, name), functools.partial(side, baseline, name)
        origin = ("baseline", rows.fingerprint("systems", baseline, metric))
        result[system, baseline, name] = _differences(plan, store, rows, system, metric, origin, sides)
    return result


def _differences_to_recorded(
    plan: Plan, store: Store, rows: Rows, record: Record, digests: Mapping[str, Any]
) -> dict[str, list[Difference]]:
    """Return system -> present minus recorded values, for every system of both runs."""
    result: dict[str, list[Difference]] = {}
    for system, metric in comparable(plan, record, digests):
        sides = (
            functools.partial(sample_of, rows.systems[system], metric),
            functools.partial(record.side, system, metric.name),
        )
        origin = ("recorded", (record.settings["rosters"][system], record.identity(system, metric.name)))
        result.setdefault(system, []).extend(_differences(plan, store, rows, system, metric, origin, sides))
    return result


def _differences(
    plan: Plan,
    store: Store,
    rows: Rows,
    system: str,
    metric: Metric,
    origin: tuple[str, object],
    sides: tuple[Callable[[], Sample], Callable[[], Sample]],
) -> list[Difference]:
    """Return a system minus something else under a metric, from the store where it holds it.

    Args:
        plan: The run.
        store: The store.
        rows: The rows of the run.
        system: The system.
        metric: The metric.
        origin: Kind of the other side, and what its rows depend on.
        sides: Read both sides' rows; called only where the store does not hold the result.
    """
    reference, seed = plan.references_of[system], plan.suite.spec.seed
    needs_reference = any(statistic.needs_reference for statistic in metric.statistics.values())
    real = rows.reference(reference) if needs_reference else None
    of_real = rows.fingerprint("references", str(reference), metric) if real else None
    key = cache_key("difference", seed, *origin, rows.fingerprint("systems", system, metric), of_real)

    def compute() -> list[Difference]:
        sample = sample_of(real, metric) if real else None
        identity = plan.identities[metric.name].ident
        return differences(metric, identity, (sides[0](), sides[1]()), sample, seed=seed)

    return cached_differences(store, key, compute)


def _judgements(
    plan: Plan,
    scores: ScoreResult,
    to_baselines: Mapping[tuple[str, str, str], Sequence[Difference]],
    to_recorded: Mapping[str, Sequence[Difference]],
    record: Record | None,
) -> tuple[Judgement, ...]:
    estimates = {(estimate.system, estimate.name): estimate for estimate in scores.estimates}
    judgements = []
    for planned in plan.gates:
        gate, system = planned.gate, planned.system
        own = estimates[system, gate.name]
        if gate.against == "baseline":
            difference = _named(to_baselines[system, planned.baseline, own.metric], gate.name)
            quantity = quantity_of_difference(difference, planned.baseline, own.n_scored)
        elif gate.against == "recorded":
            difference = _named(to_recorded.get(system, ()), gate.name)
            quantity = quantity_of_difference(difference, record.name if record else "", own.n_scored)
        else:
            quantity = quantity_of_estimate(gate, own)
        judgements.append(judge(gate, planned.title, system, quantity, planned.undecided))
    return tuple(judgements)


def _named(several: Sequence[Difference], name: str) -> Difference:
    """Return the difference of one value; an unknown one with the reason where there is none."""
    for difference in several:
        if difference.name == name:
            return difference
    blank: dict[str, Any] = dict.fromkeys(("difference", "low", "high", "p_value", "detectable"), float("nan"))
    reason = "the recorded run has no such value for this system"
    return Difference(
        name=name,
        unit="",
        better="neither",
        identity="",
        quantity="value",
        paired=False,
        method="",
        reason=reason,
        **blank,
    )


def _cautions(plan: Plan, rows: Rows) -> list[str]:
    """Return what the user must know of the recognizer before quoting a value."""
    sets = [measured.request.clips for measured in (*rows.systems.values(), *rows.references.values())]
    return cautions(plan.host, plan.suite.spec.recognizer, plan.recognizer, tuple(plan.metrics.values()), sets)


def _unnamed_speakers(groups: Sequence[ScoreResult]) -> list[str]:
    """Return one sentence on the sets of all groups; two references keep the names of what was measured with them."""
    sets: dict[str, Mapping[str, Any]] = {}
    for number, group in enumerate(groups):
        for name, facts in group.settings["sets"].items():
            sets[f"{name} {number + 1}" if name == REFERENCE and len(groups) > 1 else name] = facts
    return unnamed_speakers(sets)


def _citations(plan: Plan) -> tuple[Citation, ...]:
    """Return what to cite with the numbers of a run."""
    upstream = (plan.transcriber, plan.recognizer)
    return tuple(cited(plan.metrics.values(), {measurer.provides: measurer for measurer in upstream if measurer}))


def _same_audio(record: Record, system: str, digests: Mapping[str, Any]) -> bool:
    now, then = digests[system], record.settings["sets"][system]
    return bool(now["decoded"]) and (now["digest"], now["clips"]) == (then["digest"], then["clips"])


def _suite_settings(plan: Plan, options: RunOptions) -> dict[str, Any]:
    suite = plan.suite
    return {
        "name": suite.spec.name,
        "path": str(suite.path),
        "digest": suite.digest,
        "text": suite.text,
        "only": list(options.only),
        "against": str(options.against) if options.against else None,
    }


def _settings(plan: Plan, options: RunOptions, store: Store, rows: Rows) -> dict[str, Any]:
    """Return the provenance of the run; the list of clips of every set is stored on the way."""
    spec = plan.suite.spec
    sets = {**rows.systems, **{f"reference {name}": real for name, real in rows.references.items()}}
    origins = sorted({real.request.clips.origin for real in rows.references.values()})
    return {
        "suite": _suite_settings(plan, options),
        "seed": spec.seed,
        "recognizer": plan.recognizer_spec,
        "transcriber": None if plan.transcriber is None else spec.transcriber or plan.transcriber.name,
        "reference": ", ".join(origins) or None,
        "references": dict(plan.references_of),
        "metrics": {name: dict(identity.parts) for name, identity in plan.identities.items() if name in plan.metrics},
        "sets": {name: set_digest(measured) for name, measured in sets.items()},
        "rosters": {name: put_clip_list(store, measured, measured.request.metrics) for name, measured in sets.items()},
        "versions": versions(plan.host.versions()),
        "host": host_facts(),
    }


def _joined(
    groups: Sequence[ScoreResult],
    systems: Sequence[str],
    settings: Mapping[str, Any],
    warnings: Sequence[str],
    citations: tuple[Citation, ...],
) -> ScoreResult:
    """Join the results of systems with different references, in the order of the suite."""
    position = {name: number for number, name in enumerate(systems)}
    paths: dict[tuple[str, str], str] = {}
    for group in groups:
        # two references may have clips of one key, and a wrong one must not be played
        paths |= {key: path for key, path in group.clip_paths.items() if len(groups) == 1 or key[0] != REFERENCE}
    estimates = (estimate for group in groups for estimate in group.estimates)
    # one row of real speech cannot stand for two references
    real = groups[0].real if len(groups) == 1 else ()
    return ScoreResult(
        estimates=tuple(sorted(estimates, key=lambda estimate: position[estimate.system])),
        failures=tuple(failure for group in groups for failure in group.failures),
        contributions=tuple(contribution for group in groups for contribution in group.contributions),
        exemplars=tuple(exemplar for group in groups for exemplar in group.exemplars),
        warnings=tuple(dict.fromkeys([*warnings, *(warning for group in groups for warning in group.warnings)])),
        settings=settings,
        real=real,
        takes=tuple(take for group in groups for take in group.takes),
        channel=ChannelReport.joined([group.channel for group in groups if group.channel is not None]),
        recognition_gain=tuple(gain for group in groups for gain in group.recognition_gain),
        citations=citations,
        clip_paths=paths,
    )
