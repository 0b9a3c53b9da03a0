"""How initial values and optimizer settings follow from width and depth: muP and CompleteP as one table.

A recipe that is tuned at the base (36M: width 512, depth 4) holds at every size, when each parameter's settings are
scaled by powers of the ratios of width and depth to the base's. The role of a parameter decides the powers.

Source:
    Yang et al. 2022, "Tensor Programs V" (muP, Adam); Dey et al. 2025, "Don't be lazy: CompleteP enables
    compute-efficient deep transformers", Table 1 with alpha = 1. The rows of adaLN, the time perceptron and the norm
    scales are ours, derived by the same rule: the change of an activation by an update depends on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "BASE_DEPTH",
    "BASE_EPS",
    "BASE_LEARNING_RATE",
    "BASE_WEIGHT_DECAY",
    "BASE_WIDTH",
    "STANDARD",
    "TABLE",
    "Power",
    "Role",
    "Table",
    "initialise",
    "optimizer_groups",
    "parameters_by_role",
]

BASE_WIDTH, BASE_DEPTH = 512, 4
BASE_LEARNING_RATE, BASE_WEIGHT_DECAY, BASE_EPS = 1e-3, 0.03, 1e-8


@dataclass(frozen=True, slots=True)
class Power:
    """A factor: ratio of widths to the power `width`, times ratio of depths to the power `depth`."""

    width: float = 0.0
    depth: float = 0.0

    def __call__(self, config: Config) -> float:
        """Return the factor of a network against the base."""
        return float((config.width / BASE_WIDTH) ** self.width * (config.depth / BASE_DEPTH) ** self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Initial value and optimizer factors of one kind of parameter.

    Attributes:
        start: "fan_in" draws from a normal of deviation fan_in^-1/2; a number fills.
        rate: Factor of the learning rate.
        decay: Factor of the weight decay, which AdamW multiplies by the learning rate; None is no decay.
        eps: Factor of Adam's epsilon: how the gradient scales.
        multiplier: Factor of the parameter's product in the forward pass.
    """

    start: float | str
    rate: Power = Power()
    decay: Power | None = None
    eps: Power = Power()
    multiplier: Power = Power()


class Table(Mapping[str, Role]):
    """Roles by name."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = MappingProxyType(dict(roles))

    def __getitem__(self, name: str) -> Role:
        return self._roles[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)

    def multiplier(self, name: str, config: Config) -> float:
        """Return the factor of a role's product in the forward pass."""
        return self[name].multiplier(config)


TABLE = Table(
    {
        # mel frames and time features: their number does not grow with width
        "input": Role(start="fan_in", decay=Power(), eps=Power(width=-1)),
        # one unit's part in the output shrinks as 1 / width, and so does its gradient
        "outer_bias": Role(start=0.0, eps=Power(width=-1)),
        # the second layer of the time perceptron: hidden, but outside the residual branches
        "time": Role(start="fan_in", rate=Power(width=-1), decay=Power(width=1), eps=Power(width=-1)),
        # attention and perceptron of a block: fan-in grows with width; every branch is a depth-th of the whole
        "hidden": Role(start="fan_in", rate=Power(width=-1), decay=Power(width=1), eps=Power(width=-1, depth=-1)),
        # adaLN-zero: every branch starts closed, every layer norm plain
        "modulation": Role(start=0.0, rate=Power(width=-1), decay=Power(width=1), eps=Power(width=-1, depth=-1)),
        "bias": Role(start=0.0, eps=Power(width=-1, depth=-1)),
        # scales of the query and key norms are shared by all heads, so their gradient is a sum over the width
        "norm_scale": Role(start=1.0, eps=Power(depth=-1)),
        # CompleteP, alpha = 1: the sum over all branches keeps its size at any depth
        "branch": Role(start=0.0, multiplier=Power(depth=-1)),
        # muP: the factor 1 / width stands in the forward pass, so that the learning rate stays constant
        "output": Role(start=0.0, decay=Power(), eps=Power(width=-1), multiplier=Power(width=-1)),
        # its gradient is that of the loss itself, whatever the width
        "output_bias": Role(start=0.0),
    }
)
"""muP + CompleteP, the parametrization of the paper. "branch" has no parameters: it is the residual multiplier."""

STANDARD = Table(
    {name: Role(start=role.start, decay=None if role.decay is None else Power()) for name, role in TABLE.items()}
)
"""The same initial values and nothing scaled: the control of the coordinate checks."""


def parameters_by_role(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Yield name, role and parameter of all trainable parameters of a network, in the order of its modules.

    Raises:
        ModelError: A module does not name the roles of its parameters.
    """
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            roles = getattr(module, "roles", {})
            # no default: a role that fits at the base would go wrong unseen at every other width
            if name not in roles:
                raise ModelError(f"{type(module).__name__} {prefix!r} names no role for its {name}")
            yield f"{prefix}.{name}", roles[name], parameter


def initialise(
    model: nn.Module,
    config: Config,
    seed: int,
    table: Table = TABLE,
    attention_bias: float = 0.0,
    place: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> None:
    """Fill every parameter of a network, each from a random source of its own, named like it.

    Values depend on seed, name and shape only: not on the device, the order of the modules, or how it is sharded.

    Args:
        model: An `MMDiT`, on the device where its values are drawn.
        config: Its shape.
        seed: Of all random values.
        table: The parametrization.
        attention_bias: Of queries and keys. The rotary embedding turns an equal bias of both into a preference for
            tokens that are near in time, which a network with biases of 0 must first learn.
        place: Called with a whole value and its parameter; returns it sharded like the parameter.
    """
    import torch

    from cdslm_model.noise import clip_noise

    with torch.no_grad():
        for name, role, parameter in parameters_by_role(model):
            start = table[role].start
            if isinstance(start, float):
                value = torch.full(parameter.shape, start, device=parameter.device)
                if name.endswith("qkv.bias"):
                    # not those of the values, the last third of the joint projection
                    value[: 2 * config.width] = attention_bias
            else:
                rows, columns = parameter.shape
                value = clip_noise(seed, [f"parameter {name}"], rows, columns, parameter.device)[0] * columns**-0.5
            # one whole parameter at a time: the network as a whole may fit into no single process
            parameter.copy_(value if place is None else place(value, parameter))


def optimizer_groups(
    model: nn.Module,
    config: Config,
    lr: float = BASE_LEARNING_RATE,
    weight_decay: float = BASE_WEIGHT_DECAY,
    *,
    eps: float = BASE_EPS,
    table: Table = TABLE,
) -> list[dict[str, Any]]:
    """Return parameter groups for `torch.optim.AdamW`, one per role, in the order of the table.

    Args:
        model: An `MMDiT`, or a wrapper of it.
        config: Its shape.
        lr, weight_decay, eps: As tuned at the base.
        table: The parametrization.

    Returns:
        Groups with "params", "lr", "weight_decay", "eps" and "role".
    """
    members: dict[str, list[nn.Parameter]] = {name: [] for name in table}
    for _, role, parameter in parameters_by_role(model):
        members[role].append(parameter)
    return [
        {
            "params": members[name],
            "lr": lr * role.rate(config),
            # AdamW shrinks weights by rate times decay, a product that must not depend on width
            "weight_decay": 0.0 if role.decay is None else weight_decay * role.decay(config),
            # Adam ignores the scale of gradients only while eps is small against them at every size
            "eps": eps * role.eps(config),
            "role": name,
        }
        for name, role in table.items()
        if members[name]
    ]
