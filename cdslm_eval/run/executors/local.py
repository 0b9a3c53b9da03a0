"""Runs tasks in worker processes on this machine, and really ends one that hangs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pydantic import Field

from cdslm_eval.core.descriptors import stdout_to_stderr
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Options
from cdslm_eval.plugin.execution import Executor, Finished, Lane, Lost, Produced, Task, Worker
from cdslm_eval.run.executors.devices import named_devices

__all__ = ["LocalExecutor", "LocalOptions", "WorkerProcess"]

_START_SECONDS = 600.0
_STARTS = 3
"""How often a process that is killed before it is ready is started, such as by the kernel when memory is short."""
_GIB = 1 << 30


class LocalOptions(Options):
    """Options of `local`.

    Attributes:
        memory_gb: Private memory that each process may take, in GiB; 0 is no limit. Default: three quarters of the
            machine's (or the container's), so that one hostile file fails instead of taking the machine.
    """

    memory_gb: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def limit_bytes(self) -> int | None:
        """Return the limit in bytes; None where there is none."""
        if self.memory_gb is None:
            return _machine_bytes() * 3 // 4
        return int(self.memory_gb * _GIB) or None


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LocalExecutor(Executor):
    """Runs one task at a time in each of its processes; a hung one is killed and replaced."""

    name = "local"
    Options = LocalOptions

    def run(
        self, worker: Worker, next_task: Callable[[], Task | None], jobs: int
    ) -> Iterator[Produced | Finished | Lost]:
        """Run tasks on up to `jobs` processes; they start as tasks come in."""
        yield from self.run_lanes([Lane(worker, next_task, jobs)])

    def devices(self, device: str) -> tuple[str, ...]:
        """Return the GPUs that are named by number, or all for `cuda:*`, after a look at which there are."""
        return named_devices(device)

    def run_lanes(self, lanes: Sequence[Lane]) -> Iterator[Produced | Finished | Lost]:
        """Run the tasks of each lane on processes of its own, up to its `jobs`; they start as tasks come in."""
        crews: list[list[WorkerProcess]] = [[] for _ in lanes]
        try:
            while True:
                for lane, crew in zip(lanes, crews, strict=True):
                    self._send(lane, crew)
                busy = [process for crew in crews for process in crew if process.task is not None]
                if not busy:
                    return
                limit = min(process.deadline for process in busy) - time.monotonic()
                readable = wait([process.pipe for process in busy], timeout=max(0.0, min(limit, 3600.0)))
                for process in busy:
                    if process.pipe in readable:
                        yield from process.receive()
                    elif time.monotonic() >= process.deadline:
                        yield process.end(f"no result within {process.seconds:g} s")
                for crew in crews:
                    crew[:] = [process for process in crew if process.alive]
        finally:
            for process in (process for crew in crews for process in crew):
                process.kill()

    def _send(self, lane: Lane, crew: list[WorkerProcess]) -> None:
        """Send tasks to the free processes of a lane, and start further ones while there are tasks for them."""
        while (free := next((p for p in crew if p.task is None), None)) or len(crew) < lane.jobs:
            task = lane.next_task()
            if task is None:
                return
            if free is None:
                crew.append(free := WorkerProcess(lane.worker, self.options.limit_bytes()))
            free.send(task)


class WorkerProcess:
    """One worker process and the task it runs.

    Args:
        worker: Opened once, when the process starts.
        limit_bytes: Private memory that the process may take; None is no limit.

    Attributes:
        task: The task that it runs, or None.
        alive: False once it was ended or has died.
        deadline: Monotonic time in seconds at which the task has gone without a result for too long.
    """

    def __init__(self, worker: Worker, limit_bytes: int | None = None) -> None:
        self._packed, self._limit_bytes = _packed(worker), limit_bytes
        self._starts = 0
        self._start()
        self.task: Task | None = None
        self.alive = True
        self.seconds = _START_SECONDS
        self.deadline = 0.0

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._packed, self._limit_bytes), daemon=True)
        with _one_thread_each(), _no_main_module():
            self._process.start()
        theirs.close()
        self._ready = False
        self._starts += 1

    def _start_again(self) -> bool:
        """Start the process once more where it was killed before it was ready; return whether it was."""
        if self._ready or self._starts >= _STARTS:
            return False
        self._process.join(1.0)
        if (self._process.exitcode or 0) >= 0:  # one that ends by itself would do so again
            return False
        self.pipe.close()
        self._start()
        assert self.task is not None
        self.send(self.task)
        return True

    def send(self, task: Task) -> None:
        """Send a task to the process and start its time limit."""
        self.task = task
        self._extend()
        with suppress(OSError):  # a process that died is noticed when its pipe is read
            self.pipe.send(task.payload)

    def run(self, task: Task) -> Iterator[Produced | Finished | Lost]:
        """Run one task to its end: for callers that have one process, where `LocalExecutor` waits for several."""
        self.send(task)
        while self.task is not None and self.alive:
            if wait([self.pipe], timeout=max(0.0, min(self.deadline - time.monotonic(), 3600.0))):
                yield from self.receive()
            elif time.monotonic() >= self.deadline:
                yield self.end(f"no result within {self.seconds:g} s")

    def _extend(self) -> None:
        limit = self.task.seconds if self.task is not None and self._ready else _START_SECONDS
        self.seconds = float("inf") if limit is None else limit
        self.deadline = time.monotonic() + self.seconds

    def receive(self) -> Iterator[Produced | Finished | Lost]:
        """Yield everything that has arrived."""
        assert self.task is not None
        ident = self.task.ident
        while self.task is not None and self.alive and self.pipe.poll():
            try:
                kind, value = self.pipe.recv()
            except (EOFError, OSError):
                if not self._start_again():
                    yield self.end("")
                return
            if kind == "ready":
                self._ready = True
            elif kind == "broken":
                raise EvalError(f"a worker process could not work: {value}")
            elif kind == "end":
                self.task = None
                yield Finished(ident)
                return
            else:
                yield Produced(ident, value)
            self._extend()

    def end(self, reason: str) -> Lost:
        """Kill the process and report its task as lost."""
        assert self.task is not None
        self.kill()
        if not self._ready:
            raise EvalError(f"a worker process did not start: {reason or self._how_it_died()}")
        return Lost(self.task.ident, reason or self._how_it_died())

    def _how_it_died(self) -> str:
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"the worker process died of {signal.Signals(-code).name}"
        return f"the worker process ended with exit code {code}"

    def kill(self) -> None:
        """End the process now, whatever it is at."""
        self.alive = False
        with suppress(OSError):
            self.pipe.close()
        self._process.join(0.2)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Start a process with single-threaded numerics: sums must not depend on how many cores there are."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Start a process that does not import the script of its parent again.

    `spawn` would, and a script that calls `cdslm_eval.score` without `if __name__ == "__main__":` would start itself
    once more in every worker. Nothing that a worker needs lies there: `_packed` sends classes of a script by value.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _packed(worker: Worker) -> bytes:
    """Return a worker as bytes; classes of a script, a notebook or a function go by value, all others by name.

    Raises:
        UsageError: Something that a class of the user holds on to cannot be sent to another process.
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(worker))
    except Exception as error:
        raise UsageError(
            f"what measures cannot be sent to a worker process ({type(error).__name__}: {error}); "
            "load models in open(), not in __init__ or at the top of a script, or put the class into a file and name "
            "it as FILE.py:CLASS"
        ) from error


def _machine_bytes() -> int:
    """Return the memory of the machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # ValueError: "max", no limit
            total = min(total, int(Path(path).read_text(encoding="ascii")))
    return total


def _limit_memory(limit_bytes: int | None) -> None:
    """Let allocations beyond a limit fail in this process."""
    # data alone: the driver of a GPU reserves addresses by terabytes
    if limit_bytes is None:
        return
    with suppress(ImportError, OSError, ValueError):  # a system without such limits, or a stricter one that is set
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _serve(pipe: Connection[Any, Any], packed: bytes, limit_bytes: int | None) -> None:
    """Run tasks until the pipe closes or the parent is gone."""
    _limit_memory(limit_bytes)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    stdout_to_stderr()  # what a plugin prints must not land inside the parent's JSON or CSV
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        worker: Worker = pickle.loads(packed)  # noqa: S301 - made by our own parent process
        with worker.open() as work:
            pipe.send(("ready", None))
            while True:
                for value in work(pipe.recv()):
                    pipe.send(("value", value))
                pipe.send(("end", None))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent reports it
        with suppress(OSError):
            pipe.send(("broken", f"{type(error).__name__}: {error}"))


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
