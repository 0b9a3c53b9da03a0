"""`cdslm-eval compare`: is A better than B, and could this sample have shown it?"""

from __future__ import annotations

from typing import Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import (
    DEFAULT_METRICS,
    AllowTruncatedOption,
    ChannelOption,
    JobsOption,
    RecognizerOption,
    RehashOption,
    SeedOption,
    SpeakersFromOption,
    StoreOption,
    TranscriberOption,
)
from cdslm_eval.core import defaults

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="compare", no_args_is_help=True)(compare)


def compare(
    a: Annotated[str, typer.Argument(help="Directory or manifest of system A; NAME=PATH names it.")],
    b: Annotated[str, typer.Argument(help="Directory or manifest of system B; NAME=PATH names it.")],
    reference: Annotated[str | None, typer.Option("--reference", "-r", help="Real speech to compare with.")] = None,
    metrics: Annotated[str, typer.Option("--metrics", "-m", help="Comma-separated.")] = DEFAULT_METRICS,
    recognizer: RecognizerOption = defaults.RECOGNIZER,
    transcriber: TranscriberOption = None,
    store: StoreOption = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write JSON to this file, or - .")] = None,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Compare as independent samples.")] = False,
    speakers_from: SpeakersFromOption = None,
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
    rehash: RehashOption = False,
    allow_truncated: AllowTruncatedOption = False,
    channel: ChannelOption = None,
) -> None:
    """Compare two systems: differences with intervals, Holm-corrected tests, smallest detectable difference.

    Clips with the same keys in both sets are compared in pairs. Divergences are compared by their corrected value at
    one phone count.
    """
    from cdslm_eval import api
    from cdslm_eval.cli.tables import context_lines, grid_table

    result = api.compare(
        common.named_system(a),
        common.named_system(b),
        reference,
        metrics,
        recognizer=recognizer,
        transcriber=transcriber,
        store=store,
        jobs=jobs,
        seed=seed,
        rehash=rehash,
        allow_truncated=allow_truncated,
        unpaired=unpaired,
        speakers_from=speakers_from,
        channel=channel,
        progress=True,
        note=common.note,
    )
    if json_to is not None:
        common.write_json(json_to, result.as_json())
    if json_to != "-":
        typer.echo(grid_table(result.grid()))
        for line in context_lines(result.channel, result.estimates, result.recognition_gain):
            typer.echo(line)
    for sentence in result.unscored:
        common.note(f"over the failure budget: {sentence}")
    if result.unscored:
        raise typer.Exit(1)
