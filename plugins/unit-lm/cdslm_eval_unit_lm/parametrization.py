"""muP over width: how initial values, rates and decay of a language model follow from its width.

At the base width, 512, they are transformers' own initial values and the learning rate as it is set; elsewhere each is
scaled by the ratio of the widths, so that a rate tuned at the base holds at every width. Depth is not scaled: a Llama
has no factor on its residual branches.

Source:
    Yang et al. 2022, "Tensor Programs V", Table 3 (Adam).
    Heads are of 64 at every width, so that the scale of attention is the same under both of its forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cdslm_model import ModelError

__all__ = ["BASE_WIDTH", "PARAMETRIZATIONS", "optimizer_groups", "rescale", "role", "width_ratio"]

BASE_WIDTH = 512
_EPS = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Powers:
    """Powers of the ratio of widths.

    Attributes:
        start: Of the deviation of the initial values.
        rate: Of the learning rate.
        decay: Of the weight decay, which AdamW multiplies by the rate: their product must not depend on width.
        eps: Of Adam's epsilon: how the gradient scales.
    """

    start: float = 0.0
    rate: float = 0.0
    decay: float = 0.0
    eps: float = 0.0


_MUP = {
    "embedding": _Powers(eps=-1),
    "hidden": _Powers(start=-0.5, rate=-1, decay=1, eps=-1),
    "output": _Powers(start=-1, rate=-1, decay=1),
    # gains and biases
    "vector": _Powers(eps=-1),
}
PARAMETRIZATIONS: Mapping[str, Mapping[str, _Powers]] = {
    "mup": _MUP,
    # one rate and transformers' initial values at every width
    "standard": {name: _Powers() for name in _MUP},
}


def find_powers(name: str) -> Mapping[str, _Powers]:
    """Return the powers of a parametrization by role.

    Raises:
        ModelError: There is none of that name.
    """
    if name not in PARAMETRIZATIONS:
        raise ModelError(f"There is no parametrization {name!r}; use {' or '.join(PARAMETRIZATIONS)}")
    return PARAMETRIZATIONS[name]


def width_ratio(config: Mapping[str, Any]) -> float:
    """Return the width of a language model over the base's."""
    return float(config["hidden_size" if config["model_type"] == "llama" else "n_embd"]) / BASE_WIDTH


def role(name: str, parameter: nn.Parameter) -> str:
    """Return the role of a parameter of a Llama or GPT-2: "embedding", "hidden", "output" or "vector"."""
    if parameter.ndim < 2:
        return "vector"
    if name.startswith("lm_head."):
        return "output"
    return "embedding" if any(part in ("embed_tokens", "wte", "wpe") for part in name.split(".")) else "hidden"


def rescale(model: nn.Module, config: Mapping[str, Any], name: str) -> None:
    """Scale the initial values that transformers drew; gains and biases stay.

    Args:
        model: Of `build`.
        config: Its shape.
        name: Of the parametrization.
    """
    powers, ratio = find_powers(name), width_ratio(config)
    with torch.no_grad():
        for full, parameter in model.named_parameters():
            parameter.mul_(ratio ** powers[role(full, parameter)].start)


def optimizer_groups(
    model: nn.Module, config: Mapping[str, Any], name: str, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return parameter groups for `torch.optim.AdamW`, one per role.

    Args:
        model: Of `build`.
        config: Its shape.
        name: Of the parametrization.
        lr, weight_decay: As tuned at the base width.
    """
    powers, ratio = find_powers(name), width_ratio(config)
    members: dict[str, list[nn.Parameter]] = {}
    for full, parameter in model.named_parameters():
        members.setdefault(role(full, parameter), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * ratio ** powers[kind].rate,
            # decay would pull gains and biases of norms towards 0, where they do not belong
            "weight_decay": 0.0 if kind == "vector" else weight_decay * ratio ** powers[kind].decay,
            "eps": _EPS * ratio ** powers[kind].eps,
        }
        for kind, parameters in members.items()
    ]
