"""The command line of the model: one file a command group; torch is imported inside commands only."""

from __future__ import annotations

import typer

from cdslm_model.cli import facts, generate, prepare, train, validate, vocoder
from cdslm_model.cli.shared import named_settings, run_app, run_until_stopped

__all__ = ["app", "main", "named_settings", "run_app", "run_until_stopped"]

app = typer.Typer(
    name="cdslm",
    help="The continuous diffusion spoken language model: prepare speech, train, generate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="-q prints no progress, -v more of what is done, --debug the traceback of an error; all may stand anywhere.",
)
for group in (prepare, train, validate, generate, vocoder, facts):
    group.add_to(app)


@app.callback()
def _root() -> None:
    """The commands share no options."""


def main() -> None:
    """Run `cdslm`; see `run_app` for the exit codes."""
    run_app(app, "cdslm")
