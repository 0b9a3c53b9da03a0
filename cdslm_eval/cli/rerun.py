"""`cdslm-eval rerun`: repeats a result from its own provenance, and reports what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import AllowOutsideOption, JobsOption, MemoryLimitOption, StoreOption

if TYPE_CHECKING:
    from cdslm_eval.results.score_result import ScoreResult

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="rerun", no_args_is_help=True)(rerun)


def rerun(
    result: Annotated[Path, typer.Argument(help="result.json of a report, or what --json wrote.")],
    store: StoreOption = None,
    json_to: Annotated[
        str | None, typer.Option("--json", help="Write the new result as JSON to this file, or - .")
    ] = None,
    jobs: JobsOption = 0,
    suite: Annotated[
        Path | None,
        typer.Option("--suite", help="Suite file from whose folder the sets are read; default: where the result says."),
    ] = None,
    allow_outside: AllowOutsideOption = False,
    memory_limit: MemoryLimitOption = None,
) -> None:
    """Repeat a run of `run` or `score` from its result, and report what differs: versions, audio, identities, values.

    The sets of a suite are read below the folder of its file, which must be here; `--suite` names it elsewhere.

    Exit codes: 0 every value is the same, bit for bit; 1 some differ; 2 it cannot be repeated here.
    """
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.core.provenance import lost_versions, versions
    from cdslm_eval.plugin.host import Host

    then = _read(result)
    settings = then["settings"]
    recorded, installed = settings.get("versions", {}), versions(Host().versions())
    if "distributions" not in recorded:  # a published result does not list them
        installed.pop("distributions")
    for sentence in lost_versions(recorded, installed):
        common.problem(f"differs: {sentence}")
    if "suite" in settings:
        file = _suite_file(settings["suite"], result, suite)
        again = _suite(settings, file, store, jobs, allow_outside=allow_outside, memory_gb=memory_limit)
    elif suite is not None:
        raise UsageError(f"{result}: a result of `score`, which has no suite; leave out --suite")
    else:
        again = _score(settings, result, store, jobs, common.executor_spec(None, memory_limit))
    if json_to is not None:
        common.write_json(json_to, again.as_json())
    sentences = _differences(then, again.as_json())
    for sentence in sentences:
        common.problem(f"differs: {sentence}")
    same = len(then["estimates"]) - sum(sentence.startswith("value ") for sentence in sentences)
    typer.echo(f"{same} of {len(then['estimates'])} values are the same, bit for bit")
    if sentences:
        raise typer.Exit(1)


def _read(path: Path) -> dict[str, Any]:
    from cdslm_eval.cli.recorded import check_recorded
    from cdslm_eval.core.errors import UsageError

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a result that can be read: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("settings"), dict) or "estimates" not in data:
        raise UsageError(f"{path}: not a result of `run` or `score`: it has no settings and estimates")
    check_recorded(data, path)
    sets = data["settings"].get("sets", {}).values()
    origins = [str(facts.get("origin", "")) for facts in sets] + [str(data["settings"].get("reference") or "")]
    if any(origin.startswith("…") for origin in origins):
        raise UsageError(
            f"{path}: its paths were shortened for publication; repeat from what --json wrote, or write the page with "
            "--private-paths"
        )
    return data


def _suite_file(recorded: Mapping[str, Any], result: Path, chosen: Path | None) -> Path:
    """Return the suite file from whose folder sets and texts are read, and say so: a result may come from anybody.

    Raises:
        UsageError: The file is not here, or is no suite.
    """
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.suite import load_suite

    path = chosen or Path(recorded["path"])
    if not path.is_file():
        raise UsageError(f"{result}: its suite file {path} is not here; name it with --suite FILE")
    digest = load_suite(path).digest
    common.note(f"note: sets are read from {path.resolve().parent}, the folder of {path.name}")
    if digest != recorded["digest"]:
        common.note(f"differs: {path}: the suite file was changed since; the one in {result} is run")
    return path


def _suite(
    settings: Mapping[str, Any],
    path: Path,
    store: Path | None,
    jobs: int,
    *,
    allow_outside: bool,
    memory_gb: float | None,
) -> ScoreResult:
    from cdslm_eval import api
    from cdslm_eval.cli.run import grid
    from cdslm_eval.suite import parse_suite

    suite_settings = settings["suite"]
    suite = parse_suite(suite_settings["text"], path)
    done = api.run_suite(
        suite,
        store=store,
        against=suite_settings["against"],
        only=tuple(suite_settings["only"]),
        jobs=jobs,
        allow_outside=allow_outside,
        memory_gb=memory_gb,
        progress=True,
        planned=lambda plan: common.show(grid(plan)),
        note=common.note,
    )
    return done.scores


def _score(
    settings: Mapping[str, Any], result: Path, store: Path | None, jobs: int, executor: str | None
) -> ScoreResult:
    from cdslm_eval import api
    from cdslm_eval.core.errors import UsageError
    from cdslm_eval.run.scoring import REFERENCE

    if not isinstance(settings.get("metrics"), str) or "sets" not in settings:
        raise UsageError(f"{result}: has no settings that repeat it; an older version wrote it")
    sets = {name: facts["origin"] for name, facts in settings["sets"].items() if name != REFERENCE}
    reference = settings.get("reference")
    return api.score(
        sets,
        reference,
        settings["metrics"],
        recognizer=settings["recognizer"],
        transcriber=settings.get("transcriber"),
        store=store,
        jobs=jobs,
        executor=executor,
        seed=settings["seed"],
        channel=settings.get("channel", False),
        allow_truncated=settings.get("allow_truncated", False),
        speakers_from=settings.get("speakers_from"),
        ignore_columns=settings.get("ignore_columns", ()),
        progress=True,
        note=common.note,
    )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every set whose audio differs, and for every value that does."""
    before, after = then["settings"].get("sets", {}), now["settings"].get("sets", {})
    sentences = [
        f"audio of {name}: {facts['clips']} clips then, {after[name]['clips']} now, other content"
        for name, facts in before.items()
        if name in after and facts["digest"] != after[name]["digest"]
    ]
    values = {(estimate["system"], estimate["name"]): estimate for estimate in now["estimates"]}
    for estimate in then["estimates"]:
        other = values.get((estimate["system"], estimate["name"]))
        subject = f"value {estimate['name']} of {estimate['system']}"
        if other is None:
            sentences.append(f"{subject}: not measured now")
        elif other["identity"] != estimate["identity"]:
            sentences.append(f"{subject}: identity {estimate['identity']} then, {other['identity']} now")
        elif changed := [key for key in estimate if estimate[key] != other.get(key)]:
            parts = (f"{key} {estimate[key]} then, {other.get(key)} now" for key in changed)
            sentences.append(f"{subject}: {', '.join(parts)}")
    return sentences
