"""Executor `ray`: hands tasks to actors on a cluster, and sends those of lost nodes to others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import cloudpickle

from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.execution import Executor, Finished, Lost, Produced, Task, Worker
from cdslm_eval_ray.connection import Connection
from cdslm_eval_ray.crew import Crew
from cdslm_eval_ray.options import RayOptions

__all__ = ["RayExecutor", "RayOptions"]

_ATTEMPTS = 3
_POLL_S = 1.0
_START_S = 120.0


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
    task_clips: ClassVar[int] = 256
    _crew: Crew | None = None

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
        with Connection(self.options.address) as ray:
            self._crew = crew = Crew(ray, self.options, cloudpickle.dumps(worker))
            try:
                yield from _Loop(ray, crew, next_task).events()
            finally:
                self._crew = None
                crew.end()

    def n_workers(self, jobs: int) -> int:
        """Return how many workers the cluster has resources for; `jobs` before it is connected."""
        return self._crew.capacity() if self._crew else jobs

    def where(self) -> str:
        """Return how many nodes, workers and GPUs are at work now."""
        return self._crew.where() if self._crew else ""


class _Loop:
    """Hands tasks to actors and yields what they send back.

    Args:
        ray: The connected module.
        crew: The actors.
        next_task: Returns the next task, or None when there is none now.
    """

    def __init__(self, ray: Any, crew: Crew, next_task: Callable[[], Task | None]) -> None:
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
