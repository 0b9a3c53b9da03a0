"""Training of the diffusion model: weights, optimizer and averages, the same on a CPU, a GPU and several of them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdslm_model import checkpoint
from cdslm_model.data.mel import Normalizer
from cdslm_model.data.windows import Windows
from cdslm_model.devices import precision
from cdslm_model.errors import CheckpointError
from cdslm_model.guess import FirstGuess
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.net.parametrization import initialise, optimizer_groups
from cdslm_model.stored import StoredTensor
from cdslm_model.train.distributed import (
    World,
    gathered,
    held_rows,
    is_sharded,
    is_writer,
    like,
    local,
    replicated,
    spread,
)
from cdslm_model.train.execution import Execution
from cdslm_model.train.late import LateValues
from cdslm_model.train.lengths import step_lengths
from cdslm_model.train.objective import Collator, StoredBatch, Validation, losses, training_batch
from cdslm_model.train.saving import Saver
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings
from cdslm_model.train.sharded import Shard, save_sharded

__all__ = ["Trainer"]

_LOADERS = 4
"""Threads that read windows for a GPU."""
_ASK_EVERY = 16
"""Most steps between two questions of the processes to each other."""


class Trainer:
    """Model, optimizer, averages and data of one run.

    Args:
        settings: Of the run.
        world: The processes that train together.
        windows: Training speech.
        normalizer: Scales log-mels; stored with the model.
        validation: Held-out windows with fixed noise and times.
        execution: How steps are computed; None is eagerly, with all activations kept.
        guess: Of x0 from the context, which the model corrects; stored with it.
    """

    def __init__(
        self,
        settings: Settings,
        world: World,
        windows: Windows,
        normalizer: Normalizer,
        validation: Validation,
        execution: Execution | None = None,
        guess: FirstGuess | None = None,
    ) -> None:
        self.settings, self.world, self.windows = settings, world, windows
        self.validation, self.process = validation, settings.process
        self.execution = execution = execution or Execution()
        self._guess = None if guess is None else guess.to(world.device)
        self._collate = Collator.of(windows, normalizer, world.device)
        self._collate_held_out = validation.collator(world.device)
        self._dtype = precision(settings.precision, world.device)
        # without memory: sharded first, and then filled parameter by parameter, it need not fit into one process
        with torch.device("meta"):
            self.model = MMDiT(settings.config)
        execution.prepare(self.model, world, self._dtype)
        self.model.to_empty(device=world.device)
        initialise(self.model, settings.config, settings.seed, attention_bias=settings.attention_bias, place=like)
        self._window_losses = execution.compiled(self._losses_of(execution.network(self.model, world)), world)
        # only after sharding, which replaces every parameter by a new object
        groups = optimizer_groups(self.model, settings.config, lr=settings.lr, weight_decay=settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, settings.beta2), fused=True)
        # under muP each group has a peak of its own; the schedule scales all by one share
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._named = dict(self.model.named_parameters())
        # each process averages its own part, which needs no communication
        self._ema = [local(parameter).clone() for parameter in self._named.values()]
        self._saver = Saver(world, any(map(is_sharded, self._named.values())))
        self.step, self._asking = 0, True
        self._asked, self._ask_at = (0, time.monotonic()), 0

    def _losses_of(self, network: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return the function from stored windows to their losses, which is compiled as a whole."""
        process, guess = self.process, self._guess

        def window_losses(
            collate: Collator, stored: StoredBatch, onset_weight: float, lengths: tuple[int, int] | None = None
        ) -> Tensor:
            batch = collate(stored)
            return losses(network, process, batch if lengths is None else batch.cut(*lengths), onset_weight, guess)

        return window_losses

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.world.device

    def restore(self, last: checkpoint.Checkpoint) -> None:
        """Load a checkpoint, tensor by tensor: all of it is four times the model.

        Raises:
            CheckpointError: It is damaged, or of another network.
        """
        averages = dict(zip(self._named, self._ema, strict=True))
        # a parameter that a checkpoint lacks would silently keep its initial value
        missing = {f"{name} of {file}" for file in ("weights", "ema", "optimizer") for name in self._named}
        with torch.no_grad():
            for stored in last.stored("weights"):
                local(self._named[stored.name]).copy_(self._own_rows(last, stored, self._named[stored.name]))
                missing.discard(f"{stored.name} of weights")
            for stored in last.stored("ema"):
                averages[stored.name].copy_(self._own_rows(last, stored, self._named[stored.name]))
                missing.discard(f"{stored.name} of ema")
            for stored in last.stored("optimizer"):
                parameter, _, key = stored.name.rpartition(".")
                target = self._named[parameter]
                # the step count is a scalar and not sharded
                scalar = key == "step"
                own = stored.rows() if scalar else self._own_rows(last, stored, target)
                moved = own.to(self.world.device)
                self.optimizer.state[target][key] = moved if scalar else spread(moved, target)
                missing.discard(f"{parameter} of optimizer")
        if missing:
            raise CheckpointError(f"{last.folder}: lacks {min(missing)}; it is a checkpoint of another network")
        self.step = last.step

    def _own_rows(self, last: checkpoint.Checkpoint, stored: StoredTensor, target: Tensor) -> Tensor:
        """Read the rows of a parameter that this process holds, and no others."""
        if stored.shape != tuple(target.shape):
            raise CheckpointError(
                f"{last.folder}: {stored.name} has the shape {list(stored.shape)}, not {list(target.shape)}; it is a "
                "checkpoint of another network"
            )
        return stored.rows(*held_rows(target))

    def parts(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield the files of a checkpoint and their gathered tensors; every process must consume all of them.

        Only the first process gets the tensors: on one machine the others would hold copies.
        """
        for name, named in self._tensors():
            yield name, self._gathered(named)

    def shards(self) -> dict[str, dict[str, Shard]]:
        """Return copies on the CPU of the rows that this process writes, by part and name."""
        return {
            part: {
                # a copy also on a CPU: training changes the weights while they are written
                name: Shard(local(value).to("cpu", copy=True), held_rows(value)[0], tuple(value.shape))
                for name, value in named
                if is_writer(value) and local(value).numel()
            }
            for part, named in self._tensors()
        }

    def _tensors(self) -> Iterator[tuple[str, Iterable[tuple[str, Tensor]]]]:
        """Yield the parts of a checkpoint, and their tensors as they are spread over the processes."""
        states = self.optimizer.state
        averages = zip(self._named.items(), self._ema, strict=True)
        yield "weights", self._named.items()
        yield "ema", ((name, spread(average, parameter)) for (name, parameter), average in averages)
        yield "optimizer", ((f"{n}.{key}", value) for n, p in self._named.items() for key, value in states[p].items())
        if self._guess is not None:
            yield "guess", self._guess.tensors().items()

    def _gathered(self, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors gathered on the CPU in the first process, and none in the others."""
        tensors = {}
        for name, value in named:
            # in every process: gathering is collective, and the first would wait for those that skip it
            whole = gathered(value)
            if self.world.rank == 0:
                # a copy also on a CPU: training changes the weights while they are written
                tensors[name] = torch.empty(whole.shape, dtype=whole.dtype).copy_(whole)
        return tensors

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[LateValues]:
        """Train up to a step, yielding loss, gradient norm and learning rate of each, which may still be under way.

        A step whose loss or gradient is not finite changes neither weights nor moments.
        """
        try:
            for batch in self._batches(until):
                share = schedule.share(self.step)
                for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                    group["lr"] = peak * share
                yield self._update(batch, share)
        except BaseException:
            # however the loop is left, what was saved is complete; the other processes may be elsewhere
            self._saver.finish()
            raise

    def _batches(self, until: int) -> Iterator[StoredBatch]:
        """Yield the batch of each step, read ahead by threads; a batch depends on its step only."""
        on_gpu = self.world.device.type == "cuda"
        # on a CPU the network needs the cores, and a step takes far longer than its batch
        threads = _LOADERS if on_gpu else 1
        with ThreadPoolExecutor(threads) as ahead:
            waiting: deque[Future[StoredBatch]] = deque()
            for step in range(self.step, until):
                last = min(until, step + threads + 1)
                waiting.extend(ahead.submit(self._batch, later) for later in range(step + len(waiting), last))
                yield waiting.popleft().result().to(self.world.device)

    def _batch(self, step: int) -> StoredBatch:
        settings, size = self.settings, self.settings.batch_size
        # equal shares: FSDP averages gradients over processes, which is the batch's mean only then
        each = size // self.world.size
        rows = range(self.world.rank * each, (self.world.rank + 1) * each)
        batch = training_batch(self.windows, settings.seed, step, rows, size, settings.end_share)
        # pinned here, in a loader's thread: a copy from other memory makes the CPU wait for the GPU
        return batch.pinned() if self.world.device.type == "cuda" else batch

    def _update(self, batch: StoredBatch, share: float) -> LateValues:
        """Take one step; nothing here waits for the device."""
        pieces = list(batch.split(len(batch.time) // self.settings.accumulate))
        lengths = step_lengths(self.settings, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.world.device)
        for piece in pieces:
            # around the backward pass too: recomputed activations must come from the same kernel
            with self.execution.kernel.active():
                with self._precision():
                    values = self._window_losses(self._collate, piece, self.settings.onset_weight, lengths)
                # pieces are of one size, so that their gradients add up to that of the whole share's mean
                loss = values.mean() / len(pieces)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        loss = self.world.sum(total) / self.world.size
        norm = gathered(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm))
        # on the device: the fused optimizer leaves weights, moments and its step count as they are where this is 1
        unusable = 1.0 - (loss.isfinite() & norm.isfinite()).float()
        self.optimizer.found_inf = replicated(unusable, next(iter(self._named.values())))  # type: ignore[attr-defined]
        self.optimizer.step()
        self.step += 1
        self._asking = self.world.size == 1 or self.step >= self._ask_at
        if self.world.size > 1 and self._asking:
            self._ask_at = self.step + self._steps_to_ask()
        # a constant decay would hold the random initial weights in the average for thousands of steps, and lag the
        # learning rate's fall in a short run
        decay = min(self.settings.ema, 1.0 - 1.0 / (1.0 + self.settings.ema_share * (1 + self.step)))
        torch._foreach_lerp_(self._ema, [local(p) for p in self._named.values()], 1.0 - decay)
        return LateValues(("loss", "grad_norm"), torch.stack((loss, norm)), {"lr": self.settings.lr * share})

    def validate(self) -> dict[str, float | None]:
        """Return the averaged weights' loss on held-out windows, and its standard error; a collective call."""
        mine = self.validation.share(self.world.rank, self.world.size).to(self.world.device)
        per_pass = max(1, self.settings.batch_size // self.world.size // self.settings.accumulate)
        pieces = list(mine.split(per_pass))
        # every pass gathers sharded weights, a collective call: a process with one less would leave the others waiting
        largest = -(-self.validation.count // self.world.size)
        extra = -(-largest // per_pass) - len(pieces)
        # shares may differ by a window: sums add up over processes where means would not
        sums = torch.zeros(2, dtype=torch.float64, device=self.world.device)
        with self.averaged(), self.execution.kernel.active(), torch.no_grad():
            for piece in pieces:
                with self._precision():
                    # without the onset weight: every frame counts the same in the loss that runs are compared by
                    values = self._window_losses(self._collate_held_out, piece, 0.0).double()
                sums += torch.stack((values.sum(), values.square().sum()))
            for _ in range(extra):
                piece = next(self.validation.stored.split(1)).to(self.world.device)
                with self._precision():
                    self._window_losses(self._collate_held_out, piece, 0.0)
        total, squares = self.world.sum(sums).tolist()
        count = self.validation.count
        mean = total / count
        # rounding may leave a variance of equal values just below 0
        spread_of_mean = math.sqrt(max(0.0, squares / count - mean**2) / (count - 1)) if count > 1 else None
        return {"val_loss": mean, "val_loss_se": spread_of_mean}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap in the averaged weights for the duration of a block."""
        weights = [local(parameter) for parameter in self._named.values()]
        current = [weight.clone() for weight in weights]
        # copied in place: the optimizer and FSDP hold these very tensors
        torch._foreach_copy_(weights, self._ema)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, current)

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int]) -> None:
        """Begin to write a checkpoint, once the one before it is complete: each process its shards, if there are any.

        Raises:
            TrainingError: The one before it could not be written, in every process.
        """
        self._saver.settle()
        step, group = self.step, self._saver.group
        if group is not None:
            self._saver.start(partial(save_sharded, group, folder, step, self.shards(), facts, protected))
            return
        parts = dict(self.parts())
        self._saver.start(partial(checkpoint.save_checkpoint, folder, step, parts.items(), facts, protected=protected))

    def settle(self) -> None:
        """Wait until the last checkpoint is complete; a collective call.

        Raises:
            TrainingError: It could not be written, in every process.
        """
        self._saver.settle()

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, which several ask about once a second; False in between.

        Each question is a wait for the device, and a step of a small model takes milliseconds.
        """
        return self._asking and self.world.any(flag)

    def _steps_to_ask(self) -> int:
        """Return after how many steps processes ask each other again; a collective call."""
        steps, seconds = max(1, self.step - self._asked[0]), time.monotonic() - self._asked[1]
        self._asked = self.step, time.monotonic()
        mean = float(self.world.sum(torch.tensor(seconds / steps, device=self.world.device))) / self.world.size
        return min(_ASK_EVERY, max(1, int(1.0 / mean)))

    def _precision(self) -> torch.autocast:
        """Return the precision of the forward pass."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._dtype == torch.bfloat16)
