"""`-q`, `-v` and `--debug` of every model's command line, wherever they stand."""

from __future__ import annotations

import logging
import sys

import pytest
import typer

from cdslm_model.cli import run_app
from cdslm_model.plugin.verbosity import VERBOSITY, is_quiet


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs a command line of one command, and returns its exit code and what it prints."""
    app = typer.Typer()

    @app.command()
    def work(text: str) -> None:
        logging.getLogger("cdslm_model.train").info("on the CPU")
        typer.echo(f"{text} quiet={is_quiet()}")

    def run(*arguments):
        monkeypatch.setenv(VERBOSITY, "")
        monkeypatch.setattr(sys, "argv", ["program", *arguments])
        with pytest.raises(SystemExit) as end:
            run_app(app, "program")
        return end.value.code, capsys.readouterr()

    yield run
    for name in ("cdslm_eval", "cdslm_model", __name__.partition(".")[0]):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_quiet_and_verbose_stand_anywhere_and_exclude_each_other(call):
    assert call("a")[1] == ("a quiet=False\n", "")
    assert call("a", "-q")[1].out == call("--quiet", "a")[1].out == "a quiet=True\n"
    code, printed = call("a", "-v")
    assert (code, printed.out) == (0, "a quiet=False\n")
    assert printed.err.rstrip().endswith("ms  on the CPU")
    code, printed = call("-v", "a", "-q")
    assert (code, printed.out) == (2, "")
    assert printed.err == "program: --quiet and --verbose: use one of them\n"
