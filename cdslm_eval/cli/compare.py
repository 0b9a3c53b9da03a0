"""`cdslm-eval compare`: is A better than B, and could this sample have shown it?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import (
    DEFAULT_METRICS,
    JobsOption,
    RecognizerOption,
    SeedOption,
    StoreOption,
    TranscriberOption,
    split_specs,
)

if TYPE_CHECKING:
    from cdslm_eval.results.differences import Difference

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="compare", no_args_is_help=True)(compare)


def compare(
    a: Annotated[str, typer.Argument(help="Directory or manifest of system A.")],
    b: Annotated[str, typer.Argument(help="Directory or manifest of system B.")],
    reference: Annotated[str | None, typer.Option("--reference", "-r", help="Real speech to compare with.")] = None,
    metrics: Annotated[str, typer.Option("--metrics", "-m", help="Comma-separated.")] = DEFAULT_METRICS,
    recognizer: RecognizerOption = "pocketsphinx",
    transcriber: TranscriberOption = None,
    store: StoreOption = None,
    json_to: Annotated[str | None, typer.Option("--json", help="Write JSON to this file, or - .")] = None,
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
) -> None:
    """Compare two systems: differences with intervals, Holm-corrected tests, smallest detectable difference.

    Clips with the same keys in both sets are compared in pairs. Divergences are compared by their corrected value at
    one phone count.
    """
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.store import Store, default_store_path
    from cdslm_eval.plugin.host import Host, transcriber_for
    from cdslm_eval.results.numbers import to_json
    from cdslm_eval.run import Runner
    from cdslm_eval.run.comparison import compare as run_compare

    host = Host()
    systems = common.open_systems(host, [a, b], None)
    real = ClipSet.open(reference, name="reference") if reference else None
    chosen = [host.make("metric", spec) for spec in split_specs(metrics, list(host.registered("metric")))]
    common.name_the_weights(chosen)
    hears = host.make("recognizer", recognizer)
    with Store(store or default_store_path()) as held, common.progress("measuring") as bar:
        runner = Runner(
            held,
            host.make("executor", "local"),
            hears,
            jobs=jobs or common.default_jobs(),
            transcriber=transcriber_for([*chosen, hears], host, transcriber),
        )
        found = run_compare(runner, systems[0], systems[1], real, chosen, seed=seed, progress=bar)
    for sentence in dict.fromkeys(runner.unusable.values()):
        common.note(f"note: {sentence}")
    names = [one.name for one in systems]
    if json_to is not None:
        common.write_json(json_to, to_json({"a": names[0], "b": names[1], "differences": found, "seed": seed}))
    if json_to != "-":
        typer.echo(_table(names, found))


def _table(names: list[str], found: list[Difference]) -> str:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cdslm_eval.results.numbers import decimals_of, format_interval, format_number

    console = Console(file=io.StringIO(), width=120)
    pairing = "paired by key" if found and found[0].paired else "two samples"
    view = Table(title=Text(f"{names[0]} - {names[1]} ({pairing})"), box=None, title_justify="left")
    for heading in ("name", "of", "difference", "95 % interval", "p (Holm)", "detectable", "says"):
        view.add_column(heading, justify="left" if heading in ("name", "of", "says") else "right")
    for one in found:
        digits = decimals_of(one.low, one.high)
        cells = [one.name, one.quantity, format_number(one.difference, digits), format_interval(one.low, one.high)]
        cells += [format_number(one.p_holm), format_number(one.detectable, digits)]
        view.add_row(*(Text(cell) for cell in cells), Text(_says(one, names)))
    console.print(view)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().rstrip()


def _says(one: Difference, names: list[str]) -> str:
    if one.reason or not math.isfinite(one.p_holm):
        return one.reason
    if one.p_holm > 0.05:
        return "no difference shown"
    if one.better == "neither":
        return "different"
    return f"{names[0] if (one.difference < 0) == (one.better == 'lower') else names[1]} is better"
