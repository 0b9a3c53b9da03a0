"""Weights and optimizer of one run, from step to step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cdslm_eval_unit_lm.language import build, filled
from cdslm_eval_unit_lm.settings import Settings
from cdslm_model.errors import TrainingError
from cdslm_model.train.checkpoint import Checkpoint

__all__ = ["Learner", "best_constant", "with_opening"]


class Learner:
    """A language model that learns.

    Args:
        settings: Of the run.
        config: Of the language model.
        device: Where it learns.
    """

    def __init__(self, settings: Settings, config: Mapping[str, Any], device: torch.device) -> None:
        self.settings, self.device, self.step = settings, device, 0
        self._opening = int(config["vocab_size"]) - 1
        self.model: Any = build(config, settings.seed).to(device)
        self._named: dict[str, torch.nn.Parameter] = dict(self.model.named_parameters())
        matrices = [one for one in self._named.values() if one.ndim > 1]
        vectors = [one for one in self._named.values() if one.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=settings.lr, betas=(0.9, 0.95)
        )

    def restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint."""
        filled(self.model, found.tensors("weights"))
        moments = found.tensors("optimizer")
        for name, parameter in self._named.items():
            if f"{name}.step" in moments:
                state = {key: moments[f"{name}.{key}"].to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                self._optimizer.state[parameter] = {"step": moments[f"{name}.step"], **state}
        self.step = found.step

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return what a checkpoint holds."""
        weights = {name: one.detach().cpu().clone() for name, one in self._named.items()}
        optimizer = {
            f"{name}.{key}": value.detach().cpu().clone()
            for name, one in self._named.items()
            for key, value in self._optimizer.state.get(one, {}).items()
        }
        return {"weights": weights, "optimizer": optimizer}

    def learn(self, tokens: Tensor, share: float) -> dict[str, float]:
        """Take one step on windows `[batch, length]`, at a share of the peak learning rate.

        Raises:
            TrainingError: The loss is not a number.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * share
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._losses(tokens).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self._named.values(), self.settings.clip_norm))
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(f"step {self.step + 1}: the loss is not a number ({value}, gradient norm {norm})")
        self._optimizer.step()
        self.step += 1
        return {"loss": value, "grad_norm": norm, "lr": self.settings.lr * share}

    def validate(self, tokens: Tensor) -> float:
        """Return the mean loss over held-out windows, in nats a token."""
        with torch.no_grad():
            parts = [self._losses(part).double().sum() for part in torch.split(tokens, self.settings.batch_size)]
        return float(torch.stack(parts).sum() / tokens.numel())

    def _losses(self, tokens: Tensor) -> Tensor:
        """Return the loss of each token, float32 `[batch * length]`."""
        tokens = tokens.to(self.device)
        half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self.model(with_opening(tokens, self._opening)[:, :-1], use_cache=False).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")


def with_opening(tokens: Tensor, opening: int) -> Tensor:
    """Return windows with the token that opens them in front."""
    return torch.cat([torch.full_like(tokens[:, :1], opening), tokens], dim=1)


def best_constant(tokens: Tensor) -> float:
    """Return the loss of the best prediction that knows no past: the entropy of these tokens, in nats a token."""
    shares = torch.bincount(tokens.flatten()).double() / tokens.numel()
    return float(-torch.special.xlogy(shares, shares).sum())
