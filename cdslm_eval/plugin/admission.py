"""Admission: why an import, a hook or a component class of a plugin cannot be used, charged to who caused it."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.errors import did_you_mean
from cdslm_eval.plugin.catalogue import how_to_install
from cdslm_eval.plugin.contract import Component, Generator, Measurer, Metric, Recognizer, Transcriber
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.plugin.failures import describe, own_package, plugin_frame
from cdslm_eval.plugin.law import LawForm

__all__ = ["CLIP_PARTS", "KINDS", "complaint", "import_problem"]

KINDS: Mapping[str, tuple[str, type[Component]]] = {
    "metric": ("cdslm_metrics", Metric),
    "recognizer": ("cdslm_recognizers", Recognizer),
    "transcriber": ("cdslm_transcribers", Transcriber),
    "generator": ("cdslm_generators", Generator),
    "executor": ("cdslm_executors", Executor),
    "law": ("cdslm_laws", LawForm),
}
CLIP_PARTS = (
    *("audio", "text", "phones", "transcript", "speaker", "language"),
    *("reference_audio", "reference_text", "prompt_seconds"),
)
"""What `needs`, `wants` and a generator's `prompts` may name."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def import_problem(error: BaseException, module: str, distribution: str) -> tuple[str, str]:
    """Return why a plugin's module cannot be imported, and the command that fixes it ("" where none is known).

    The command names the plugin's own distribution or a requirement that it declared, never a distribution guessed from
    the name of a module: whoever registers that name would be installed.

    Args:
        error: What the import raised.
        module: Name of the module in the entry point.
        distribution: The distribution that declared the entry point.
    """
    own = own_package(module)
    if not (isinstance(error, ModuleNotFoundError) and error.name):
        return f"cannot be loaded: {describe(error, module)}", how_to_install(distribution)
    absent = error.name.partition(".")[0]
    if absent == own.partition(".")[0]:
        problem = f"cannot be loaded: its own module {error.name!r} is missing, so its installation is incomplete"
        return problem, how_to_install(distribution)
    describe(error, module)  # shows the traceback under --debug
    importer, at = _importer(error, own, distribution)
    problem = f"cannot be loaded: the module {error.name!r} is missing, which {importer} imports at {at}"
    if requirement := _declared(importer, absent):
        return f"{problem} and declares as a requirement", f"pip install {requirement!r}"
    return f"{problem} and does not declare as a requirement; report it to the authors of {importer}", ""


def _importer(error: BaseException, own: str, distribution: str) -> tuple[str, str]:
    """Return the distribution whose line imports what is missing, and that line as "package/file.py:number"."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [name for name in names if not name.startswith(("importlib", "_frozen_importlib", "cdslm_eval.plugin"))]
    package = modules[-1].partition(".")[0] if modules else own
    if package == own.partition(".")[0] or package not in (owners := packages_distributions()):
        return distribution, plugin_frame(error, package) or package
    return owners[package][0], plugin_frame(error, package)


def _declared(distribution: str, module: str) -> str:
    """Return the requirement of a distribution whose name is that of a module, or its extra that has it; else ""."""
    try:
        declared = requires(distribution) or []
    except PackageNotFoundError:
        return ""
    for requirement in declared:
        match = _REQUIREMENT.match(requirement)
        if match and _normal(match[1]) == _normal(module):
            extra = _EXTRA.search(requirement)
            return f"{distribution}[{extra[1]}]" if extra else requirement.partition(";")[0].strip()
    return ""


def _normal(name: str) -> str:
    """Return a name as package indexes compare them: case and separators do not count."""
    return re.sub(r"[-_.]+", "-", name).lower()


def complaint(component: object, kind: str, wanted: type[Component]) -> str:
    """Return why something is not a complete component class of its kind, or ""."""
    if not (isinstance(component, type) and issubclass(component, wanted)):
        return f"not a subclass of {wanted.__name__}"
    if inspect.isabstract(component):
        return f"it does not define {', '.join(sorted(component.__abstractmethods__))}"
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"its name {name!r} is not lower-case letters, digits, '_' and '-'"
    if not isinstance(component.version, str) or not component.version:
        return "its version is not a string such as '1'"
    lacks = {
        "metric": ("statistics", "it has no statistics, so its rows give no value"),
        "recognizer": ("inventory", "it does not name its phone inventory"),
    }
    attribute, sentence = lacks.get(kind, ("name", ""))
    if not getattr(component, attribute, None):
        return sentence
    return _parts_problem(component) or _options_problem(component) or _citation_problem(component)


def _citation_problem(component: type[Component]) -> str:
    """Return why its citations cannot be printed, or ""."""
    declared: Any = component.citation
    if isinstance(declared, tuple) and all(isinstance(citation, Citation) for citation in declared):
        return ""
    return f"its citation {declared!r} is not a tuple of Citation"


def _parts_problem(component: type[Component]) -> str:
    """Return which declared part of a clip does not exist, or ""."""
    declared = ("needs", "wants") if issubclass(component, Measurer) else ("prompts",)
    for attribute in declared:
        parts: Any = getattr(component, attribute, frozenset())
        if isinstance(parts, str) or not isinstance(parts, Iterable):
            return f"its {attribute} {parts!r} is not a set such as {{'audio'}}"
        for part in parts:
            if part not in CLIP_PARTS:
                hint = did_you_mean(str(part), CLIP_PARTS)
                return f"its {attribute} names {part!r}, which no clip carries.{hint} Known: {', '.join(CLIP_PARTS)}"
    return ""


def _options_problem(component: type[Component]) -> str:
    """Return which option cannot be part of an identity, which is JSON, or ""."""
    options: Any = component.Options
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        return f"its Options {options!r} is not a pydantic model"
    for name, field in options.model_fields.items():
        if field.exclude or field.is_required():
            continue
        try:
            to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
        except (PydanticSerializationError, ValueError) as error:
            return f"the default of its option {name!r} cannot be written as JSON: {error}"
    return ""
