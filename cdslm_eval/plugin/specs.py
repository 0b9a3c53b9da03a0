"""Component specs as text: splits lists of them, and loads `FILE.py:CLASS`, a component that no package holds."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.plugin.contract import Component

__all__ = ["FileSpec", "code_digest", "load_class", "split_specs"]

_FILE = re.compile(r"(?P<file>(?:[A-Za-z]:[\\/])?[^:]+?\.py)(?::(?P<name>[A-Za-z_]\w*))?(?::(?P<rest>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A spec such as `./my_metric.py:Silence:threshold=3`.

    Attributes:
        path: The file.
        name: The class; "" where the file is to hold one alone.
        rest: Its options as text.
    """

    path: Path
    name: str
    rest: str

    @classmethod
    def parse(cls, spec: str) -> FileSpec | None:
        """Return a spec that names a file, or None."""
        match = _FILE.fullmatch(spec)
        return cls(Path(match["file"]), match["name"] or "", match["rest"] or "") if match else None


def split_specs(text: str, known: Sequence[str]) -> list[str]:
    """Split "a:x=1,y=2,b" at the commas that a known name or a file follows; others belong to the options before them.

    Args:
        text: Specs with commas between them.
        known: The names that exist.

    Raises:
        UsageError: There is nothing between two commas.
    """
    specs: list[str] = []
    for part in text.split(","):
        name = part.strip().partition(":")[0]
        starts = name in known or name.endswith(".py")
        if specs and not starts and ("=" in part or ":" in specs[-1]):
            specs[-1] += f",{part}"
        else:
            specs.append(part.strip())
    if not all(specs):
        raise UsageError(f"--metrics {text!r}: an empty name between commas")
    return specs


def load_class(spec: FileSpec, base: type[Component]) -> tuple[type[Component], str]:
    """Return the class that a spec names, and the digest of its file.

    The file is run as a module of its own. What it imports must be installed: a file beside it is not found, and would
    not be part of its identity.

    Args:
        spec: The file and the class.
        base: What the class must be.

    Raises:
        UsageError: The file is absent or cannot be run, or there is no such class in it; the message names the line.
    """
    path = spec.path
    try:
        text = path.read_bytes()
    except OSError as error:
        folder = path.parent
        near = did_you_mean(path.name, [p.name for p in folder.glob("*.py")]) if folder.is_dir() else ""
        raise UsageError(f"{path}: cannot be read: {error.strerror}.{near}") from error
    digest = hashlib.sha256(text).hexdigest()
    module = _module(path, digest)
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    }
    what = base.__name__
    if spec.name:
        if spec.name not in classes:
            hint = did_you_mean(spec.name, classes) or f" It has: {', '.join(classes) or f'no {what}'}."
            raise UsageError(f"{path}: there is no {what} {spec.name!r} in it.{hint}")
        return classes[spec.name], digest
    if len(classes) != 1:
        names = f"; name one of {', '.join(classes)}" if classes else ""
        raise UsageError(f"{path}: holds {len(classes)} subclasses of {what}{names} as {path}:CLASS")
    return next(iter(classes.values())), digest


def _module(path: Path, digest: str) -> ModuleType:
    """Run a file as a module, once for each content."""
    import cloudpickle

    name = f"cdslm_eval_file_{re.sub(r'[^a-z0-9]', '_', path.stem.lower())}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # for a name that ends with .py there is one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{path}, {_line_of(error, path)}") from error
    # its classes travel to worker processes as they are: no worker could import the module by its name
    cloudpickle.register_pickle_by_value(module)
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Return the line of a file that an error comes from, and the error."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == path:
        return f"line {error.lineno}: {error.msg}"
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f"line {lines[-1] if lines else '?'}: {type(error).__name__}: {error}"


def code_digest(component: Component) -> str:
    """Return a digest of the code and state of a component whose class no plugin registered.

    A class of an importable module is as its file is. A class of a notebook, a script or a function is as it can be
    sent to another process: with what it refers to, so that a changed helper makes other numbers under another
    identity. That digest differs from session to session.
    """
    import cloudpickle

    owner = type(component)
    module = sys.modules.get(owner.__module__)
    importable = owner.__module__ != "__main__" and "<locals>" not in owner.__qualname__
    file = inspect.getsourcefile(module) if module is not None and importable else None
    code = Path(file).read_bytes() if file and Path(file).is_file() else cloudpickle.dumps(owner)
    digest = hashlib.sha256(code)
    if state := {name: value for name, value in vars(component).items() if name not in ("options", "code")}:
        digest.update(cloudpickle.dumps(sorted(state.items())))
    return digest.hexdigest()
