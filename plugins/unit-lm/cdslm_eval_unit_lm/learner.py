"""Training of the unit language model: weights, optimizer and windows, from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cdslm_eval_unit_lm.corpus import UnitWindows
from cdslm_eval_unit_lm.language import build, load_weights
from cdslm_eval_unit_lm.parametrization import optimizer_groups, rescale
from cdslm_eval_unit_lm.settings import Settings
from cdslm_model import (
    Checkpoint,
    NotANumberError,
    TrainingError,
    WarmupStableDecay,
    World,
    precision,
    save_checkpoint,
)

__all__ = ["Learner", "best_constant", "with_opening"]


class Learner:
    """A language model in training; with several processes each holds all of it and takes its share of every batch.

    Args:
        settings: Of the run.
        config: Of the language model.
        world: The processes that train together.
        windows: Training windows.
        held_out: Held-out windows, int64 `[count, length]`.
        tensors: Further tensors of every checkpoint, by file: the units.
        compiled: Whether torch compiles the model.
    """

    def __init__(
        self,
        settings: Settings,
        config: Mapping[str, Any],
        world: World,
        windows: UnitWindows,
        held_out: Tensor,
        tensors: Mapping[str, Mapping[str, Tensor]],
        compiled: bool = False,
    ) -> None:
        self.settings, self.world, self.device, self.step = settings, world, world.device, 0
        self._windows, self._held_out, self._tensors = windows, held_out, tensors
        self._opening = int(config["vocab_size"]) - 1
        self.model: Any = build(config, settings.seed)
        rescale(self.model, config, settings.parametrization)
        self.model.to(self.device)
        # torch.compile prefixes parameter names; those of checkpoints are taken from the plain model
        self._network: Any = torch.compile(self.model) if compiled else self.model
        self._named: dict[str, torch.nn.Parameter] = dict(self.model.named_parameters())
        groups = optimizer_groups(self.model, config, settings.parametrization, settings.lr, settings.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
        # each role has a peak of its own; the schedule scales all by one share
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        self._averages = {name: value.detach().clone() for name, value in self._named.items()} if settings.ema else {}

    def restore(self, last: Checkpoint) -> None:
        """Load a checkpoint."""
        load_weights(self.model, last.tensors("weights"))
        if self._averages:
            averages = last.tensors("ema")
            self._averages = {name: averages[name].to(self.device) for name in self._named}
        moments = last.tensors("optimizer")
        for name, parameter in self._named.items():
            # the checkpoint of step 0 was written before the optimizer had any state
            if f"{name}.step" in moments:
                state = {key: moments[f"{name}.{key}"].to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                # AdamW that is neither fused nor capturable keeps its step count on the CPU
                self._optimizer.state[parameter] = {"step": moments[f"{name}.step"], **state}
        self.step = last.step

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int] = frozenset()) -> None:
        """Write a checkpoint in the first process, keeping those of protected steps.

        Raises:
            TrainingError: It cannot be written, in every process.
        """
        failure: TrainingError | None = None
        if self.world.rank == 0:
            try:
                save_checkpoint(folder, self.step, self._parts().items(), facts, protected=protected)
            except TrainingError as error:
                failure = error
        # the others must raise too: training on, they would wait for the first
        if self.any(failure is not None):
            raise TrainingError(self.world.first_text(str(failure))) from failure

    def settle(self) -> None:
        """Return at once: `save` returns when its checkpoint is complete, in every process."""

    def _parts(self) -> dict[str, Mapping[str, Tensor]]:
        """Return the tensors of a checkpoint by file."""
        weights = {name: parameter.detach().cpu().clone() for name, parameter in self._named.items()}
        averages = {name: value.cpu().clone() for name, value in self._averages.items()}
        optimizer = {
            f"{name}.{key}": value.detach().cpu().clone()
            for name, parameter in self._named.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }
        return {"weights": weights, **({"ema": averages} if averages else {}), "optimizer": optimizer, **self._tensors}

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self.world.any(flag)

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding loss, gradient norm and learning rate of each.

        Raises:
            NotANumberError: The loss or the gradient is not finite.
        """
        size = self.settings.batch_size
        each = size // self.world.size
        rows = range(self.world.rank * each, (self.world.rank + 1) * each)
        while self.step < until:
            tokens = self._windows.batch(self.settings.seed, self.step, rows, size)
            yield self._update(tokens, schedule.share(self.step))

    def _update(self, tokens: Tensor, share: float) -> dict[str, float]:
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._losses(tokens).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        value = self._shared_gradients(loss.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self._named.values(), self.settings.clip_norm))
        # both are values of all processes: all raise together
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise NotANumberError(f"step {self.step + 1}: the loss is not a number ({value}, gradient norm {norm})")
        self._optimizer.step()
        self.step += 1
        if self._averages:
            # the horizon grows with the run: a constant one would hold the initial weights for long
            decay = min(self.settings.ema, 1.0 - 1.0 / (1.0 + self.settings.ema_share * (1 + self.step)))
            weights = [parameter.detach() for parameter in self._named.values()]
            torch._foreach_lerp_(list(self._averages.values()), weights, 1.0 - decay)
        return {"loss": value, "grad_norm": norm, "lr": self.settings.lr * share}

    def _shared_gradients(self, loss: Tensor) -> float:
        """Average gradients over the processes, in one message, and return the mean loss."""
        if self.world.size == 1:
            return float(loss)
        gradients = [parameter.grad for parameter in self._named.values() if parameter.grad is not None]
        flat = self.world.sum(torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)]))
        flat /= self.world.size
        parts = torch.split(flat[1:], [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(flat[0])

    def validate(self) -> dict[str, float | None]:
        """Return the mean loss of held-out windows in nats a token, and its standard error over windows.

        It is that of the averaged weights where there are any; a collective call.
        """
        count, length = self._held_out.shape
        sums = torch.zeros(count, dtype=torch.float64)
        with self._averaged(), torch.no_grad():
            mine = torch.arange(self.world.rank, count, self.world.size)
            for rows in torch.split(mine, self.settings.batch_size):
                own = self._held_out[rows]
                sums[rows] = self._losses(own).double().view(own.shape).sum(1).cpu()
        sums = self.world.sum(sums.to(self.device)).cpu()
        # over windows: the losses of neighbouring tokens are not independent
        error = float(sums.std() / length / math.sqrt(count)) if count > 1 else None
        return {"val_loss": float(sums.sum() / (count * length)), "val_loss_se": error}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Swap in the averaged weights, where there are any, for the duration of a block."""
        if not self._averages:
            yield
            return
        weights = [parameter.detach() for parameter in self._named.values()]
        current = [weight.clone() for weight in weights]
        # in place: the optimizer holds these very tensors
        torch._foreach_copy_(weights, list(self._averages.values()))
        try:
            yield
        finally:
            torch._foreach_copy_(weights, current)

    def _losses(self, tokens: Tensor) -> Tensor:
        """Return the loss of each token, float32 `[batch * length]`."""
        tokens = tokens.to(self.device)
        half = precision(self.settings.precision, self.device) == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            # the opening token is the past of the first unit, so that every unit of a window is predicted
            logits = self._network(with_opening(tokens, self._opening)[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")


def with_opening(tokens: Tensor, opening: int) -> Tensor:
    """Return windows with the opening token prepended."""
    return torch.cat([torch.full_like(tokens[:, :1], opening), tokens], dim=1)


def best_constant(tokens: Tensor) -> float:
    """Return the loss of the best prediction without a past: the entropy of these tokens, in nats a token."""
    shares = torch.bincount(tokens.flatten()).double() / tokens.numel()
    return float(-torch.special.xlogy(shares, shares).sum())
