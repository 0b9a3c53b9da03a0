"""Trains the models of a ladder, on one device or side by side on several; one that fails does not stop the others."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from cdslm_eval.core.errors import EvalError
from cdslm_eval.ladder.execute import LadderRun, run_command
from cdslm_eval.ladder.points import RESULT, TrainedPoint, Training, trained_points

__all__ = ["TIMING", "Outcome", "train"]

TIMING = "train.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended.

    Attributes:
        training: Which one.
        trained: Its models; none where it failed.
        error: Why it failed; "" where it did not.
    """

    training: Training
    trained: tuple[TrainedPoint, ...] = ()
    error: str = ""


def train(run: LadderRun) -> Iterator[Outcome]:
    """Yield how each training ended, as it ends; what was trained before comes at once.

    With one device the next training starts when the caller asks for it; with several they go on meanwhile.
    """
    trainer = _Trainer(run)
    devices = run.plan.devices
    if len(devices) < 2:
        for training in run.trainings:
            yield trainer.outcome(training, devices[0] if devices else "", show=True)
        return
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def on_free_device(training: Training) -> Outcome:
        device = free.get()
        try:
            return trainer.outcome(training, device, show=False)
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(devices)) as pool:
        pending = [pool.submit(on_free_device, training) for training in run.trainings]
        try:
            for future in as_completed(pending):
                yield future.result()
        finally:
            # left early, by an error or a signal: the pool would wait for all trainings
            pool.shutdown(wait=False, cancel_futures=True)
            trainer.stop()


class _Trainer:
    """Runs training commands, and estimates the time left from those that ended."""

    def __init__(self, run: LadderRun) -> None:
        self.run = run
        self.number = 0
        self.spent = self.used = 0.0
        self.lock = threading.Lock()
        self.children: set[subprocess.Popen[bytes]] = set()
        self.is_stopped = False

    def outcome(self, training: Training, device: str, *, show: bool) -> Outcome:
        """Train, where that is not done yet, and return how it ended."""
        folder = self.run.run_folder(training)
        try:
            with self.lock:
                self.number += 1
                number = self.number
            if not (folder / RESULT).is_file():
                self._train(training, device, number, show)
            return Outcome(training, tuple(trained_points(training, folder)))
        except EvalError as error:
            if not self.is_stopped:
                self.run.log(f"{training.name} failed: {error}")
            return Outcome(training, error=str(error))

    def stop(self) -> None:
        """End the commands that run; the same ladder resumes them."""
        with self.lock:
            self.is_stopped = True
            for child in self.children:
                child.terminate()

    def _train(self, training: Training, device: str, number: int, show: bool) -> None:
        run, log = self.run, self.run.log
        folder = run.run_folder(training)
        on_device = f" on {device}" if device and not show else ""
        log(f"train {training.name}{on_device} ({number} of {len(run.trainings)}{self._time_left(number)})")
        folder.parent.mkdir(parents=True, exist_ok=True)
        is_new = not folder.exists()
        child: list[subprocess.Popen[bytes]] = []

        def started(process: subprocess.Popen[bytes]) -> None:
            child.append(process)
            with self.lock:
                self.children.add(process)
                if self.is_stopped:
                    process.terminate()

        try:
            words = run.train_command(training, str(folder), device)
            seconds = run_command(words, folder.parent / "train.log", started, show=show)
        finally:
            with self.lock:
                self.children.difference_update(child)
        if is_new:  # of a resumed run, only the rest was timed
            record = json.dumps({"seconds": seconds}) + "\n"
            (folder.parent / TIMING).write_text(record, encoding="utf-8")
        with self.lock:
            self.spent, self.used = self.spent + seconds, self.used + sum(training.budgets)

    def _time_left(self, number: int) -> str:
        with self.lock:
            if not self.used:
                return ""
            left = sum(sum(training.budgets) for training in self.run.trainings[number - 1 :])
            minutes = left * self.spent / self.used / 60 / max(1, len(self.run.plan.devices))
        return f", about {minutes:.0f} min of training left"
