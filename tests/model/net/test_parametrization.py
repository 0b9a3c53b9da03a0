"""Coordinate checks: how far activations move in a few steps knows no width and no depth, unless nothing is scaled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdslm_model.errors import ModelError
from cdslm_model.net.config import Config
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.net.parametrization import (
    BASE_DEPTH,
    BASE_WIDTH,
    STANDARD,
    TABLE,
    initialise,
    optimizer_groups,
    parameters_by_role,
)

STEPS = 8


def movement(config, table, seed, lr):
    """Return how far the last tokens and the output move in a few steps of AdamW, as root mean squares."""
    generator = torch.Generator().manual_seed(seed)
    network = MMDiT(config, table)
    initialise(network, config, seed, table)
    optimizer = torch.optim.AdamW(optimizer_groups(network, config, lr, 0.0, table=table))
    streams = [torch.randn(4, frames, config.mels, generator=generator) for frames in (6, 10)]
    time = torch.rand(4, generator=generator)
    target = torch.randn(4, 10, config.mels, generator=generator)
    hidden = []
    network.blocks[-1].register_forward_hook(lambda _, __, output: hidden.append(output[-1].detach()))
    outputs = []
    for _ in range(STEPS):
        outputs.append(network(streams, time))
        optimizer.zero_grad()
        (outputs[-1] - target).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        outputs.append(network(streams, time))
    rms = lambda x: float(x.detach().square().mean().sqrt())  # noqa: E731
    return rms(hidden[-1] - hidden[0]), rms(outputs[-1] - outputs[0])


def slopes(configs, ratios, table, lr):
    """Return the log-log slopes of both movements against width or depth."""
    moved = np.array([np.mean([movement(config, table, seed, lr) for seed in range(2)], axis=0) for config in configs])
    return np.polyfit(np.log(ratios), np.log(moved), 1)[0]


def test_movement_knows_no_width_and_without_the_table_grows_with_it():
    widths = [64, 128, 256]
    configs = [Config(depth=2, width=width, mels=8) for width in widths]
    hidden, output = slopes(configs, widths, TABLE, 3e-4)
    assert abs(hidden) < 0.15
    assert abs(output) < 0.15
    plain_hidden, plain_output = slopes(configs, widths, STANDARD, 3e-4)
    assert plain_hidden > 0.5
    assert plain_output > 0.5


def test_movement_knows_no_depth_and_without_the_table_grows_with_it():
    depths = [2, 4, 8, 16]
    configs = [Config(depth=depth, width=64, mels=8) for depth in depths]
    hidden, _ = slopes(configs, depths, TABLE, 3e-4)
    plain_hidden, _ = slopes(configs, depths, STANDARD, 3e-4)
    assert abs(hidden) < 0.15
    assert plain_hidden > 0.5


def test_the_base_is_the_recipe_itself_and_decay_times_rate_knows_no_size():
    base = Config(depth=BASE_DEPTH, width=BASE_WIDTH)
    with torch.device("meta"):
        groups = optimizer_groups(MMDiT(base), base)
        wide = Config(depth=2 * BASE_DEPTH, width=4 * BASE_WIDTH)
        scaled = optimizer_groups(MMDiT(wide), wide)
    assert {group["lr"] for group in groups} == {1e-3}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.03}
    assert {group["eps"] for group in groups} == {1e-8}
    for group, other in zip(groups, scaled, strict=True):
        assert group["role"] == other["role"]
        assert other["lr"] * other["weight_decay"] == pytest.approx(group["lr"] * group["weight_decay"])
    by_role = {group["role"]: group for group in scaled}
    assert by_role["hidden"]["lr"] == pytest.approx(1e-3 / 4)
    assert by_role["hidden"]["eps"] == pytest.approx(1e-8 / 8)
    assert by_role["input"]["lr"] == pytest.approx(1e-3)


def test_every_parameter_is_in_one_group_and_starts_as_its_role_says():
    config = Config(depth=2, width=256, extra_streams=(12,))
    network = MMDiT(config)
    initialise(network, config, 0)
    grouped = [one for group in optimizer_groups(network, config) for one in group["params"]]
    assert len(grouped) == len({id(one) for one in grouped}) == len(list(network.parameters()))
    for name, role, parameter in parameters_by_role(network):
        start = TABLE[role].start
        if start == "fan_in":
            assert float(parameter.detach().std() * parameter.shape[1] ** 0.5) == pytest.approx(1, rel=0.05), name
        else:
            assert (parameter == start).all(), name
    again = MMDiT(config)
    initialise(again, config, 0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_a_parameter_without_a_role_is_named():
    model = torch.nn.Sequential(MMDiT(Config(depth=1, width=64)), torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match="Linear '1' names no role for its weight"):
        list(parameters_by_role(model))
