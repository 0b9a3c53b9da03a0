"""Training of the unit language model: weights, optimizer and windows, from step to step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cdslm_eval_unit_lm.corpus import UnitWindows
from cdslm_eval_unit_lm.language import build, load_weights
from cdslm_eval_unit_lm.settings import Settings
from cdslm_model import Checkpoint, NotANumberError, WarmupStableDecay, save_checkpoint

__all__ = ["Learner", "best_constant", "with_opening"]


class Learner:
    """A language model in training.

    Args:
        settings: Of the run.
        config: Of the language model.
        device: Of the model.
        windows: Training windows.
        held_out: Held-out windows, int64 `[count, length]`.
        tensors: Further tensors of every checkpoint, by file: the units.
    """

    def __init__(
        self,
        settings: Settings,
        config: Mapping[str, Any],
        device: torch.device,
        windows: UnitWindows,
        held_out: Tensor,
        tensors: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        self.settings, self.device, self.step = settings, device, 0
        self._windows, self._held_out, self._tensors = windows, held_out, tensors
        self._opening = int(config["vocab_size"]) - 1
        self.model: Any = build(config, settings.seed).to(device)
        self._named: dict[str, torch.nn.Parameter] = dict(self.model.named_parameters())
        # decay would pull gains and biases of norms towards 0, where they do not belong
        matrices = [parameter for parameter in self._named.values() if parameter.ndim > 1]
        vectors = [parameter for parameter in self._named.values() if parameter.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=settings.lr, betas=(0.9, 0.95)
        )

    def restore(self, last: Checkpoint) -> None:
        """Load a checkpoint."""
        load_weights(self.model, last.tensors("weights"))
        moments = last.tensors("optimizer")
        for name, parameter in self._named.items():
            # the checkpoint of step 0 was written before the optimizer had any state
            if f"{name}.step" in moments:
                state = {key: moments[f"{name}.{key}"].to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                # AdamW that is neither fused nor capturable keeps its step count on the CPU
                self._optimizer.state[parameter] = {"step": moments[f"{name}.step"], **state}
        self.step = last.step

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int] = frozenset()) -> None:
        """Write a checkpoint, keeping those of protected steps."""
        weights = {name: parameter.detach().cpu().clone() for name, parameter in self._named.items()}
        optimizer = {
            f"{name}.{key}": value.detach().cpu().clone()
            for name, parameter in self._named.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }
        parts = {"weights": weights, "optimizer": optimizer, **self._tensors}
        save_checkpoint(folder, self.step, parts.items(), facts, protected=protected)

    def any(self, flag: bool) -> bool:
        """Return the flag: there is one process."""
        return flag

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding loss, gradient norm and learning rate of each.

        Raises:
            NotANumberError: The loss or the gradient is not finite.
        """
        while self.step < until:
            tokens = self._windows.batch(self.settings.seed, self.step, self.settings.batch_size)
            yield self._update(tokens, schedule.share(self.step))

    def _update(self, tokens: Tensor, share: float) -> dict[str, float]:
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * share
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._losses(tokens).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self._named.values(), self.settings.clip_norm))
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise NotANumberError(f"step {self.step + 1}: the loss is not a number ({value}, gradient norm {norm})")
        self._optimizer.step()
        self.step += 1
        return {"loss": value, "grad_norm": norm, "lr": self.settings.lr * share}

    def validate(self) -> dict[str, float | None]:
        """Return the mean loss of held-out windows in nats a token, and its standard error over windows."""
        with torch.no_grad():
            parts = torch.split(self._held_out, self.settings.batch_size)
            sums = torch.cat([self._losses(part).double().view(part.shape).sum(1).cpu() for part in parts])
        count, length = self._held_out.shape
        # over windows: the losses of neighbouring tokens are not independent
        error = float(sums.std() / length / math.sqrt(count)) if count > 1 else None
        return {"val_loss": float(sums.sum() / (count * length)), "val_loss_se": error}

    def _losses(self, tokens: Tensor) -> Tensor:
        """Return the loss of each token, float32 `[batch * length]`."""
        tokens = tokens.to(self.device)
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            # the opening token is the past of the first unit, so that every unit of a window is predicted
            logits = self.model(with_opening(tokens, self._opening)[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")


def with_opening(tokens: Tensor, opening: int) -> Tensor:
    """Return windows with the opening token prepended."""
    return torch.cat([torch.full_like(tokens[:, :1], opening), tokens], dim=1)


def best_constant(tokens: Tensor) -> float:
    """Return the loss of the best prediction without a past: the entropy of these tokens, in nats a token."""
    shares = torch.bincount(tokens.flatten()).double() / tokens.numel()
    return float(-torch.special.xlogy(shares, shares).sum())
