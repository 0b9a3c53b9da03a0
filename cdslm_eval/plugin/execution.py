"""The contract of an executor: tasks in, what their workers produced out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from cdslm_eval.plugin.contract import Component

__all__ = ["Executor", "Finished", "Lost", "Produced", "Task", "Worker"]


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


class Executor(Component):
    """Runs `measure` in processes of its own."""

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
