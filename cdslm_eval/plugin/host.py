"""Finds plugins, isolates each one's faults, and creates their components; the only file that manages pluggy."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from cdslm_eval.core.defaults import RECOGNIZER, TRANSCRIBER
from cdslm_eval.core.errors import PluginError, UnknownNameError, UsageError, did_you_mean
from cdslm_eval.plugin import hookspecs
from cdslm_eval.plugin.admission import KINDS, complaint, import_problem
from cdslm_eval.plugin.catalogue import OWN_PLUGINS, how_to_install, owner_of
from cdslm_eval.plugin.contract import Component, Measurer, Transcriber
from cdslm_eval.plugin.failures import describe
from cdslm_eval.plugin.recognition import default_recognizer
from cdslm_eval.plugin.specs import FileSpec, code_digest, load_class

__all__ = ["GROUP", "KINDS", "Host", "Plugin", "Registered", "complaint", "transcriber_for"]

GROUP = "cdslm_eval"
PIN = "CDSLM_EVAL_PLUGINS"
BUILT_IN = {
    "metrics": "cdslm_eval.builtin.metrics",
    "recognizers": "cdslm_eval.builtin.recognizers",
    "generators": "cdslm_eval.builtin.generators",
    "executors": "cdslm_eval.run.executors",
    "laws": "cdslm_eval.builtin.laws",
}
_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)


@dataclass(slots=True)
class Plugin:
    """The state of one plugin.

    Attributes:
        name: "distribution:entry".
        distribution, version: Where it comes from.
        problems: What went wrong, in sentences; empty when all is well.
        fix: The command that repairs it, or "" where none is known.
        provides: Kind -> names of what it registered.
    """

    name: str
    distribution: str
    version: str
    problems: list[str] = field(default_factory=list)
    fix: str = ""
    provides: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registered:
    """A component and the plugin that owns it."""

    component: type[Any]
    owner: Plugin


class Host:
    """All plugins of this environment.

    One that cannot be loaded, or breaks the contract, is kept as data in `plugins`; it stops nothing else.

    Args:
        pinned: Names of the plugins to load besides the built-in ones ("distribution" or "distribution:entry");
            None takes `$CDSLM_EVAL_PLUGINS` (a comma-separated list; empty loads none), and without it all.
    """

    def __init__(self, pinned: Iterable[str] | None = None) -> None:
        if pinned is None and PIN in os.environ:
            pinned = [name.strip() for name in os.environ[PIN].split(",") if name.strip()]
        self.plugins: list[Plugin] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._found: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        self._refused: dict[tuple[str, str], str] = {}
        for name, module in BUILT_IN.items():
            self._admit(Plugin(f"cdslm-eval:{name}", "cdslm-eval", _own_version()), module)
        self._discover(None if pinned is None else list(pinned))

    def _discover(self, pinned: list[str] | None) -> None:
        entries = sorted(entry_points(group=GROUP), key=lambda entry: (_distribution(entry)[0], entry.name))
        for entry in entries:
            distribution, version = _distribution(entry)
            names = {distribution, f"{distribution}:{entry.name}"}
            if pinned is not None and not names & set(pinned):
                continue
            self._admit(Plugin(f"{distribution}:{entry.name}", distribution, version), entry)
        known = {name for plugin in self.plugins for name in (plugin.name, plugin.distribution)}
        installed = {name for entry in entries for name in (_distribution(entry)[0],)}
        for name in sorted(set(pinned or ()) - known):
            distribution = name.partition(":")[0]
            problem = f"{PIN} names it, but it is not installed.{did_you_mean(distribution, installed)}"
            # only a name that is known to be ours is worth a pip line: a misspelt one may belong to anybody
            fix = how_to_install(distribution) if distribution in OWN_PLUGINS else ""
            self.plugins.append(Plugin(name, distribution, "", [problem], fix))

    def _admit(self, plugin: Plugin, where: EntryPoint | str) -> None:
        """Load one plugin and collect its components; whatever goes wrong stays with it."""
        self.plugins.append(plugin)
        try:
            module = import_module(where) if isinstance(where, str) else where.load()
            self._manager.register(module, name=plugin.name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a third-party import may raise anything
            module_name = where if isinstance(where, str) else where.module
            problem, plugin.fix = import_problem(error, module_name, plugin.distribution)
            plugin.problems.append(problem)
            return
        for caller in self._manager.get_hookcallers(module) or ():
            if not caller.has_spec():
                hooks = [hook for hook, _ in KINDS.values()]
                plugin.problems.append(f"there is no hook {caller.name!r}.{did_you_mean(caller.name, hooks)}")
        for kind, (hook, wanted) in KINDS.items():
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                if implementation.plugin_name == plugin.name:
                    self._collect(plugin, kind, wanted, implementation)
        if plugin.problems and not plugin.fix:
            plugin.fix = how_to_install(plugin.distribution)

    def _collect(self, plugin: Plugin, kind: str, wanted: type[Component], implementation: pluggy.HookImpl) -> None:
        hook = KINDS[kind][0]
        try:
            components: list[Any] = list(implementation.function())  # type: ignore[call-overload]  # pluggy: object
        except Exception as error:  # noqa: BLE001 - a third-party hook may raise anything
            module = getattr(implementation.function, "__module__", "") or ""
            plugin.problems.append(f"its hook {hook} raised {describe(error, module)}")
            return
        for component in components:
            if problem := complaint(component, kind, wanted):
                plugin.problems.append(f"its hook {hook} returned {component!r}: {problem}")
                continue
            self._register(plugin, kind, component)

    def _register(self, plugin: Plugin, kind: str, component: type[Component]) -> None:
        """Register a component; a name that two plugins claim belongs to neither, a built-in keeps its own."""
        name = component.name
        other = self._found[kind].get(name)
        if other is None and (kind, name) not in self._refused:
            self._found[kind][name] = Registered(component, plugin)
            plugin.provides.setdefault(kind, []).append(name)
            return
        first = other.owner.name if other else "another plugin"
        sentence = f"the {kind} name {name!r} is claimed by {first} and by {plugin.name}"
        plugin.problems.append(f"{sentence}; pin one of them with {PIN}")
        plugin.fix = plugin.fix or f"pip uninstall {plugin.distribution}"
        if other is not None and other.owner.distribution != "cdslm-eval":
            del self._found[kind][name]
            other.owner.provides[kind].remove(name)
            other.owner.problems.append(f"{sentence}; pin one of them with {PIN}")
            self._refused[kind, name] = sentence

    def versions(self) -> dict[str, str]:
        """Return the version of each plugin that loaded without a problem, by name."""
        return {plugin.name: plugin.version for plugin in self.plugins if not plugin.problems}

    def registered(self, kind: str) -> dict[str, Registered]:
        """Return the components of a kind ("metric", "recognizer", "generator", "executor"), by name."""
        return dict(sorted(self._found[kind].items()))

    def find(self, kind: str, name: str) -> Registered:
        """Return a component by name.

        Raises:
            UnknownNameError: Nothing provides it; the message names the plugin that would, or which broken one may.
            UsageError: Two plugins claim the name.
        """
        if (kind, name) in self._refused:
            raise UsageError(f"{self._refused[kind, name]}; pin one of them with {PIN}")
        if name not in self._found[kind]:
            raise UnknownNameError(kind, name, self._found[kind], self.absence(kind, name))
        return self._found[kind][name]

    def find_any(self, kinds: Sequence[str], name: str) -> Registered:
        """Return the component of the first of several kinds that has a name.

        Raises:
            UnknownNameError: None of them has; the message names what would provide it.
        """
        for kind in kinds:
            if name in self._found[kind]:
                return self._found[kind][name]
        known = [other for kind in kinds for other in self._found[kind]]
        reasons = filter(None, (self.absence(kind, name) for kind in kinds if owner_of(kind, name)))
        raise UnknownNameError(kinds[0], name, known, next(reasons, ""))

    def absence(self, kind: str, name: str) -> str:
        """Return why a component may be missing: its plugin is not installed, or is broken; "" where nothing is known.

        A plugin that could not be loaded cannot report what it would have provided, so every broken one is reported.
        """
        owner = owner_of(kind, name)
        broken = [plugin for plugin in self.plugins if plugin.problems and owner in ("", plugin.distribution)]
        if owner and not broken:
            pinned = " (or add it to CDSLM_EVAL_PLUGINS)" if PIN in os.environ else ""
            return f"{name} is in {owner}. Install: {how_to_install(owner)}{pinned}"
        sentences = []
        for plugin in broken:
            fix = f" Fix: {plugin.fix}" if plugin.fix else ""
            problem = plugin.problems[0].rstrip(".")
            sentences.append(f"The plugin {plugin.name} may provide it, but is broken: {problem}.{fix}")
        return " ".join(sentences)

    def make(self, kind: str, spec: str) -> Any:
        """Return an instance from a name with options: `name`, `name:value` or `name:key=value,key=value`.

        A class from a file takes the place of a name: `FILE.py:CLASS`, with options after another colon. The
        recognizer "auto" is the first of the default ones that can be used here.

        Raises:
            UsageError: The name is unknown, an option is, or its value does not fit.
        """
        if file := FileSpec.parse(spec):
            component, digest = load_class(file, KINDS[kind][1])
            if reason := complaint(component, kind, KINDS[kind][1]):
                line = inspect.getsourcelines(component)[1]
                raise UsageError(f"{file.path}, line {line}: {component.__name__}: {reason}")
            made = _instance(kind, component, _options(component, spec, file.rest), spec, str(file.path))
            made.code = digest
            return made
        if kind == "recognizer" and spec == RECOGNIZER:
            spec = default_recognizer(self)
        name, _, rest = spec.partition(":")
        return self.build(kind, name, _options(self.find(kind, name).component, spec, rest), spec)

    def build(self, kind: str, name: str, options: Mapping[str, Any], spec: str = "") -> Any:
        """Return an instance from a name and its options.

        Args:
            kind: What it is.
            name: Its name.
            options: Its options by name.
            spec: How the user wrote it, for messages.

        Raises:
            UsageError: The name is unknown, an option is, or its value does not fit.
            PluginError: The plugin takes an option that cannot be written as JSON.
        """
        registered = self.find(kind, name)
        return _instance(kind, registered.component, options, spec or name, registered.owner.name)

    def resolve(self, kind: str, component: str | Component | type[Component]) -> Any:
        """Return an instance of what Python code names: a spec, a class or an instance, registered or not.

        Args:
            kind: What it is.
            component: A spec as for `make`, an instance, or a class whose options all have defaults.

        Raises:
            UsageError: It is no complete component of its kind, or cannot be used here.
        """
        if isinstance(component, str):
            return self.make(kind, component)
        owner = component if isinstance(component, type) else type(component)
        if reason := complaint(owner, kind, KINDS[kind][1]):
            raise UsageError(f"{getattr(owner, '__name__', owner)}: no {kind}: {reason}")
        made = (
            _instance(kind, owner, {}, owner.name, owner.__name__) if isinstance(component, type) else copy(component)
        )
        known = self._found[kind].get(owner.name)
        if known is None or known.component is not owner:
            made.code = code_digest(made)
        return made


def _instance(kind: str, component: type[Component], options: Mapping[str, Any], spec: str, owner: str) -> Any:
    """Return an instance of a class, or raise with the option that is wrong, and whose fault it is."""
    if reason := component.missing():
        raise UsageError(f"{kind} {component.name!r} cannot be used here: {reason}")
    try:
        made = component(component.Options(**options))
        made.options.model_dump(mode="json")
    except PydanticSerializationError as error:
        raise PluginError(f"{spec!r}: {owner} takes an option that cannot be written as JSON: {error}") from error
    except ValidationError as error:
        known = list(component.Options.model_fields)
        first = error.errors()[0]
        field_name = ".".join(str(part) for part in first["loc"])
        hint = did_you_mean(field_name, known) if first["type"] == "extra_forbidden" else ""
        message = "is not an option" if first["type"] == "extra_forbidden" else str(first["msg"])
        # a rule over several options belongs to none of them
        where = f"{field_name}: " if field_name else ""
        message = message.removeprefix("Value error, ")
        raise UsageError(f"{spec!r}: {where}{message}.{hint} Options: {', '.join(known) or 'none'}.") from error
    return made


def transcriber_for(
    measurers: Sequence[Measurer], host: Host, spec: str | Transcriber | type[Transcriber] | None
) -> Transcriber | None:
    """Return the transcriber that a run needs, or None where nothing reads a transcript.

    Raises:
        UsageError: One is needed, none was named, and the usual one is not installed; or a measurer refuses it.
    """
    readers = [measurer for measurer in measurers if "transcript" in {*measurer.needs, *measurer.wants}]
    if not readers:
        return None
    if spec is None and TRANSCRIBER not in host.registered("transcriber"):
        raise UsageError(
            f"{readers[0].name} reads transcripts: name a transcriber with --transcriber. "
            f"{host.absence('transcriber', TRANSCRIBER)}"
        )
    transcriber: Transcriber = host.resolve("transcriber", spec or TRANSCRIBER)
    for measurer in readers:
        measurer.check_transcriber(transcriber)
    return transcriber


def _options(component: type[Component], spec: str, rest: str) -> dict[str, Any]:
    """Split "value,key=value"; what is not key=value belongs to the positional option, commas and all."""
    options: dict[str, Any] = {}
    loose: list[str] = []
    unknown: list[str] = []
    for part in rest.split(",") if rest else ():
        match = _OPTION.fullmatch(part)
        if match and (match[1] in component.Options.model_fields or not component.positional):
            options[match[1]] = match[2].strip()
            continue
        loose.append(part)
        if match:
            unknown.append(match[1])
    if loose:
        if not component.positional:
            raise UsageError(f"{spec!r}: options are written as key=value, {loose[0]!r} is not")
        value = ",".join(loose)
        # a file may be called "a=b"; what names no file is a misspelt option
        if unknown and not Path(value).exists():
            known = component.Options.model_fields
            hint = did_you_mean(unknown[0], known) or f" Options: {', '.join(known)}."
            raise UsageError(f"{spec!r}: {unknown[0]}: is not an option.{hint}")
        options[component.positional] = value
    return options


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    dist = entry.dist
    return (dist.name, dist.version) if dist is not None else ("unknown", "")


def _own_version() -> str:
    from cdslm_eval import __version__

    return __version__
