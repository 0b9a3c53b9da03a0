"""Writes the pages of the site that follow from the code: first page, plugins, metrics, command line, Python, gallery.

Run by the gen-files plugin of mkdocs at every build, so that none of them can be out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import mkdocs_gen_files
import typer

import cdslm_eval
from cdslm_eval.cli import app as eval_app
from cdslm_eval.cli.examples import EXAMPLES
from cdslm_eval.plugin.directory import declared_licence, plugin_directory
from cdslm_eval.plugin.host import Host
from cdslm_model.cli import app as model_app

ROOT = Path(__file__).parents[2]
# what recognizes phones and words where it is installed, as `cdslm-eval bench` measures it
UPSTREAM = {"phones": "phone-ctc", "transcript": "faster-whisper"}
sys.path.insert(0, str(Path(__file__).parent))  # gen-files runs this file, it does not import it

from gallery import CACHE, page_and_files  # noqa: E402


def write(name: str, text: str) -> None:
    """Write a page of the site."""
    with mkdocs_gen_files.open(name, "w") as file:
        file.write(text)


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and those below it, each with the words that call it."""
    yield path, command
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from commands(below, (*path, name))


def command_page() -> str:
    """Return the reference of both commands: usage, help, and a table of the options of each."""
    parts = ["# Command line\n"]
    for program, app in (("cdslm-eval", eval_app), ("cdslm", model_app)):
        for path, command in commands(typer.main.get_command(app), (program,)):
            context = click.Context(command, info_name=" ".join(path))
            usage = " ".join(piece for piece in command.collect_usage_pieces(context))
            parts.append(f"\n{'#' * (1 + min(len(path), 3))} {' '.join(path)}\n\n```\n{' '.join(path)} {usage}\n```\n")
            parts.append(f"\n{paragraphs(command.help or '')}\n")
            if example := EXAMPLES.get(" ".join(path[1:])) if program == "cdslm-eval" else None:
                parts.append(f"\n```\n{example}\n```\n")
            rows = [row for parameter in command.params if (row := option_row(parameter))]
            if rows:
                parts.append("\n| option | meaning | default |\n|---|---|---|\n" + "".join(rows))
    return "".join(parts)


def paragraphs(text: str) -> str:
    """Return help as markdown; click keeps lines below a form feed-like mark as they are."""
    return text.replace("\b", "").replace("\f", "").replace("<", "&lt;")


def option_row(parameter: click.Parameter) -> str:
    """Return a table row for an option or argument, or nothing where it has no help."""
    text = getattr(parameter, "help", None)
    if not text or getattr(parameter, "hidden", False) or parameter.name == "help":
        return ""
    names = ", ".join(f"`{name}`" for name in parameter.opts) if parameter.opts else f"`{parameter.name}`"
    default = parameter.default
    shown = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    return f"| {names} | {' '.join(text.split()).replace('|', chr(92) + '|').replace('<', '&lt;')} | {shown} |\n"


def python_page() -> str:
    """Return the reference of every public name, from its docstring."""
    parts = ["# Python\n\nEvery name can be imported from `cdslm_eval`; heavy modules load on first use.\n"]
    parts += [f"\n::: cdslm_eval.{name}\n" for name in cdslm_eval.__all__ if not name.startswith("__")]
    return "".join(parts)


def plugin_page() -> str:
    """Return the directory of our plugins: what each provides, and its own page below."""
    host = Host()
    parts = ["# Plugins\n\nOur own distributions. Any other is a package with an entry point in `cdslm_eval`.\n"]
    parts.append("\n" + plugin_directory(host))
    parts.append("\n`cdslm-eval plugins --markdown` prints this table for what is installed elsewhere.\n")
    details = []
    for folder in sorted((ROOT / "plugins").iterdir()):
        if not (folder / "pyproject.toml").is_file():
            continue
        project = re.search(r'^name = "(.+)"', (folder / "pyproject.toml").read_text(), re.MULTILINE)
        assert project is not None
        anchor = project[1]
        readme = (folder / "README.md").read_text()
        body = re.sub(r"^# .*$", f"## {anchor} {{ #{anchor} }}", readme, count=1, flags=re.MULTILINE)
        body = re.sub(r"\]\((?:\.\./)+README\.md\)", "](index.md)", body)
        details.append("\n" + re.sub(r"\]\((?!https?:|#)[^)]*?(docs/)?([\w-]+\.md)([^)]*)\)", r"](\2\3)", body))
    return "".join(parts + details)


def metric_page() -> str:
    """Return a table of our metrics, from what each declares and from recorded rates."""
    parts = [
        "# Which metric for what\n\nFrom what each metric declares; arrows point to the better side. ",
        "A value of sound quality cannot tell whether the words make sense, and ",
        "[pJSD](reading-pjsd.md) cannot tell whether the voice sounds natural: report one of each. ",
        "[Metrics](metrics.md) shows what each value reacts to on real speech.\n\n",
        "Cost: seconds of one CPU core for a clip of 10 s (`cdslm-eval bench`, `benchmarks/results/rates.json`), ",
        "with default options. What reads phones or words has the cost of recognizing them besides, once for all ",
        "metrics of a run.\n\n| metric | what it measures | what it cannot tell | unit | cost | needs | licence |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    costs, reasons = recorded_costs()
    for name, registered in sorted(Host().registered("metric").items()):
        metric = registered.component
        arrow = {"lower": " ↓", "higher": " ↑"}.get(metric.better, "")
        summary = (metric.__doc__ or "").strip().splitlines()[0] if metric.__doc__ else ""
        licence = metric.licence or declared_licence(registered.owner.distribution)
        weights = f", weights {metric.weights_licence}" if metric.weights_licence else ""
        needs = ", ".join(sorted(metric.needs))
        upstream = "".join(
            f" + {provider} {cost_text(costs[provider])}"
            for feature, provider in UPSTREAM.items()
            if feature in metric.needs
        )
        cost = cost_text(costs[name]) + upstream if name in costs else f"not measured: {reasons.get(name, 'unknown')}"
        cells = (f"`{name}`{arrow}", summary, metric.limits, metric.unit, cost, needs, licence + weights)
        parts.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |\n")
    return "".join(parts)


def recorded_costs() -> tuple[dict[str, float], dict[str, str]]:
    """Return seconds of a core per clip by metric, recognizer and transcriber, and why others have none."""
    recorded = json.loads((ROOT / "benchmarks" / "results" / "rates.json").read_text(encoding="utf-8"))
    costs = {rate["name"]: rate["cpu_s_per_clip"] for rate in recorded["rates"] if rate["device"] == "cpu"}
    return costs, {entry["name"]: entry["reason"] for entry in recorded["unmeasured"]}


def cost_text(seconds: float) -> str:
    """Return a cost with two digits, without a long tail of zeros."""
    return "under 0.001 s" if seconds < 0.001 else f"{float(f'{seconds:.2g}'):g} s"


def first_page() -> str:
    """Return the README with its links turned to pages of the site."""
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"\[docs/([^\]]*)\]\(docs/", r"[\1](", text)
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]*)\]\((?:CONTRIBUTING\.md|CITATION\.cff)\)", r"`\1`", text)


write("index.md", first_page())
write("choosing.md", metric_page())
write("plugins.md", plugin_page())
write("reference/cli.md", command_page())
write("reference/python.md", python_page())
gallery, linked = page_and_files(CACHE)
write("gallery.md", gallery)
for name, source in linked.items():
    with mkdocs_gen_files.open(name, "wb") as file:
        file.write(source.read_bytes())
