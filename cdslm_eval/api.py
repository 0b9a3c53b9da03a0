"""The composition root: one function per job, for notebooks, training loops and the command line."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval.core import defaults
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.core.printable import printable
from cdslm_eval.core.progress import Progress, shown_progress
from cdslm_eval.core.store import Store, default_store_path
from cdslm_eval.plugin.contract import Metric, Recognizer, Transcriber
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.host import Host
from cdslm_eval.results.comparison_result import ComparisonResult
from cdslm_eval.results.score_result import ScoreResult
from cdslm_eval.run import comparison as _comparison
from cdslm_eval.run import scoring as _scoring
from cdslm_eval.run import unscored
from cdslm_eval.run.components import Components, Execution, Note
from cdslm_eval.run.generation import GenerationRequest, generate_into, generate_set, with_options
from cdslm_eval.run.over_time import check_window
from cdslm_eval.run.systems import GeneratorLike, open_reference, open_set, open_systems, pair_of, with_choices

if TYPE_CHECKING:
    from cdslm_eval.results.suite_result import SuiteResult
    from cdslm_eval.scaling import LawFit
    from cdslm_eval.scaling.table import RunTable
    from cdslm_eval.suite import Plan
    from cdslm_eval.suite.schema import Suite

__all__ = ["MetricLike", "Note", "compare", "fit", "generate", "plan_suite", "run_suite", "score"]

MetricLike = str | Metric | type[Metric]
ExecutorLike = str | Executor | type[Executor]
_logger = logging.getLogger("cdslm_eval")


def _warn(sentence: str) -> None:
    """Log what the user is to see, on one line whatever names it holds."""
    _logger.warning("%s", printable(sentence))


def score(
    systems: Any,
    reference: Any = None,
    metrics: MetricLike | Sequence[MetricLike] = defaults.METRICS,
    *,
    recognizer: str | Recognizer | type[Recognizer] = defaults.RECOGNIZER,
    transcriber: str | Transcriber | type[Transcriber] | None = None,
    store: Path | str | None = None,
    jobs: int = 0,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | bool = False,
    prompts: Any = None,
    count: int = defaults.CLIP_COUNT,
    seconds: float = defaults.CLIP_SECONDS,
    time_limit_s: float = defaults.TIME_LIMIT_S,
    keep_failures: bool = False,
    rehash: bool = False,
    allow_truncated: bool = False,
    executor: ExecutorLike | None = None,
    channel: bool | None = None,
    speakers_from: str | None = None,
    real_row: bool = True,
    ignore_columns: Sequence[str] = (),
    windows: float | None = None,
    note: Note = _warn,
) -> ScoreResult:
    """Score systems against real speech.

    Rows are kept in the store: what was measured before, under the same identity, is not measured again, and an
    interrupted call continues where it stopped.

    Args:
        systems: One system or several: paths, `ClipSet`s, generators (spec, class or instance), lists of arrays
            `(samples, rate_hz)`; a mapping `{"name": system}` names them.
        reference: Real speech, as one system; needed by metrics that compare with it.
        metrics: Specs such as "pjsd" or "./my_metric.py:Silence", `Metric` classes or instances.
        recognizer: Recognizes the phones that metrics read; "auto" is phone-ctc if usable, else pocketsphinx.
        transcriber: Writes the transcripts that metrics read; None is the default one where one is needed.
        store: File of the rows; None is the user's own.
        jobs: Worker processes; 0 is one per processor.
        device: "auto", "cpu" or "cuda", for metrics and generators with a model; devices by name, such as "cuda:1",
            "cuda:0,cuda:1" or "cuda:*", get a worker each, and metrics without a model run beside them in `jobs`.
        seed: Seed of every interval, draw, fold and generator.
        progress: True shows a bar on stderr; or a function called with (clips done, clips to do).
        prompts: Clips for generators to continue or learn from, as one system; the reference by default.
        count: Clips that each generator makes.
        seconds: Their length in seconds.
        time_limit_s: Seconds that one clip may take under one metric.
        keep_failures: Do not measure again what failed before.
        rehash: Decode every file again, whatever its size, times and inode say.
        allow_truncated: Score files that end before their header says as far as they go; else these clips fail.
        executor: Where metrics and generators run, such as "ray:address=auto"; None: "local", and this process.
        channel: Measure the channel next to divergences of phones: profiles, and the reference put through each
            system's channel (acoustic floor, matched value). None does so where the recognizer declares a real-time
            factor of at most .01: up to 20 minutes of the reference are recognized again for each system.
        speakers_from: Where speakers are read from: a pattern of file names such as "spk-chapter-utt", or "folder".
        real_row: Measure the reference under every metric that it can be measured by, for the row of real speech.
        ignore_columns: Patterns of manifest columns that are passed over, such as "meta_*"; others not read are errors.
        windows: Length in seconds of windows in which every value is measured too, to follow it from the beginning of
            clips to their end (`over_time` of the result); None measures whole clips only.
        note: Called with sentences that the user is to see; by default they are logged as warnings.

    Returns:
        Estimates with intervals, failures with their reasons, and the settings behind them.

    Raises:
        UsageError: A system, metric or option cannot be used, or a metric needs a reference and there is none.

    Example:
        >>> import numpy as np
        >>> tone = np.sin(np.arange(16000, dtype=np.float32) * 0.1) / 2
        >>> result = score({"tone": [(tone, 16000)]}, metrics="signal", jobs=1)
        >>> result.estimate("duration").value
        1.0
    """
    if windows is not None:
        check_window(windows)
    host = Host()
    runs_on = host.resolve("executor", executor or "local")
    path = _store_path(store)
    measuring = Components.resolve(host, metrics, recognizer, transcriber, note)
    _logger.info(measuring.choices(path))
    real = open_reference(host, reference, ignore_columns)
    source = open_set(host, prompts, None, None, ignore_columns) if prompts is not None else real

    def make(generator: GeneratorLike) -> ClipSet:
        request = GenerationRequest(generator, source, count, seconds, seed, recognizer)
        where = runs_on if executor is not None else None
        n_jobs = jobs or defaults.default_jobs()
        return generate_set(host, request, path.with_suffix(".clips"), note, where, n_jobs, device)

    opened = open_systems(host, systems, make, ignore_columns)
    opened, real = with_choices(opened, real, speakers_from, allow_truncated=allow_truncated)
    studies = measuring.studies(host, real, channel, seed)
    choices = {
        "channel": studies.profiler is not None,
        "allow_truncated": allow_truncated,
        "speakers_from": speakers_from,
        "ignore_columns": list(ignore_columns),
    }
    settings = {**measuring.settings(host, real), **choices}
    with Store(path) as rows, shown_progress(progress, "scoring", runs_on.where) as bar:
        execution = Execution(runs_on, jobs, time_limit_s, device, rehash)
        runner = measuring.runner(rows, execution, keep_failures=keep_failures, note=note)
        result = _scoring.score(
            runner,
            opened,
            real,
            measuring.metrics,
            seed=seed,
            progress=bar,
            settings=settings,
            studies=studies,
            real_row=real_row,
            prompts=source if prompts is not None else None,
            window_s=windows,
        )
        warnings = (*measuring.cautions(host, opened, real), *result.warnings)
        result = dataclasses.replace(result, warnings=warnings, citations=measuring.citations())
        rows.put_run(dict(result.settings), [estimate.as_json() for estimate in result.estimates])
    for warning in result.warnings:
        note(f"note: {warning}")
    return result


def compare(
    a: Any,
    b: Any,
    reference: Any = None,
    metrics: MetricLike | Sequence[MetricLike] = defaults.METRICS,
    *,
    recognizer: str | Recognizer | type[Recognizer] = defaults.RECOGNIZER,
    transcriber: str | Transcriber | type[Transcriber] | None = None,
    store: Path | str | None = None,
    jobs: int = 0,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | bool = False,
    time_limit_s: float = defaults.TIME_LIMIT_S,
    rehash: bool = False,
    allow_truncated: bool = False,
    executor: ExecutorLike | None = None,
    speakers_from: str | None = None,
    channel: bool | None = None,
    ignore_columns: Sequence[str] = (),
    unpaired: bool = False,
    note: Note = _warn,
) -> ComparisonResult:
    """Compare two systems: differences with intervals, Holm-corrected tests, smallest detectable difference.

    Clips with the same keys in both sets are compared in pairs. Divergences are compared by their corrected value at
    one phone count.

    Args:
        a, b: Two systems, as `score` takes them; `{"name": system}` names one. Generators write their clips first.
        reference: Real speech, as one system; needed by metrics that compare with it.
        metrics, recognizer, transcriber, store, jobs, device, seed: As for `score`.
        progress, time_limit_s, executor, rehash, allow_truncated: As for `score`.
        speakers_from, ignore_columns, channel, note: As for `score`.
        unpaired: Compare as independent samples, whatever keys both share.

    Raises:
        UsageError: A system, metric or option cannot be used, or a metric needs a reference and there is none.
    """
    host = Host()
    runs_on = host.resolve("executor", executor or "local")
    measuring = Components.resolve(host, metrics, recognizer, transcriber, note)
    _logger.info(measuring.choices(_store_path(store)))
    real = open_reference(host, reference, ignore_columns)
    opened = open_systems(host, [pair_of(a), pair_of(b)], None, ignore_columns)
    opened, real = with_choices(opened, real, speakers_from, allow_truncated=allow_truncated)
    studies = measuring.studies(host, real, channel, seed)
    with Store(_store_path(store)) as rows, shown_progress(progress, "measuring", runs_on.where) as bar:
        execution = Execution(runs_on, jobs, time_limit_s, device, rehash)
        runner = measuring.runner(rows, execution, note=note)
        result, measured = _comparison.compare(
            runner,
            opened[0],
            opened[1],
            real,
            measuring.metrics,
            seed=seed,
            unpaired=unpaired,
            progress=bar,
            studies=studies,
        )
        failed = tuple(unscored(measured[:2], measuring.metrics))
        doubts = _comparison.doubts_of(measured, measuring.metrics)
    from cdslm_eval import __version__

    cautions = measuring.cautions(host, opened, real)
    warnings = tuple(dict.fromkeys([*cautions, *measured[0].unusable.values(), *doubts, *result.warnings]))
    for warning in warnings:
        note(f"note: {warning}")
    return dataclasses.replace(
        result, warnings=warnings, unscored=failed, citations=measuring.citations(), version=__version__
    )


def generate(
    generator: GeneratorLike,
    out: Path | str,
    *,
    options: Mapping[str, Any] | None = None,
    prompts: Any = None,
    count: int = defaults.CLIP_COUNT,
    seconds: float = defaults.CLIP_SECONDS,
    seed: int = 0,
    recognizer: str | Recognizer | type[Recognizer] = defaults.RECOGNIZER,
    ignore_columns: Sequence[str] = (),
    progress: Progress | bool = False,
    executor: ExecutorLike | None = None,
    jobs: int = 0,
    device: str = "auto",
    keep_prompts: bool = False,
) -> ClipSet:
    """Write a generator's clips as FLAC with a manifest, and return the set; an interrupted call continues.

    Args:
        generator: A spec such as "babble:2", a class, or an instance.
        out: Folder for the clips and their `manifest.jsonl`.
        options: Options by name, for a generator that is named without any; values may hold commas.
        prompts: Clips to continue, transform or learn from, as one system of `score`.
        count: How many clips.
        seconds: Their length in seconds.
        seed: The same seed gives the same clips.
        recognizer: Recognizes the phones of prompts that carry none, where the generator needs phones.
        ignore_columns: Of a manifest of prompts, as for `score`.
        progress: True shows a bar on stderr; or a function called with (clips written, clips to write).
        executor: Where clips are generated, such as "ray:address=auto"; None is this process, or "local" with `jobs`.
        jobs: Worker processes; 0 is one per processor where an executor is named.
        device: As for `score`; where the generator's own options name a device, they decide.
        keep_prompts: Write each clip behind the prompt that it continues, with the prompt's length in the manifest
            (`prompt_seconds`, which `join_jump` reads); `continuations.jsonl` is the manifest of the clips alone.

    Raises:
        UsageError: The folder holds a finished set, or the generator, an option or the prompts cannot be used.
        EvalError: Clips could not be generated; the others are kept, and the same call continues.
    """
    folder = Path(out)
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder}: holds a finished set already; name an empty folder")
    host = Host()
    named = executor or ("local" if jobs > 1 else None)
    runs_on = host.resolve("executor", named) if named is not None else None
    made, label = with_options(host, generator, options)
    source = open_set(host, prompts, None, None, ignore_columns) if prompts is not None else None
    request = GenerationRequest(made, source, count, seconds, seed, recognizer, label, keep_prompts)
    with shown_progress(progress, request.name, runs_on.where if runs_on else str) as bar:
        generate_into(host, request, folder, bar, executor=runs_on, jobs=jobs or defaults.default_jobs(), device=device)
    return ClipSet.open(folder)


def run_suite(
    suite: Path | str | Suite,
    *,
    store: Path | str | None = None,
    jobs: int = 0,
    device: str = "",
    executor: ExecutorLike | None = None,
    only: Sequence[str] = (),
    against: str | None = None,
    shard: str | None = None,
    keep_failures: bool = False,
    memory_gb: float | None = None,
    allow_outside: bool = False,
    progress: Progress | bool = False,
    planned: Callable[[Plan], None] | None = None,
    note: Note = _warn,
) -> SuiteResult:
    """Run a suite: systems x metrics, judged by gates on confidence bounds.

    Args:
        suite: The file, or what `load_suite` returned.
        store: File of the rows; None is the user's own.
        jobs: Worker processes; 0 is what the suite names, else one per processor.
        device: Overrides the suite's.
        executor: Overrides the suite's; generators run on it too.
        only: Patterns of the systems and metrics to run.
        against: Name or file of a recorded run to compare with.
        shard: Measure part I of N only, such as "1/3", into this store; its result has no estimates and no judgements.
        keep_failures: Do not measure again what failed before.
        memory_gb: GiB that each worker of the suite's executor "local" may take; 0 is no limit, None the suite's.
        allow_outside: Let generators read texts that lie outside the suite's folder.
        progress: As for `score`.
        planned: Called with the plan before anything is measured.
        note: As for `score`.

    Raises:
        UsageError: The suite has a problem; the message names its lines.
    """
    from cdslm_eval import suite as _suite
    from cdslm_eval.suite.recording import find_record, records_folder

    loaded = _suite.load_suite(Path(suite)) if isinstance(suite, str | Path) else suite
    path = _store_path(store)
    part = _suite.Shard.parse(shard) if shard else None
    record = find_record(against, records_folder(path)) if against else None
    plan = plan_suite(loaded, only=only, recorded=record is not None, allow_outside=allow_outside)
    named = loaded.spec.run.executor if "executor" in loaded.spec.run.model_fields_set else None
    chosen = executor or loaded.limited_executor(memory_gb) or named
    runs_on = plan.host.resolve("executor", chosen) if chosen else None
    if planned is not None:
        planned(plan)
    with shown_progress(progress, "measuring", runs_on.where if runs_on else str) as bar:
        options = _suite.RunOptions(
            store=path,
            jobs=jobs or loaded.spec.run.jobs or defaults.default_jobs(),
            device=device,
            executor=runs_on,
            only=tuple(only),
            shard=part,
            against=record,
            keep_failures=keep_failures,
            progress=bar,
            log=note,
        )
        result = _suite.run_suite(plan, options)
    for warning in result.scores.warnings:
        note(f"note: {warning}")
    return result


def plan_suite(
    suite: Path | str | Suite, *, only: Sequence[str] = (), recorded: bool = False, allow_outside: bool = False
) -> Plan:
    """Check a suite against what is installed, and return what a run of it would measure and judge.

    Args:
        suite: The file, or what `load_suite` returned.
        only: Patterns of the systems and metrics to run.
        recorded: Whether the run is to be compared with a recorded one, which gates may then name.
        allow_outside: Let generators read texts that lie outside the suite's folder.

    Raises:
        UsageError: The suite has a problem; the message names its lines.
    """
    from cdslm_eval import suite as _suite

    loaded = _suite.load_suite(Path(suite)) if isinstance(suite, str | Path) else suite
    return _suite.make_plan(loaded, Host(), only=tuple(only), recorded=recorded, allow_outside=allow_outside)


def fit(table: RunTable | Path | str, metric: str = "loss", **options: Any) -> LawFit:
    """Fit a scaling law to a table of training runs.

    Args:
        table: A `RunTable`, or a file that `RunTable.read` reads.
        metric: The column to fit.
        options: Fields of `cdslm_eval.scaling.LawSpec`: form, estimator, link, bounds, better and others.

    Raises:
        UsageError: The table cannot be read, has too few usable rows, or there is no such option.
    """
    from cdslm_eval.scaling import LawSpec, fit_law
    from cdslm_eval.scaling.table import RunTable

    known = [field.name for field in dataclasses.fields(LawSpec)]
    if unknown := [name for name in options if name not in known]:
        raise UsageError(f"fit has no option {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
    read = table if isinstance(table, RunTable) else RunTable.read(Path(table))
    return fit_law(read, metric, LawSpec(**options))


def _store_path(store: Path | str | None) -> Path:
    return Path(store) if store is not None else default_store_path()
