"""Ray actor: one worker process on a node, which keeps its models open from task to task."""

from __future__ import annotations

import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cloudpickle

from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.execution import Checked, Finished, Lost, Produced, Task
from cdslm_eval.run.executors.local import WorkerProcess

__all__ = ["ClipWorker", "Report", "installed_versions"]

_FLUSH_S = 0.2


def installed_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Return Python's version and that of each distribution; "" where it is not installed."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


@dataclass(frozen=True, slots=True)
class Report:
    """What an actor finds on its node before it gets work.

    Attributes:
        problem: Why it could not measure there, or "".
        versions: Of Python and of distributions; "" where one is not installed.
        node: Name and address of the node.
        node_id: Ray's name of it.
        gpus: Those that Ray reserved for the actor.
    """

    problem: str
    versions: Mapping[str, str]
    node: str
    node_id: str
    gpus: tuple[str, ...]


class ClipWorker:
    """Runs tasks one after the other in a process of its own, as the executor `local` does.

    The process is between Ray and the plugins: one that hangs or crashes is ended and replaced without the actor,
    with the same reason as on one machine. So an actor that dies means that its node was lost, never a clip's fault.

    Args:
        worker: The pickled worker of the run, opened once in the process.
    """

    def __init__(self, worker: bytes) -> None:
        # a spawned process imports its parent's main module, and this parent's is Ray's own worker script
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._pickled = worker
        self._process: WorkerProcess | None = None

    def check(self, distributions: tuple[str, ...]) -> Report:
        """Return what is installed here, and whether the worker finds here what it needs."""
        import ray

        problem = ""
        try:
            worker = cloudpickle.loads(self._pickled)
            if isinstance(worker, Checked):
                problem = worker.problem()
        except Exception as error:  # noqa: BLE001 - a plugin's import may raise anything; the driver reports it
            problem = f"{type(error).__name__}: {error}"
        address: Any = ray.util.get_node_ip_address  # carries no types
        node = f"{socket.gethostname()} ({address()})"
        gpus = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        node_id = ray.get_runtime_context().get_node_id()
        return Report(problem, installed_versions(distributions), node, node_id, gpus)

    def run(self, ident: int, payload: Any, seconds: float | None) -> Iterator[list[Produced | Finished | Lost]]:
        """Run one task; yield its events in groups, the last of which ends with `Finished` or `Lost`."""
        if self._process is None or not self._process.alive:
            self._process = WorkerProcess(cloudpickle.loads(self._pickled))
        group: list[Produced | Finished | Lost] = []
        sent = time.monotonic()
        try:
            for event in self._process.run(Task(ident, payload, seconds)):
                group.append(event)
                # an object each 0.2 s: one for each event would cost more than the measurement of a short clip
                if time.monotonic() - sent > _FLUSH_S:
                    yield group
                    group, sent = [], time.monotonic()
        except EvalError as error:
            raise RuntimeError(str(error)) from None
        yield group
