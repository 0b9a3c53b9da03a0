"""The network against a plain numpy forward; its counts, its cost, and what lengths and time may not change."""

from __future__ import annotations

import numpy as np
import plain_mmdit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cdslm_model.errors import ModelError
from cdslm_model.net import flops
from cdslm_model.net.config import Config
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.net.parametrization import TABLE, initialise


def awake(config, seed=0):
    """Return a network in float64 whose gates are open, so that every parameter matters."""
    generator = torch.Generator().manual_seed(seed)
    network = MMDiT(config).double()
    initialise(network, config, seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return network.eval()


def drawn(config, batch, frames, seed=1):
    generator = torch.Generator().manual_seed(seed)
    widths = [config.mels, *config.extra_streams, config.mels]
    return [
        torch.randn(batch, count, width, generator=generator).double()
        for count, width in zip(frames, widths, strict=True)
    ]


@pytest.mark.parametrize(
    ("depth", "wanted"),
    [(1, 0.597e6), (4, 36.06e6), (8, 294e6), (12, 1.00e9), (27, 11.51e9), (30, 15.80e9)],
)
def test_the_family_has_the_published_parameter_counts(depth, wanted):
    config = Config.from_depth(depth)
    with torch.device("meta"):
        network = MMDiT(config)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert all(parameter.is_meta for parameter in network.parameters())
    assert counted == config.parameters()
    assert counted == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (Config(depth=2, width=128, mels=6), (5, 7)),
        (Config(depth=1, width=64, mels=4, patch=3), (4, 8)),
        (Config(depth=3, width=64, head_dim=16, mels=4, patch=2, extra_streams=(5,)), (3, 4, 5)),
        (Config(depth=2, width=64, mels=4), (0, 6)),
    ],
)
def test_the_network_equals_a_plain_numpy_forward(config, frames):
    network = awake(config)
    streams = drawn(config, 2, frames)
    time = torch.tensor([0.1, 0.9]).double()
    with torch.no_grad():
        actual = network(streams, time).numpy()
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    multipliers = [TABLE.multiplier(name, config) for name in ("branch", "output")]
    for clip in range(2):
        plain = plain_mmdit.forward(
            weights, config, [stream[clip].numpy() for stream in streams], float(time[clip]), *multipliers
        )
        # the sinusoids of time are float32 in the network
        np.testing.assert_allclose(actual[clip], plain, rtol=1e-3, atol=1e-3)
        assert np.abs(plain).mean() > 0.01


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8)), min_size=1, max_size=4),
    patch=st.integers(1, 3),
)
def test_a_clip_knows_neither_padding_nor_neighbours(lengths, patch):
    config = Config(depth=2, width=64, head_dim=32, mels=4, patch=patch)
    network = awake(config)
    streams = drawn(config, len(lengths), (6, 8))
    time = torch.linspace(0, 1, len(lengths)).double()
    counts = [torch.tensor(one) for one in zip(*lengths, strict=True)]
    with torch.no_grad():
        together = network(streams, time, counts)
        for clip, (before, after) in enumerate(lengths):
            alone = network(
                [streams[0][clip : clip + 1, :before], streams[1][clip : clip + 1, :after]], time[clip : clip + 1]
            )
            torch.testing.assert_close(together[clip, :after], alone[0])
            assert not together[clip, after:].any()


def test_padding_costs_no_operations():
    config = Config(depth=2, width=64)
    network = awake(config).float()
    streams = [one.float() for one in drawn(config, 3, (400, 800))]
    short = [torch.tensor([40, 0, 40]), torch.tensor([80, 20, 80])]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(streams, torch.rand(3), short)
    wanted = 2 * flops.forward(config, 40, 80).total + flops.forward(config, 0, 20).total
    assert counter.get_total_flops() == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(
    ("config", "context", "continuation"),
    [
        (Config.from_depth(1), 80, 240),
        (Config.from_depth(2), 33, 100),
        (Config.from_depth(1, patch=4), 83, 242),
        (Config(depth=3, width=64), 0, 64),
    ],
)
def test_flops_are_those_that_torch_counts(config, context, continuation):
    network = awake(config).float()
    streams = [one.float().requires_grad_() for one in drawn(config, 2, (context, continuation))]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = network(streams, torch.rand(2))
        forward = counter.get_total_flops()
        output.square().sum().backward()
    assert forward == pytest.approx(2 * flops.forward(config, context, continuation).total, rel=0.01)
    assert counter.get_total_flops() == pytest.approx(2 * flops.training(config, context, continuation).total, rel=0.01)


def test_six_nd_drifts_away_from_the_exact_count_by_the_published_factor():
    share = [
        flops.training(config, 800, 2400).total / flops.six_nd(config, 800, 2400)
        for config in (Config.from_depth(1), Config.from_depth(30))
    ]
    assert share[0] / share[1] == pytest.approx(4.4, abs=0.05)


def test_only_distance_in_time_counts_and_the_context_ends_where_speech_begins():
    config = Config(depth=1, width=64, mels=4)
    network = awake(config)
    streams = drawn(config, 1, (5, 6))
    time = torch.tensor([0.5]).double()
    with torch.no_grad():
        whole = network(streams, time)
        later = network([streams[0][:, 1:], streams[1]], time)
        swapped = network([streams[0].flip(1), streams[1]], time)
    assert (whole - swapped).abs().max() > 1e-3
    assert (whole - later).abs().max() > 1e-3
    # forgetting the first frame equals a length that leaves it out, wherever the array holds it
    moved = torch.cat([streams[0][:, 1:], torch.full((1, 1, 4), 9.0).double()], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(network([moved, streams[1]], time, [torch.tensor([4]), None]), later)


def test_a_fresh_network_outputs_0_and_every_parameter_but_the_unused_queries_learns():
    config = Config(depth=2, width=64, mels=4)
    network = MMDiT(config)
    initialise(network, config, 0)
    streams = [one.float() for one in drawn(config, 2, (5, 6))]
    assert not network(streams, torch.rand(2)).any()
    network = awake(config).float()
    network(streams, torch.rand(2)).square().sum().backward()
    still = {name for name, parameter in network.named_parameters() if not parameter.grad.any()}
    assert still == {"blocks.1.streams.0.query_norm.weight"}


def test_it_compiles_to_what_it_says_uncompiled():
    config = Config(depth=2, width=64, mels=4, patch=2)
    network = awake(config).float()
    streams = [one.float() for one in drawn(config, 2, (6, 9))]
    time = torch.tensor([0.2, 0.8])
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(streams, time), network(streams, time), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 100}, "heads of 64"),
        ({"patch": 7}, "1 to 6"),
        ({"depth": 0}, "at least 1"),
        ({"depth": 2.5}, "whole number"),
        ({"extra_streams": (0,)}, "features a frame"),
        ({"colour": 3}, "colour"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_the_field(change, message):
    good = Config.from_depth(1).as_dict()
    assert Config.from_dict(good) == Config.from_depth(1)
    with pytest.raises(ModelError, match=message):
        Config.from_dict({**good, **change})


def test_streams_that_do_not_fit_are_refused():
    network = awake(Config(depth=1, width=64, mels=4))
    good = torch.zeros(1, 3, 4).double()
    for streams, lengths, message in [
        ([good], None, "features a frame"),
        ([good, good[..., :3]], None, "features a frame"),
        ([good, good[:, :0]], None, "0 frames"),
        ([good, good], [torch.tensor([4]), None], "lengths"),
    ]:
        with pytest.raises(ModelError, match=message):
            network(streams, torch.rand(1), lengths)
