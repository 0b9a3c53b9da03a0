"""Progress of a run: a JSONL log without gaps or repeats, a line with the time left, TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

from cdslm_model.files import written_whole

__all__ = ["Journal"]

LOG = "log.jsonl"
_QUIET_S = 10.0


class Journal:
    """Log, progress and TensorBoard of one run.

    Args:
        folder: The run's.
        step: Steps of its checkpoint; lines of later steps, which were lost, are removed; all lines where it is 0,
            because a run that starts from nothing writes its first line again.
        steps: Steps of the run.
        flops: FLOPs of a step.
        tokens: Tokens of a step.
        peak: FLOPs a second of plain matrix products.
        quiet: Whether nothing is printed on stderr.
    """

    def __init__(
        self, folder: Path, step: int, steps: int, flops: float, tokens: float, peak: float, quiet: bool
    ) -> None:
        path = folder / LOG
        lines = [line for line in _lines(path) if line["step"] <= step and step > 0]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        written_whole(path, lambda half: half.write_text(text, encoding="utf-8"))
        # line-buffered: a killed process loses no more than the line it was writing
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._first, self._steps, self._flops, self._tokens, self._peak = step, steps, flops, tokens, peak
        self._start = self._printed = time.monotonic()
        self._quiet = quiet
        self._board = _board(folder, step)
        self._bar = None if quiet or not sys.stderr.isatty() else _Bar(step, steps)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Log one step's loss, learning rate and gradient norm, with the seconds, MFU and time left at this moment.

        On a CPU that is the end of the step. On a GPU it is when its values are read: at its end where the GPU is what
        takes the time, and up to four steps later where launching steps is.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        # steps from before a resumption took none of these seconds
        rate = (step - self._first) / seconds
        facts = {"flops": step * self._flops, "tokens": step * self._tokens, "mfu": rate * self._flops / self._peak}
        self.note(step, {**values, **facts, "seconds": seconds})
        left = (self._steps - step) / rate
        text = (
            f"loss {values['loss']:.4f}, {facts['flops']:.3g} FLOPs, {facts['tokens']:.3g} tokens, "
            f"MFU {facts['mfu']:.0%}"
        )
        if self._bar:
            self._bar.show(step, text)
        elif not self._quiet and (time.monotonic() - self._printed > _QUIET_S or step == self._steps):
            self._printed = time.monotonic()
            print(f"step {step}/{self._steps}: {text}, {left:.0f} s left", file=sys.stderr, flush=True)

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Append a line to the log."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def message(self, text: str) -> None:
        """Print a sentence on stderr."""
        if self._bar:
            self._bar.message(text)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the log, the bar and TensorBoard."""
        # Each line was written when it was logged: an error was raised then
        with contextlib.suppress(OSError):
            self._file.close()
        if self._bar:
            self._bar.close()
        if self._board is not None:
            self._board.close()


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, step: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("", total=steps, completed=step)
        self._progress.start()

    def show(self, step: int, text: str) -> None:
        """Advance to a step."""
        self._progress.update(self._task, completed=step, description=text)

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Restore the terminal."""
        self._progress.stop()


def _board(folder: Path, step: int) -> Any:
    """Return TensorBoard's writer where that is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    # events of steps that were lost are hidden, as their lines are removed from the log
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; the last one may have been cut by a kill."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
