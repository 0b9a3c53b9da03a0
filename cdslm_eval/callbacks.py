"""Score a model while it trains: a function for any loop, and callbacks for transformers' Trainer and Lightning."""

from __future__ import annotations

import csv
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cdslm_eval import api
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.printable import printable
from cdslm_eval.ladder.rows import as_csv, estimate_columns
from cdslm_eval.results.score_result import ScoreResult

__all__ = ["CheckpointScores", "Log", "active_trackers", "lightning_callback", "tensorboard_log", "trainer_callback"]

Log = Callable[[Mapping[str, float], int], None]
_logger = logging.getLogger("cdslm_eval")


class CheckpointScores:
    """Scores clips of a model every so many steps, and keeps one row per checkpoint in a table that `fit` reads.

    A score that fails is logged as a warning and leaves no row: it never ends the training. A row of the same run and
    step replaces the one before, so that a resumed training repeats nothing.

    Args:
        table: CSV file of the rows, made with its folder; rows that are there stay.
        reference: Real speech, as `score` takes it.
        metrics: As `score` takes them.
        parameters: N of the model, in parameters.
        run: Name of the run: rows of one run are resampled together by a fit.
        logs: Called with {"name": value} and the step after each score; None are those of `active_trackers`.
        options: More keywords of `score`, such as `recognizer`, `store`, `jobs` and `device`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp())
        >>> scores = CheckpointScores(folder / "runs.csv", metrics="signal", parameters=1e6, store=folder / "rows")
        >>> clips = [(np.full(16000, 0.1, dtype=np.float32), 16000)]
        >>> scores.score(clips, step=100, tokens=1e5).estimate("duration").value
        1.0
    """

    def __init__(
        self,
        table: Path | str,
        reference: Any = None,
        metrics: api.MetricLike | Sequence[api.MetricLike] = "pjsd",
        *,
        parameters: float,
        run: str = "run",
        logs: Sequence[Log] | None = None,
        **options: Any,
    ) -> None:
        if not (math.isfinite(parameters) and parameters > 0):
            raise UsageError(f"parameters = {parameters} is not the size of a model; it is a number above 0")
        self.table = Path(table)
        self.reference, self.metrics, self.options = reference, metrics, options
        self.parameters, self.run, self.logs = parameters, run, logs
        # a table that cannot be read ends the training before it begins, not hours later
        self.rows()

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of the table, all fields as text; none where there is no table yet.

        Raises:
            UsageError: The file is no table of this class.
        """
        if not self.table.exists():
            return []
        try:
            with self.table.open(encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{self.table}: {error}; name another file for the rows of the checkpoints") from error
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values() or not {"run", "step"} <= row.keys():
                raise UsageError(f"{self.table}, line {line}: not a row of a checkpoint; name another file")
        return rows

    def score(
        self,
        clips: Any,
        *,
        step: int,
        tokens: float,
        flops: float | None = None,
        loss: float | None = None,
        logs: Sequence[Log] | None = None,
    ) -> ScoreResult:
        """Score the clips of a checkpoint, and keep its row.

        Args:
            clips: One system as `score` takes it: a list of arrays `(samples, rate_hz)`, a folder, a generator.
            step: Steps trained so far.
            tokens: D, the tokens trained on so far.
            flops: C of the training so far; None is 6 N D.
            loss: Validation loss there, column `val_loss`.
            logs: Instead of the object's own.

        Raises:
            UsageError: Clips, metrics or options cannot be used.
        """
        name = f"{self.run} step {step}"
        result = api.score({name: clips}, self.reference, self.metrics, **self.options)
        compute = 6 * self.parameters * tokens if flops is None else flops
        counts = {"step": float(step), "N": self.parameters, "D": float(tokens), "C": float(compute)}
        losses = {} if loss is None else {"val_loss": float(loss)}
        self._keep(step, {"run": self.run, **counts, **losses, **estimate_columns(result.estimates)})
        values = {e.name: e.headline().value for e in result.estimates if e.headline().known}
        logs = self.logs if logs is None else logs
        for log in active_trackers() if logs is None else logs:
            log(values, step)
        return result

    def attempt(self, make: Callable[[], Any], **facts: Any) -> ScoreResult | None:
        """Do as `score` with clips that are made first; a failure of either is logged, and None returned."""
        try:
            return self.score(make(), **facts)
        except Exception as error:  # noqa: BLE001 - a model, a plugin and a tracker may raise anything
            # hours of training are worth more than one row
            what = printable(f"{type(error).__name__}: {error}")
            _logger.warning("step %s was not scored: %s", facts.get("step"), what)
            return None

    def _keep(self, step: int, row: dict[str, str | float]) -> None:
        others = [old for old in self.rows() if (old["run"], float(old["step"])) != (self.run, step)]
        self.table.parent.mkdir(parents=True, exist_ok=True)
        # replaced whole: a process killed here leaves the table of the checkpoint before
        beside = self.table.with_name(f"{self.table.name}.new")
        beside.write_text(as_csv([*others, row]), encoding="utf-8")
        beside.replace(self.table)


def active_trackers() -> list[Log]:
    """Return a log for each experiment tracker that has a run open in this process: W&B and trackio."""
    trackers: list[Log] = []
    # only what the training has imported itself: importing a tracker takes seconds and may ask for a key
    wandb, trackio = sys.modules.get("wandb"), sys.modules.get("trackio")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        # no step: the Trainer counts its own, and W&B drops what comes with an earlier one
        trackers.append(lambda values, step: wandb.log({**values, "train/global_step": step}))
    if trackio is not None and trackio.context_vars.current_run.get() is not None:
        trackers.append(lambda values, step: trackio.log(dict(values), step=step))
    return trackers


def tensorboard_log(folder: Path | str) -> Log:
    """Return a log that writes to a folder of TensorBoard; needs torch and the package tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def write(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write


def trainer_callback(
    scores: CheckpointScores, make: Callable[[Any], Any], *, every: int, tokens_per_step: float | None = None
) -> Any:
    """Return a callback for the `Trainer` of transformers.

    Args:
        scores: Where the rows go.
        make: Called with the model, in evaluation mode and without gradients; returns its clips.
        every: Steps between two scores.
        tokens_per_step: Tokens that one optimizer step trains on; None takes the count that the Trainer keeps with
            `include_num_input_tokens_seen`, and training does not begin where it keeps none.
    """
    from transformers import TrainerCallback

    _check_every(every)

    class ScoreCheckpoints(TrainerCallback):
        """Scores the model in the first process every so many steps."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            """Refuse a training whose tokens nobody counts: its rows would have no D."""
            del state, control, others
            if tokens_per_step is None and args.include_num_input_tokens_seen in (False, "no"):
                raise UsageError(
                    "the Trainer counts no tokens; set include_num_input_tokens_seen in its arguments, or give "
                    "tokens_per_step to trainer_callback"
                )

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
            """Score where the step is one of those to score."""
            del args, control, others
            if state.global_step % every or not state.is_world_process_zero:
                return
            step = state.global_step
            tokens = state.num_input_tokens_seen if tokens_per_step is None else step * tokens_per_step
            # C stays 6 N D: the Trainer brings its total_flos up to date only when it logs or saves
            with _evaluating(model):
                scores.attempt(lambda: make(model), step=step, tokens=float(tokens))

    return ScoreCheckpoints()


def lightning_callback(
    scores: CheckpointScores, make: Callable[[Any], Any], *, every: int, tokens_per_step: float
) -> Any:
    """Return a callback for the `Trainer` of Lightning; values go to the loggers of that trainer.

    Args:
        scores: Where the rows go.
        make: Called with the module, in evaluation mode and without gradients; returns its clips.
        every: Optimizer steps between two scores.
        tokens_per_step: Tokens that one optimizer step trains on.
    """
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        from pytorch_lightning import Callback

    _check_every(every)

    class ScoreCheckpoints(Callback):  # type: ignore[misc]
        """Scores the module in the first process every so many steps."""

        scored = 0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *others: Any) -> None:
            """Score where the step is one of those to score."""
            del others
            step = trainer.global_step
            # with accumulated gradients several batches end at one step
            if step == self.scored or step % every or not trainer.is_global_zero:
                return
            self.scored = step
            logs = [lambda values, step, log=logger: log.log_metrics(values, step=step) for logger in trainer.loggers]
            facts = {"step": step, "tokens": step * tokens_per_step, "logs": logs}
            with _evaluating(pl_module):
                scores.attempt(lambda: make(pl_module), **facts)

    return ScoreCheckpoints()


def _check_every(every: int) -> None:
    if every < 1:
        raise UsageError(f"every = {every} steps is not possible; it is a whole number from 1 on")


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and leave mode and random state as they were."""
    import torch

    before = {module: module.training for module in model.modules()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with ExitStack() as stack:
        # sampling must not change which batches and masks the training draws next
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.no_grad())
        model.eval()
        try:
            yield
        finally:
            # module by module: parts may be frozen in evaluation mode on purpose
            for module, training in before.items():
                module.training = training
