"""Checkpoints written by a thread while training continues; all processes learn of a failure together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch.distributed as dist

from cdslm_model.errors import TrainingError
from cdslm_model.train.distributed import World

__all__ = ["Saver"]


class Saver:
    """Writes one checkpoint at a time in the background.

    Args:
        world: The processes that train together.
        sharded: Whether each process writes its own part; else the first one writes all.
    """

    def __init__(self, world: World, sharded: bool = False) -> None:
        self._world = world
        # a group of its own: the thread communicates while training does, and both keep an order of their own
        self.group: dist.ProcessGroup | None = dist.new_group(backend="gloo") if sharded else None
        # one thread: a checkpoint may remove older ones only after they are complete
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[object] | None = None

    def start(self, write: Callable[[], object]) -> None:
        """Begin to write; the earlier checkpoint must have been settled."""
        if self._world.rank == 0 or self.group is not None:
            self._writing = self._thread.submit(write)

    def settle(self) -> None:
        """Wait until the last checkpoint is complete; a collective call.

        Raises:
            TrainingError: It cannot be written, in every process.
        """
        failure: TrainingError | None = None
        try:
            self.finish()
        except TrainingError as error:
            failure = error
        # the others must raise too: training on, they would wait for the first process. All give the reason, because
        # torchrun ends the rest as soon as one process left, and the first might not get to print it
        if self._world.any(failure is not None):
            raise TrainingError(self._world.first_text(str(failure))) from failure

    def finish(self) -> None:
        """Wait until the last checkpoint is complete, in this process alone.

        Raises:
            TrainingError: It cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
