"""The training loop with any trainer: how processes leave it together."""

from __future__ import annotations

import math
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.errors import TrainingError  # noqa: E402 - torch may be absent
from cdslm_model.train.loop import run  # noqa: E402
from cdslm_model.train.saving import Saver  # noqa: E402
from cdslm_model.train.schedule import WarmupStableDecay  # noqa: E402
from cdslm_model.train.settings import RunSettings  # noqa: E402
from cdslm_model.train.stopping import Interrupted  # noqa: E402

SCHEDULE = WarmupStableDecay(8, 1, 0)


class Rank:
    """One of two processes, as a thread: collective calls meet at a barrier."""

    def __init__(self, rank, barrier, flags):
        self.rank, self._barrier, self._flags = rank, barrier, flags

    def any(self, flag):
        self._flags[self.rank] = flag
        self._barrier.wait()
        answer = any(self._flags)
        self._barrier.wait()
        return answer


class Learner:
    """Trains nothing; its checkpoints take a tenth of a second to write."""

    def __init__(self, world, losses, written, device="cuda"):
        self.device = torch.device(device)
        self.step, self._world, self._losses, self._written = 0, world, losses, written
        self._saver = Saver(world)

    def advance(self, schedule, until):
        while self.step < until:
            self.step += 1
            yield {"loss": self._losses[self.step - 1], "lr": schedule.share(self.step - 1), "grad_norm": 1.0}

    def any(self, flag):
        return self._world.any(flag)

    def validate(self):
        return {"val_loss": 1.0, "val_loss_se": None}

    def save(self, folder, facts, protected):
        del folder, facts, protected
        self.settle()
        step = self.step
        self._saver.start(lambda: time.sleep(0.1) or self._written.append(step))

    def settle(self):
        self._saver.settle()


@pytest.mark.parametrize(
    ("loss", "signals", "error", "complete"),
    [
        (1.0, [signal.SIGTERM], Interrupted, [1]),
        (math.nan, [], TrainingError, [2]),
        (1.0, [], None, [2, 4, 6, 8]),
    ],
)
def test_no_process_leaves_before_the_first_one_has_written(tmp_path, loss, signals, error, complete):
    """A launcher ends the other processes as soon as one has left, the first in the midst of its checkpoint."""
    barrier, flags, written = threading.Barrier(2), [False, False], []
    settings = RunSettings(save_every=2, valid_every=4)

    def process(rank):
        learner = Learner(Rank(rank, barrier, flags), [1.0, 1.0, loss, 1.0, 1.0, 1.0, 1.0, 1.0], written)
        try:
            # a signal reaches the second process only
            run(learner, settings, tmp_path, SCHEDULE, 8, None, {}, signals if rank else [])
        except (Interrupted, TrainingError) as left:
            return type(left), list(written)
        return None, list(written)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(process, range(2))) == [(error, complete)] * 2


@pytest.mark.parametrize(("device", "steps_before"), [("cpu", 0), ("cuda", 4)])
def test_values_are_logged_when_they_are_computed(tmp_path, device, steps_before):
    """A log read later would have the seconds of later steps; a GPU is only asked for values that it has."""
    logged = []

    class Notes:
        def step(self, number, values):
            logged.append(learner.step - number)

        def note(self, *facts):
            pass

        message = note

    class Alone:
        rank = 0

        def any(self, flag):
            return flag

    learner = Learner(Alone(), [1.0] * 12, [], device)
    run(learner, RunSettings(save_every=12, valid_every=12), tmp_path, SCHEDULE, 12, Notes(), {}, [])
    # those of the last steps are read before the checkpoint at the end
    assert logged == [steps_before] * (12 - steps_before) + list(range(steps_before))[::-1]
