"""The contract of an executor: tasks in, what their workers produced out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Component

__all__ = ["Checked", "Executor", "Finished", "Lane", "Lost", "Produced", "Task", "Worker"]


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for an executor.

    Attributes:
        ident: Number of the task, unique in a run.
        payload: What the worker gets; picklable.
        seconds: Time allowed between two things that the worker produces; None is no limit.
    """

    ident: int
    payload: Any
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Produced:
    """The worker of task `ident` yielded `value`."""

    ident: int
    value: Any


@dataclass(frozen=True, slots=True)
class Finished:
    """Task `ident` came to its end."""

    ident: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Task `ident` was ended by the time limit or died with its process; what it produced before was delivered."""

    ident: int
    reason: str


class Worker(Protocol):
    """What an executor runs in each of its processes; picklable."""

    def open(self) -> AbstractContextManager[Callable[[Any], Iterator[Any]]]:
        """Load what is costly once, and yield the function that turns a task's payload into produced values."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A worker that can check a machine before it gets work there: one without its weights, for instance."""

    def problem(self) -> str:
        """Return why it could not work on this machine as on the one that sends it, or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Lane:
    """Workers of one kind, such as those of one device, and where their tasks come from.

    Attributes:
        worker: Opened once per process.
        next_task: Returns the next task, or None when there is none now; an event of any lane may lead to more.
        jobs: How many of its tasks may run at once.
    """

    worker: Worker
    next_task: Callable[[], Task | None]
    jobs: int


class Executor(Component):
    """Runs `measure` in processes of its own.

    Attributes:
        task_clips: Clips that a task may hold where many are left, so that its own cost is small beside theirs; 1
            leaves it to the batch size of what measures.
    """

    task_clips: ClassVar[int] = 1

    @abstractmethod
    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks until none is left and none is under way.

        Args:
            worker: Opened once per process.
            next_task: Gives the next task, or None when there is none now; one that is under way may lead to more.
            jobs: How many tasks may run at once.
        """

    def devices(self, device: str) -> tuple[str, ...]:
        """Return the devices that `--device` names one by one, to get a worker each; none for "auto", "cpu", "cuda".

        Raises:
            UsageError: There is no such device, or the executor places no workers on devices.
        """
        if "," in device or "*" in device:
            raise UsageError(f"--device {device}: the executor {self.name} does not share work among devices by name")
        return ()

    def n_workers(self, jobs: int) -> int:
        """Return how many tasks run at once, as far as it is known now."""
        return jobs

    def where(self) -> str:
        """Return where tasks run now, for progress, such as "2 nodes, 8 workers"; "" for this machine alone."""
        return ""

    def run_lanes(self, lanes: Sequence[Lane]) -> Iterator[Produced | Finished | Lost]:
        """Run the tasks of several lanes side by side, until none is left and none is under way in any.

        Args:
            lanes: Each with workers of its own; the numbers of their tasks differ.
        """
        (lane,) = lanes
        return self.run(lane.worker, lane.next_task, lane.jobs)
