"""The identities of every schedule with every target."""

from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from hypothesis import assume, given, settings  # noqa: E402 - torch may be absent
from hypothesis import strategies as st  # noqa: E402

from cdslm_model.diffusion import SCHEDULES, TARGETS, Process  # noqa: E402
from cdslm_model.errors import ModelError  # noqa: E402

PROCESSES = [
    Process(schedule, target, zero)
    for schedule, target, zero in itertools.product(SCHEDULES, TARGETS, (True, False))
    if zero or schedule != "flow"
]
processes = st.sampled_from(PROCESSES)
inner = st.floats(1e-3, 0.999)
seeds = st.integers(0, 2**31)


def drawn(seed: int, shape=(1, 3, 5)):
    source = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(2))


@given(processes, inner, seeds)
@settings(deadline=None)
def test_example_and_prediction_give_back_clean_and_noise(process, time, seed):
    clean, noise = drawn(seed)
    at = torch.tensor([time])
    alpha, sigma = process.scales(at)
    assume(min(alpha.item(), sigma.item()) > 1e-4)
    actual = process.denoised(process.noised(clean, noise, at), process.predicted(clean, noise, at), at)
    torch.testing.assert_close(actual, (clean, noise), rtol=1e-6, atol=1e-6)


@given(processes, inner, inner)
@settings(deadline=None)
def test_snr_falls_and_variance_is_kept(process, one, other):
    assume(abs(one - other) > 1e-6)
    times = torch.tensor(sorted((one, other)))
    snr = process.log_snr(times)
    assert snr[0] > snr[1]
    alpha, sigma = process.scales(times)
    norm = alpha + sigma if process.schedule == "flow" else alpha**2 + sigma**2
    torch.testing.assert_close(norm, torch.ones_like(norm), rtol=1e-12, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_ends_of_time(process):
    alpha, sigma = process.scales(torch.tensor([0.0, 1.0]))
    assert (alpha[0], sigma[0], sigma[1] > 0.9999) == (1, 0, True)
    assert (alpha[1] == 0) == process.zero_terminal_snr
    weight = process.weight(torch.tensor([0.0, 1.0]))
    assert weight.isfinite().all()
    if process.target == "v":
        assert weight[1] == process.weight_floor, "sampling starts where the min-SNR weight of v vanishes"


def test_linear_is_the_published_one():
    # Song et al. 2021, appendix B and C: 1000 discrete betas from 1e-4 to 0.02, whose running product of 1 - beta
    # the continuous process follows.
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = torch.cumprod(1 - betas, 0)
    alpha, _ = Process("linear", zero_terminal_snr=False).scales(torch.arange(1, 1001) / 1000)
    torch.testing.assert_close(alpha[:300] ** 2, product[:300], rtol=2e-3, atol=0)
    assert math.isclose(alpha[-1] ** 2, product[-1], rel_tol=0.1)


def test_cosine_is_the_published_one_but_for_its_offset():
    times = torch.linspace(0.1, 0.99, 50, dtype=torch.float64)
    alpha, _ = Process("cosine", zero_terminal_snr=False).scales(times)
    published = torch.cos((times + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert (alpha - published).abs().max() < 0.013


@given(processes.filter(lambda process: process.target != "flow"), inner, st.floats(0.5, 20))
@settings(deadline=None)
def test_weight_is_the_published_one_above_the_floor(process, time, gamma):
    process = Process(process.schedule, process.target, process.zero_terminal_snr, gamma, 0.0)
    at = torch.tensor([time])
    snr = process.log_snr(at).exp()
    if process.schedule == "flow" and process.target == "v":
        return  # the published form assumes that variance is preserved
    published = {"v": snr + 1, "epsilon": snr, "x0": torch.ones(1)}[process.target]
    torch.testing.assert_close(process.weight(at), torch.clamp(snr, max=gamma) / published, rtol=1e-6, atol=1e-12)


@given(processes, inner, seeds)
@settings(deadline=None)
def test_weighted_errors_agree_across_targets(process, time, seed):
    """An error of the network costs as much as the error of x0 that it causes, under the capped SNR."""
    clean, noise = drawn(seed)
    wrong = next(drawn(seed + 1))
    at = torch.tensor([time])
    alpha, sigma = process.scales(at)
    assume(min(alpha.item(), sigma.item()) > 1e-3)
    process = Process(process.schedule, process.target, process.zero_terminal_snr, process.gamma, 0.0)
    noisy, right = process.noised(clean, noise, at), process.predicted(clean, noise, at)
    actual, _ = process.denoised(noisy, right + wrong, at)
    snr = process.log_snr(at).exp().clamp(max=process.gamma)
    torch.testing.assert_close(
        process.weight(at) * wrong.square().mean(), snr * (actual - clean).square().mean(), rtol=1e-4, atol=1e-9
    )


def test_floor_touches_only_the_noisy_half():
    times = torch.linspace(0.001, 1, 400)
    for process in PROCESSES:
        bare = Process(process.schedule, process.target, process.zero_terminal_snr, process.gamma, 0.0)
        changed = process.weight(times) != bare.weight(times)
        assert not (changed & (process.log_snr(times) > 0)).any()
        assert (process.weight(times)[process.log_snr(times) < 0] >= process.weight_floor).all()


def test_sampling_of_epsilon_starts_where_it_says_something():
    with_signal = Process("cosine", "epsilon", zero_terminal_snr=True)
    assert -20.01 < with_signal.log_snr(torch.tensor(with_signal.last_time)).item() <= -19.99
    assert Process("cosine", "v").last_time == Process("linear", "epsilon", zero_terminal_snr=False).last_time == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "cosin"}, "no schedule 'cosin'"),
        ({"target": "velocity"}, "no target 'velocity'"),
        ({"schedule": "flow", "zero_terminal_snr": False}, "flow matching"),
        ({"gamma": 0.0}, "gamma"),
        ({"weight_floor": 0.5}, "weight_floor"),
    ],
)
def test_refuses_what_is_no_process(settings, message):
    with pytest.raises(ModelError, match=message):
        Process(**settings)
