"""Write a complete small plugin distribution: code that works, its tests, its metadata."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cdslm_eval.core.errors import UsageError

__all__ = ["KINDS", "Plan", "write_plugin"]

KINDS = ("metric", "generator", "recognizer")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Plan:
    """Name, kind and folder of a new distribution.

    Attributes:
        name: Name of the component: lower case, letters, digits, "_" and "-".
        kind: One of `KINDS`.
        folder: Folder of the new distribution; must not exist yet, or be empty.
    """

    name: str
    kind: str
    folder: Path

    @property
    def distribution(self) -> str:
        """Name for pip."""
        return f"cdslm-eval-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """Name for import."""
        return f"cdslm_eval_{self.name.replace('-', '_')}"

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return "".join(part.capitalize() for part in re.split("[-_]", self.name)) + (
            "" if self.kind == "metric" else self.kind.capitalize()
        )


def write_plugin(plan: Plan) -> list[Path]:
    """Write the distribution and return its files.

    Raises:
        UsageError: The name is not valid, or the folder is not empty.
    """
    from jinja2 import Environment, StrictUndefined

    if not _NAME.fullmatch(plan.name) or keyword.iskeyword(plan.package):
        near = re.sub(r"[^a-z0-9_-]+", "-", plan.name.lower()).strip("-_0123456789")
        hint = f" Did you mean {near!r}?" if _NAME.fullmatch(near) else ""
        raise UsageError(f"{plan.name!r} cannot name a {plan.kind}: lower-case letters, digits, '_' and '-'.{hint}")
    if plan.folder.exists() and (not plan.folder.is_dir() or any(plan.folder.iterdir())):
        raise UsageError(f"{plan.folder} exists already. Use: another name, or --into another folder")
    # autoescape is for HTML; what is written here is Python and TOML, and names are checked above
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    templates = files(__name__) / "templates"
    facts = {
        "name": plan.name,
        "kind": plan.kind,
        "distribution": plan.distribution,
        "package": plan.package,
        "class_name": plan.class_name,
    }
    made = []
    for template, target in {
        "pyproject.toml.jinja": "pyproject.toml",
        "README.md.jinja": "README.md",
        f"{plan.kind}.py.jinja": f"{plan.package}/__init__.py",
        "ci.yml.jinja": ".github/workflows/tests.yml",
        # named after the package: two plugins' tests in one pytest call must not share a module name
        "test_contract.py.jinja": f"tests/test_{plan.package}_contract.py",
        f"test_{plan.kind}.py.jinja": f"tests/test_{plan.package}.py",
    }.items():
        path = plan.folder / target
        text = environment.from_string((templates / template).read_text(encoding="utf-8")).render(facts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
        made.append(path)
    return made
