"""Executor `ray`: hands tasks to actors on a cluster, and sends those of lost nodes to others."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any

import cloudpickle
from pydantic import Field

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Options
from cdslm_eval.plugin.execution import Executor, Finished, Lost, Produced, Task, Worker
from cdslm_eval_ray.actor import ClipWorker, installed_versions

__all__ = ["RayExecutor", "RayOptions"]

_ATTEMPTS = 3
_POLL_S = 1.0
_START_S = 120.0
_CONNECT_S = 5.0


class RayOptions(Options):
    """Where and with which share of a node each worker runs.

    Attributes:
        address: "auto" (a running cluster that this machine belongs to), HOST:PORT, ray://HOST:PORT, or "local" to
            start one on this machine for the length of the run.
        cpus: CPUs that Ray reserves for each worker.
        gpus: GPUs for each worker; .25 lets four share one.
        workers: How many workers; 0 takes as many as the cluster has resources for.
    """

    address: str = "auto"
    cpus: float = Field(1.0, gt=0.0)
    gpus: float = Field(0.0, ge=0.0)
    workers: int = Field(0, ge=0)


@dataclass(slots=True)
class _Busy:
    """A task that an actor works on.

    Attributes:
        actor: The actor.
        task: The task.
        attempts: How many actors were lost with this task before.
        ended: Whether its last event has arrived.
    """

    actor: Any
    task: Task
    attempts: int
    ended: bool = False


class RayExecutor(Executor):
    """Workers on the nodes of a Ray cluster; tasks are references to clips, never audio.

    Nodes read audio by path, so sets must lie on a file system that all of them share. Clips that hang or crash their
    process fail as they do locally. The task of a lost node is sent to another, at most three times.
    """

    name = "ray"
    Options = RayOptions
    options: RayOptions

    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks on the cluster.

        Args:
            worker: Opened once per actor, in a process of its own.
            next_task: Returns the next task, or None when there is none now.
            jobs: Not used: the cluster and the option `workers` set how many tasks run at once.

        Raises:
            UsageError: No cluster answers at the address, or it has not the resources for one worker.
            EvalError: Nodes differ in versions or lack a plugin, or too many of them were lost.
        """
        del jobs
        with _Connection(self.options.address) as ray:
            crew = _Crew(ray, self.options, cloudpickle.dumps(worker))
            try:
                yield from _Loop(ray, crew, next_task).events()
            finally:
                crew.end()


class _Connection:
    """A connection to a cluster, closed at the end unless the caller had opened it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ours = False

    def __enter__(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if ray.is_initialized():
            return ray
        settings: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        if self._address == "local":
            settings["include_dashboard"] = False
        try:
            _answers(self._address)
            ray.init(address=self._address, **settings)
        except (OSError, ValueError) as error:
            fix = "Start one: ray start --head; or use: ray:address=local"
            raise UsageError(f"no Ray cluster answers at {self._address!r}. {fix}. ({error})") from error
        except RuntimeError as error:
            raise EvalError(f"Ray at {self._address!r} refuses the connection: {error}") from error
        self._ours = True
        return ray

    def __exit__(self, *exception: object) -> None:
        if self._ours:
            import ray

            ray.shutdown()


def _answers(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for two minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()


class _Crew:
    """The actors of a run: started as there is work, checked before they get any, replaced when they are lost.

    Args:
        ray: The connected module.
        options: What each actor reserves.
        worker: The pickled worker of the run.

    Attributes:
        free: Actors that wait for a task.
        starting: Reference of the pending check of an actor -> the actor.
    """

    def __init__(self, ray: Any, options: RayOptions, worker: bytes) -> None:
        self._ray, self._options, self._worker = ray, options, worker
        self._distributions = ("ray", *sorted({n for d in distributions() if (n := d.name).startswith("cdslm-eval")}))
        self._remote = ray.remote(
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(ClipWorker)
        if self.capacity() < 1:
            need = f"{options.cpus:g} CPUs" + (f" and {options.gpus:g} GPUs" if options.gpus else "")
            raise UsageError(f"no node of the Ray cluster has {need} for one worker: {dict(ray.cluster_resources())}")
        self.actors: list[Any] = []
        self.free: list[Any] = []
        self.starting: dict[Any, Any] = {}

    def capacity(self) -> int:
        """Return how many workers fit on the nodes that are alive, each node for itself."""
        options, capacity = self._options, 0
        for node in self._ray.nodes():
            if node["Alive"]:
                resources: Mapping[str, float] = node["Resources"]
                fits = resources.get("CPU", 0.0) / options.cpus
                if options.gpus:
                    fits = min(fits, resources.get("GPU", 0.0) / options.gpus)
                capacity += math.floor(fits + 1e-9)
        return min(capacity, options.workers) if options.workers else capacity

    def start(self) -> None:
        """Request one more actor; it is usable once its check arrives."""
        actor = self._remote.remote(self._worker)
        self.actors.append(actor)
        self.starting[actor.check.remote(self._distributions)] = actor

    def admit(self, check: Any) -> None:
        """Take an actor whose check has arrived into the free ones.

        Raises:
            EvalError: Its node lacks a plugin, or has other versions than this machine.
        """
        actor = self.starting.pop(check)
        try:
            problem, versions = self._ray.get(check)
        except self._ray.exceptions.RayActorError:
            self.drop(actor)
            return
        here = installed_versions(self._distributions)
        differing = [
            f"{name} {here[name]} here, {versions.get(name) or 'not installed'} there"
            for name in here
            if versions.get(name) != here[name]
        ]
        if differing:
            raise EvalError(f"a node of the Ray cluster has other versions: {'; '.join(differing)}")
        if problem:
            raise EvalError(f"a node of the Ray cluster cannot load what is to be measured: {problem}")
        self.free.append(actor)

    def drop(self, actor: Any) -> None:
        """Forget an actor that was lost."""
        self.actors = [other for other in self.actors if other is not actor]

    def end(self) -> None:
        """End all actors and with them their processes."""
        for actor in self.actors:
            self._ray.kill(actor)


class _Loop:
    """Hands tasks to actors and yields what they send back.

    Args:
        ray: The connected module.
        crew: The actors.
        next_task: Returns the next task, or None when there is none now.
    """

    def __init__(self, ray: Any, crew: _Crew, next_task: Callable[[], Task | None]) -> None:
        self._ray, self._crew, self._next_task = ray, crew, next_task
        self._busy: dict[Any, _Busy] = {}
        self._again: list[tuple[Task, int]] = []

    def events(self) -> Iterator[Produced | Finished | Lost]:
        """Yield events until no task is left and none is under way."""
        idle_since = time.monotonic()
        while self._submit():
            calls = [*self._busy, *self._crew.starting]
            ready, _ = self._ray.wait(calls, num_returns=1, timeout=_POLL_S) if calls else ([], [])
            for call in ready:
                if call in self._busy:
                    yield from self._receive(call)
                else:
                    self._crew.admit(call)
            if self._busy or self._crew.free:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _START_S:
                raise EvalError(f"no worker started on the Ray cluster within {_START_S:g} s; is it full?")

    def _submit(self) -> bool:
        """Give a task to every free actor, start actors for further ones; return whether anything is left to do."""
        while self._crew.free:
            task, attempts = self._again.pop() if self._again else (self._next_task(), 0)
            if task is None:
                return bool(self._busy)
            actor = self._crew.free.pop()
            call = actor.run.options(num_returns="streaming").remote(task.ident, task.payload, task.seconds)
            self._busy[call] = _Busy(actor, task, attempts)
        if len(self._crew.actors) < self._crew.capacity():
            # tasks are drawn only when an actor is there to take them, so an actor may start for nothing at the end
            self._crew.start()
        elif not self._crew.actors:
            raise EvalError("every node of the Ray cluster was lost; run the same command again to continue")
        return True

    def _receive(self, call: Any) -> Iterator[Produced | Finished | Lost]:
        """Yield the next events of a task; one whose actor was lost is sent to another."""
        exceptions = self._ray.exceptions
        try:
            for event in self._ray.get(next(call)):
                # noted first: whoever takes the last event need not come back for more
                self._busy[call].ended |= isinstance(event, Finished | Lost)
                yield event
        except StopIteration:
            self._crew.free.append(self._busy.pop(call).actor)
        except exceptions.RayTaskError as error:
            raise EvalError(f"a worker on the Ray cluster could not work: {error.cause or error}") from error
        except exceptions.RayError as error:
            work = self._busy.pop(call)
            self._crew.drop(work.actor)
            if work.ended:
                # lost between its last event and the end of the call: sent again, the task would end twice
                return
            if work.attempts + 1 >= _ATTEMPTS:
                raise EvalError(f"one task was lost with {_ATTEMPTS} nodes of the Ray cluster: {error}") from error
            self._again.append((work.task, work.attempts + 1))
