"""A check: a name, what it demands, and the function that demands it."""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval.plugin.contract import Component

__all__ = ["HEAVY", "Bound", "Check", "ConformanceError", "bind", "demand", "in_time", "made", "no_heavy_import"]

HEAVY = ("torch", "transformers", "tensorflow", "jax", "onnxruntime", "librosa", "numba", "sklearn")
"""Libraries that a hook module must leave to `open`: every command imports every plugin's hook module."""

Subject = Component | type[Component] | Callable[[], Component]


class ConformanceError(AssertionError):
    """A component does not keep the contract; the message names the part and what was observed."""


def demand(condition: bool, sentence: str) -> None:
    """Raise `ConformanceError` with the sentence unless the condition holds."""
    if not condition:
        raise ConformanceError(sentence)


def made(subject: Any) -> Any:
    """Return an instance of what is tested: a class with default options, an instance, or a maker of one."""
    if isinstance(subject, Component):
        return subject
    component = subject()
    demand(isinstance(component, Component), f"{subject!r} gave {component!r}, which is no Component")
    return component


@dataclass(frozen=True)
class Check:
    """One demand on a component.

    Attributes:
        name: Short, for test ids.
        function: Called with an instance; raises `ConformanceError`.
    """

    name: str
    function: Callable[[Any], None]

    def __str__(self) -> str:
        return self.name

    def __call__(self, subject: Subject) -> None:
        """Run the check.

        Raises:
            ConformanceError: The contract is broken.
        """
        self.function(made(subject))


@dataclass(frozen=True)
class Bound:
    """A check with what it is to be run on."""

    check: Check
    subject: Subject

    def __str__(self) -> str:
        return self.check.name

    def __call__(self) -> None:
        """Run the check."""
        self.check(self.subject)


def bind(checks: Iterable[Check], subject: Subject) -> list[Bound]:
    """Return the checks, each ready to be called on `subject`."""
    return [Bound(check, subject) for check in checks]


def in_time(action: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what an action returns; fail where it hangs.

    A thread cannot be killed: an action that hangs goes on in the background until the process ends.
    """
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["value"] = action()
        except Exception as error:  # noqa: BLE001 - handed to the caller below
            box["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    demand(not thread.is_alive(), f"{what} did not return within {seconds:g} s")
    if "error" in box:
        raise box["error"]
    return box["value"]


def stdout_of(action: Callable[[], object]) -> str:
    """Return what Python and C code write to standard output while an action runs."""
    python = io.StringIO()
    sys.stdout.flush()
    saved = os.dup(1)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 1)
        try:
            with redirect_stdout(python):
                action()
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        return python.getvalue() + file.read().decode(errors="replace")


def no_heavy_import(component: Component) -> None:
    """Demand that importing the component's module, as every command does, imports no model library."""
    module = type(component).__module__
    code = (
        "import importlib, sys\n"
        f"importlib.import_module({module!r})\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    path = os.pathsep.join(filter(None, sys.path))
    if module not in sys.modules or module == "__main__" or not _importable(module):
        file = getattr(sys.modules.get(module), "__file__", None)
        demand(file is not None, f"{module} has no file, so what it imports cannot be seen")
        code = code.replace(f"importlib.import_module({module!r})", f"import runpy; runpy.run_path({file!r})")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    demand(done.returncode == 0, f"{module} cannot be imported alone: {done.stderr.strip().splitlines()[-1:]}")
    demand(
        not done.stdout.strip(), f"importing {module} imports {done.stdout.strip()}; import it in `open` or `measure`"
    )


def _importable(module: str) -> bool:
    """Return whether another process that has this one's path would find the module."""
    parts = module.split(".")
    return any(
        Path(folder or ".", *parts).with_suffix(".py").is_file() or Path(folder or ".", *parts, "__init__.py").is_file()
        for folder in sys.path
    )


def children() -> set[int]:
    """Return the process ids of the live children that this process started through multiprocessing."""
    return {child.pid for child in mp.active_children() if child.pid is not None}
