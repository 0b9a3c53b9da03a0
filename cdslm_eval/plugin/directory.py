"""A directory of the installed plugins as Markdown: what each provides, under which licences, and what it needs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata

from cdslm_eval.plugin.catalogue import how_to_install
from cdslm_eval.plugin.host import KINDS, Host, Registered

__all__ = ["declared_licence", "plugin_directory"]

_COLUMNS = ("plugin", "what it is", "provides", "licence", "weights", "install")


def plugin_directory(host: Host) -> str:
    """Return a Markdown table of the distributions whose plugins work here, the package itself left out."""
    owned: dict[str, list[tuple[str, str, Registered]]] = {}
    for kind in KINDS:
        for name, registered in host.registered(kind).items():
            owned.setdefault(registered.owner.distribution, []).append((kind, name, registered))
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for distribution, components in sorted(owned.items()):
        if distribution != "cdslm-eval":
            lines.append("| " + " | ".join(_row(distribution, components)) + " |")
    return "\n".join(lines) + "\n"


def _row(distribution: str, components: list[tuple[str, str, Registered]]) -> tuple[str, ...]:
    provides, weights = [], []
    for kind, name, registered in components:
        component = registered.component
        provides.append(f"{kind} `{name}`{' (needs a GPU)' if component.needs_gpu else ''}")
        if component.weights_licence:
            weights.append(f"`{name}`: {_cell(component.weights_licence)}")
    version = components[0][2].owner.version
    return (
        f"{distribution} {_cell(version)}",
        _cell(_declared(distribution, "Summary")),
        ", ".join(provides),
        _cell(declared_licence(distribution)) or "not declared",
        "; ".join(weights) or "none",
        f"`{_cell(how_to_install(distribution).partition(' (')[0])}`",
    )


def declared_licence(distribution: str) -> str:
    """Return the licence that a distribution declares, or ""."""
    text = _declared(distribution, "License-Expression") or _declared(distribution, "License")
    return text.strip().partition("\n")[0]


def _declared(distribution: str, field: str) -> str:
    try:
        declared = metadata(distribution)
    except PackageNotFoundError:
        return ""
    return str(declared[field]) if field in declared else ""


def _cell(text: str) -> str:
    """Return a third party's text as one cell that is neither markup nor a cell of its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
