"""The training loop: from one checkpoint to the next, the same on a CPU, a GPU and several of them."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdslm_model.data.mel import Normalizer
from cdslm_model.data.windows import Windows
from cdslm_model.errors import CheckpointError, NotANumberError, TrainingError
from cdslm_model.files import no_room
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.net.parametrization import initialise, optimizer_groups
from cdslm_model.sample.diffusion import Process
from cdslm_model.train import checkpoint
from cdslm_model.train.distributed import World, like, local, precision, spread, whole
from cdslm_model.train.journal import Journal
from cdslm_model.train.objective import Batch, Validation, losses, training_batch
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings
from cdslm_model.train.stopping import Interrupted

__all__ = ["Trainer", "keep", "run"]


class Trainer:
    """Model, optimizer, averages and data of one run.

    Args:
        settings: What determines the run.
        world: The processes that train together.
        windows: Training speech.
        normalizer: Scales log-mels; kept with the model.
        compile_model: Whether torch compiles the network.
    """

    def __init__(
        self, settings: Settings, world: World, windows: Windows, normalizer: Normalizer, compile_model: bool = False
    ) -> None:
        self.settings, self.world, self.windows, self.normalizer = settings, world, windows, normalizer
        self.process: Process = settings.process
        self.model = MMDiT(settings.config)
        initialise(self.model, settings.config, torch.Generator().manual_seed(settings.seed))
        self.model.to(world.device)
        world.shard(self.model)
        self.network: Any = torch.compile(self.model) if compile_model else self.model
        groups = optimizer_groups(self.model, settings.config, lr=settings.lr, weight_decay=settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._named = dict(self.model.named_parameters())
        self._ema = [local(parameter).clone() for parameter in self._named.values()]
        self.step = 0

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Go on from a checkpoint; tensor by tensor, as all of it is four times the model.

        Raises:
            CheckpointError: It is damaged, or of another network.
        """
        averages = dict(zip(self._named, self._ema, strict=True))
        missing = {f"{name} of {file}" for file in ("weights", "ema", "optimizer") for name in self._named}
        with torch.no_grad():
            for name, value in found.each("weights"):
                self._named[name].copy_(like(value, self._named[name]))
                missing.discard(f"{name} of weights")
            for name, value in found.each("ema"):
                averages[name].copy_(local(like(value, self._named[name])))
                missing.discard(f"{name} of ema")
            for name, value in found.each("optimizer"):
                parameter, _, key = name.rpartition(".")
                place = self._named[parameter]
                # The step is no part of the parameter, and not spread
                moved = value.to(self.world.device) if key == "step" else like(value, place)
                self.optimizer.state[place][key] = moved
                missing.discard(f"{parameter} of optimizer")
        if missing:
            raise CheckpointError(f"{found.folder}: lacks {min(missing)}; it is a checkpoint of another network")
        self.step = found.step

    def parts(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the files of a checkpoint and their tensors, whole; every process must take all of them.

        Only the first process is given what was gathered: on one machine the others would hold it again.
        """
        states = self.optimizer.state
        moments = ((f"{n}.{key}", value) for n, p in self._named.items() for key, value in states[p].items())
        averages = zip(self._named.items(), self._ema, strict=True)
        yield "weights", self._gathered(self._named.items())
        yield "ema", self._gathered((name, spread(average, like_it)) for (name, like_it), average in averages)
        yield "optimizer", self._gathered(moments)

    def _gathered(self, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors whole and on the CPU in the first process, and none in the others."""
        held = {}
        for name, value in named:
            gathered = whole(value)
            if self.world.rank == 0:
                held[name] = gathered
        return held

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding what each step came to.

        Raises:
            NotANumberError: The loss or the gradient is not finite.
        """
        with ThreadPoolExecutor(1) as ahead:
            waiting: Future[Batch] = ahead.submit(self._batch, self.step)
            while self.step < until:
                batch = waiting.result()
                if self.step + 1 < until:
                    waiting = ahead.submit(self._batch, self.step + 1)
                share = schedule.share(self.step)
                for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                    group["lr"] = peak * share
                yield self._update(batch, share)

    def _batch(self, step: int) -> Batch:
        size = self.settings.batch_size
        each = size // self.world.size
        places = range(self.world.rank * each, (self.world.rank + 1) * each)
        return training_batch(self.windows, self.normalizer, self.settings.seed, step, places, size)

    def _update(self, batch: Batch, share: float) -> dict[str, float]:
        pieces = list(batch.to(self.world.device).split(len(batch.time) // self.settings.accumulate))
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.world.device)
        for piece in pieces:
            with self._precision():
                loss = losses(self.network, self.process, piece).mean() / len(pieces)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        loss_value = float(self.world.sum(total)) / self.world.size
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        norm_value = float(whole(norm))
        if not math.isfinite(loss_value) or not math.isfinite(norm_value):
            what = "loss" if not math.isfinite(loss_value) else "gradient"
            raise NotANumberError(f"step {self.step + 1}: the {what} is not a number ({loss_value}, norm {norm_value})")
        self.optimizer.step()
        self.step += 1
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._ema, [local(p) for p in self._named.values()], 1.0 - decay)
        return {"loss": loss_value, "grad_norm": norm_value, "lr": self.settings.lr * share}

    def validate(self, validation: Validation) -> float:
        """Return the averaged weights' loss on held-out speech; every process must ask."""
        batch = validation.share(self.world.rank, self.world.size)
        total = torch.zeros((), dtype=torch.float64, device=self.world.device)
        per_pass = max(1, self.settings.batch_size // self.world.size // self.settings.accumulate)
        with self.averaged(), torch.no_grad():
            for piece in batch.to(self.world.device).split(per_pass):
                with self._precision():
                    total += losses(self.network, self.process, piece).double().sum()
        return float(self.world.sum(total)) / len(validation.batch.time)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in the place of the current ones for a while."""
        places = [local(parameter) for parameter in self._named.values()]
        current = [place.clone() for place in places]
        torch._foreach_copy_(places, self._ema)
        try:
            yield
        finally:
            torch._foreach_copy_(places, current)

    def _precision(self) -> torch.autocast:
        """Return the precision of the forward pass."""
        half = precision(self.settings.precision, self.world.device) == torch.bfloat16
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=half)


def run(
    trainer: Trainer,
    folder: Path,
    schedule: WarmupStableDecay,
    until: int,
    validation: Validation,
    journal: Journal | None,
    facts: Mapping[str, Any],
    signals: list[int],
    protected: frozenset[int] = frozenset(),
) -> float:
    """Train up to a step with validation and checkpoints on the way; return the last validation loss.

    Args:
        trainer: At whatever step it is.
        folder: The run's.
        schedule: Learning rate.
        until: The step to reach.
        validation: Held-out speech.
        journal: Of the first process; None in the others.
        facts: What every checkpoint says of the run.
        signals: Filled by whoever asks for the end.
        protected: Steps whose checkpoints stay: branches start from them.

    Raises:
        Interrupted: A signal came.
        TrainingError: The loss is not a number; the last good checkpoint is named.
    """
    settings = trainer.settings
    value = math.nan
    try:
        for values in trainer.advance(schedule, until):
            step = trainer.step
            stop = trainer.world.any(bool(signals))
            if journal:
                journal.step(step, values)
            measured = None
            if step % settings.valid_every == 0 or step == until:
                measured = value = trainer.validate(validation)
                if journal:
                    journal.note(step, {"val_loss": value})
                    journal.say(f"step {step}: validation loss {value:.5f}")
            if stop or step % settings.save_every == 0 or step == until:
                keep(trainer, folder, {**facts, "val_loss": measured}, protected)
            if stop and step < until:
                raise Interrupted(signals[0] if signals else signal.SIGTERM)
    except NotANumberError as error:
        raise TrainingError(
            f"{error}; {_last_good(folder)}. A lower --lr or a higher --warmup-steps may mend it"
        ) from error
    except OSError as error:
        if not no_room(error):
            raise
        raise TrainingError(
            f"{folder}: no room for its log; {_last_good(folder)}. Make room and give the same command again"
        ) from error
    return value


def _last_good(folder: Path) -> str:
    found = checkpoint.last(folder)
    return f"the last good checkpoint is {found.folder}" if found else "there is no checkpoint yet"


def keep(trainer: Trainer, folder: Path, facts: Mapping[str, Any], protected: frozenset[int]) -> None:
    """Write a checkpoint of all processes' parts.

    Raises:
        TrainingError: It cannot be written, in every process.
    """
    parts = trainer.parts()
    failure: TrainingError | None = None
    if trainer.world.rank == 0:
        try:
            checkpoint.save(folder, trainer.step, parts, facts, protected=protected)
        except TrainingError as error:
            failure = error
    # Where writing failed half way, the other processes are still waiting to hand over the rest
    for _ in parts:
        pass
    if trainer.world.any(failure is not None):
        raise failure or TrainingError(f"{folder}: the first process could not write the checkpoint")
