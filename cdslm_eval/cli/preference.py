"""`cdslm-eval preference` and `make-pairs`: how often models prefer the better clip, and pairs from one's own clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdslm_eval.cli import common, completion
from cdslm_eval.cli.score import FailBudgetOption, IgnoreColumnsOption, JsonToOption
from cdslm_eval.core import defaults

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="preference", no_args_is_help=True)(preference)
    app.command(name="make-pairs", no_args_is_help=True)(make_pairs)


def preference(
    systems: Annotated[
        list[str],
        typer.Argument(
            autocompletion=completion.of_kind("generator"),
            help="Generators that score speech, such as cdslm:RUN, unit-lm:RUN or stationary.",
        ),
    ],
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs", "-p", help="Manifest (better, worse, family, kind, prefix_seconds) or folder of pairs."
        ),
    ],
    layout: Annotated[
        str, typer.Option("--layout", help="Of a folder: auto, manifest, sblimp, salmon or storycloze.")
    ] = "auto",
    per_second: Annotated[
        bool | None,
        typer.Option(
            "--per-second/--total",
            help="Compare scores per second (default of released sets), or totals (of clips of one length).",
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="File of the scores; a repeated command computes none twice.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sampled scores and of intervals.")] = 0,
    json_to: JsonToOption = None,
    fail_budget: FailBudgetOption = defaults.FAIL_BUDGET,
) -> None:
    """Show how often models score the better clip of a pair higher, ties half, with intervals by family."""
    from cdslm_eval.preferences import preference as compared

    result = compared(systems, pairs, layout=layout, per_second=per_second, store=store, seed=seed, progress=True)
    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if json_to != "-":
        common.write_text("-", "\n".join(result.lines()) + "\n")
    lost = {}
    for (system, kind), entries in result.by_kind().items():
        # each kind of score counts all pairs that failed, as these have none
        failed = max(entry.accuracy.n_failed for entry in entries)
        lost[system, kind] = failed / max(1, failed + sum(entry.accuracy.n_scored for entry in entries))
    over = [f"{system}, {kind}: {share:.0%}" for (system, kind), share in lost.items() if share > fail_budget]
    if over:
        common.problem(f"over the failure budget of pairs that could not be compared: {'; '.join(over)}")
        raise typer.Exit(1)


def make_pairs(
    clips: Annotated[str, typer.Argument(help="Directory or manifest of real speech.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pairs and their pairs.csv.")],
    kinds: Annotated[
        str, typer.Option("--kinds", help="What is made worse: continuation, reversed, shuffled, speaker.")
    ] = "continuation,reversed,shuffled,speaker",
    prefix: Annotated[str, typer.Option("--prefix", help="What both clips have in common, such as 1s.")] = "1s",
    count: Annotated[int, typer.Option("--count", min=1, help="Clips to make pairs of, drawn at random.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same pairs.")] = 0,
    ignore_columns: IgnoreColumnsOption = "",
) -> None:
    """Write pairs of real clips and worse ones: wrong continuation, reversed, shuffled, other speaker."""
    from cdslm_eval.preferences import make_pairs as made

    manifest = made(
        clips,
        out,
        kinds=common.listed(kinds),
        context_s=common.duration_s(prefix, "--prefix"),
        count=count,
        seed=seed,
        ignore_columns=common.listed(ignore_columns),
        note=common.note,
        progress=True,
    )
    typer.echo(str(manifest))
