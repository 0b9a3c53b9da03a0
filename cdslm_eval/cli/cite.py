"""`cdslm-eval cite`: what to cite with a number, as BibTeX."""

from __future__ import annotations

from typing import Annotated

import typer

from cdslm_eval.cli import common, completion

__all__ = ["add_to"]

_KINDS = ("metric", "recognizer", "transcriber", "law")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="cite")(cite)


def cite(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=completion.of_kind(*_KINDS),
            help="Metrics, recognizers, transcribers or laws; none: this package alone.",
        ),
    ] = None,
) -> None:
    """Print BibTeX for this package and for what the named metrics rest on.

    A metric that declares no paper is named on stderr. Results hold the same entries, with those of the recognizer
    that was used, under "quote".
    """
    from cdslm_eval import __version__
    from cdslm_eval.core.citation import bibliography, package_citation
    from cdslm_eval.plugin.host import Host

    citations = [package_citation(__version__)]
    if names:
        host = Host()
        for name in names:
            component = host.find_any(_KINDS, name).component
            citations += component.citation
            if not component.citation:
                common.note(f"note: {name} declares no paper; cite this package, or see its owner")
    common.write_text("-", bibliography(citations) + "\n")
