"""`cdslm-eval bench`: how fast each metric is here, how much memory it takes, and how long it takes to start."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.core.printable import printable

if TYPE_CHECKING:
    from cdslm_eval.run.benchmark import Unmeasured
    from cdslm_eval.run.rates import Rate

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="bench")(bench)


def bench(
    metrics: Annotated[
        str, typer.Option("--metrics", "-m", help="Comma-separated names; default: every metric that can be used.")
    ] = "",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N; auto: all there are.")] = "auto",
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Least time per metric, without its start.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure clips per second, real-time factor, memory and start-up of each metric that can be used here.

    Each runs alone in one worker process, on clips of 10 s that are made for it; nothing is downloaded. `score` then
    states beforehand how long a run will take.
    """
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.run.benchmark import Benchmark, Unmeasured, devices
    from cdslm_eval.run.executors.local import LocalExecutor
    from cdslm_eval.run.rates import RateBook

    host, book = Host(), RateBook()
    known = list(host.registered("metric"))
    names = [name.strip() for name in metrics.split(",") if name.strip()] or known
    for name in names:
        if name not in known:
            raise UsageError(f"--metrics: there is no metric {name!r}.{did_you_mean(name, known)}")
    book.rates()  # a damaged file is reported before minutes are spent
    rates: list[Rate] = []
    unmeasured: list[Unmeasured] = []
    with common.stages() as show, tempfile.TemporaryDirectory() as folder:
        measuring = Benchmark(host, LocalExecutor(), Path(folder), seconds)
        for place in devices(device):
            for name in names:
                show(f"{name} on {place}")
                for entry in measuring.measure(name, place):
                    if isinstance(entry, Unmeasured):
                        unmeasured.append(entry)
                    else:
                        rates.append(entry)
                        book.add([entry])
    if as_json:
        missing = [dataclasses.asdict(entry) for entry in unmeasured]
        common.write_json("-", {"rates": [dataclasses.asdict(rate) for rate in rates], "unmeasured": missing})
        return
    _show(rates)
    for entry in unmeasured:
        typer.echo(printable(f"{entry.name}: not measured: {entry.reason}"))
    common.note(f"kept in {book.path}; `cdslm-eval score` reads them")


def _show(rates: list[Rate]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("metric", "device"):
        table.add_column(column)
    for column in ("clips/s", "RTF", "CPU s/clip", "memory MB", "start s"):
        table.add_column(column, justify="right", no_wrap=True)
    for rate in rates:
        table.add_row(
            printable(rate.name),
            rate.device,
            f"{rate.clips_per_s:.3g}",
            f"{rate.real_time_factor:.2g}",
            f"{rate.cpu_s_per_clip:.2g}",
            f"{rate.memory_mb:.0f}" + (f" + {rate.gpu_memory_mb:.0f} GPU" if rate.gpu_memory_mb else ""),
            f"{rate.start_up_s:.1f}",
        )
    Console().print(table)
    if rates:
        typer.echo(f"clips of 10 s: {rates[0].audio}; one worker, upstream phones and words counted on their own lines")
