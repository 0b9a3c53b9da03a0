"""Samplers on Gaussian data, whose optimal denoiser is known; guidance; noise that belongs to its clip."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")


from cdslm_model.diffusion import SCHEDULES, TARGETS, Process  # noqa: E402
from cdslm_model.errors import ModelError  # noqa: E402
from cdslm_model.sample.sampling import SAMPLERS, find_sampler, guided, times  # noqa: E402

PROCESSES = [
    *(Process(schedule, "v", zero) for schedule in SCHEDULES for zero in (True, False) if zero or schedule != "flow"),
    Process("cosine", "epsilon", zero_terminal_snr=False),
    Process("cosine", "epsilon", zero_terminal_snr=True),
    Process("linear", "x0", zero_terminal_snr=True),
    Process("flow", "flow"),
]
MEAN = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
ROOT = torch.tensor(
    [[1.0, 0.3, 0.0, 0.2], [0.0, 0.5, -0.4, 0.1], [0.0, 0.0, 1.5, 0.7], [0.0, 0.0, 0.0, 0.1]], dtype=torch.float64
)
COVARIANCE = ROOT @ ROOT.T


def optimal(process: Process):
    """Return E[y | x_t] for Gaussian data of MEAN and COVARIANCE."""

    def predict(x, time):
        alpha, sigma = process.scales(time)
        total = alpha**2 * COVARIANCE + sigma**2 * torch.eye(4, dtype=torch.float64)
        # Solved in the noise, so that it stays exact at both ends of time: E[noise | x] = sigma total^-1 (x - alpha mu)
        rest = torch.linalg.solve(total, (x - alpha * MEAN).mT).mT
        noise, clean = sigma * rest, MEAN + alpha * rest @ COVARIANCE
        of_clean, of_noise = TARGETS[process.target](alpha, sigma)
        return of_clean * clean + of_noise * noise

    return predict


def exact(process: Process, x, start: float, end: float):
    """Return where the probability-flow equation leads from x at one time: a linear map, as all is Gaussian."""
    values, vectors = torch.linalg.eigh(COVARIANCE)
    alpha, sigma = process.scales(torch.tensor([start, end], dtype=torch.float64))
    deviation = torch.sqrt(torch.outer(alpha**2, values) + (sigma**2)[:, None])
    straight = vectors @ torch.diag(deviation[1] / deviation[0]) @ vectors.T
    return alpha[1] * MEAN + (x - alpha[0] * MEAN) @ straight


def error(name: str, process: Process, grid: list[float]) -> float:
    start = torch.eye(4, dtype=torch.float64)[None] + 0.5
    actual = SAMPLERS[name](optimal(process), start, grid, process)
    return (actual - exact(process, start, grid[0], grid[-1])).abs().max().item()


ORDERS = [
    (name, order, process)
    for name, order in (("ddim", 1), ("euler", 1), ("heun", 2), ("dpm-solver-2m", 2))
    for process in PROCESSES
    if name != "euler" or process.schedule == "flow"
]


@pytest.mark.parametrize(("name", "order", "process"), ORDERS, ids=str)
def test_converges_to_the_exact_solution_in_its_order(name, order, process):
    # The middle nine tenths of the path: both ends have a finite log-SNR, for which the orders are proved.
    coarse, fine = (error(name, process, times(process, 20 * n)[n : 19 * n + 1]) for n in (8, 32))
    # Four times the steps: errors fall 4-fold at order 1, 16-fold at order 2.
    assert order - 0.15 < math.log(coarse / fine, 4) < order + 0.15


@pytest.mark.parametrize(("name", "order", "process"), ORDERS, ids=str)
def test_reaches_the_exact_solution_from_pure_noise_to_clean(name, order, process):
    few, many = (error(name, process, times(process, steps)) for steps in (40, 640))
    assert many < {1: 0.03, 2: 5e-4}[order]
    assert math.log(few / many, 16) > {1: 0.9, 2: 1.45}[order], "steps at infinite log-SNR cost order 2 a logarithm"


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm-solver-2m"])
def test_recovers_mean_and_covariance(name):
    process = Process("cosine", "v", zero_terminal_snr=True)
    # The sampler is an affine map x0 = b + A noise here, so that b is the mean and A A^T the covariance of its samples.
    probes = torch.cat([torch.zeros(1, 4), torch.eye(4)])[None].double()
    actual = SAMPLERS[name](optimal(process), probes, times(process, 1000 if name == "ddim" else 200), process)[0]
    linear = actual[1:] - actual[0]
    torch.testing.assert_close(actual[0], MEAN, rtol=0, atol=0.01)
    torch.testing.assert_close(linear.mT @ linear, COVARIANCE, rtol=0, atol=0.02)


def test_euler_on_straight_lines_is_ddim():
    process = Process("flow", "flow")
    start = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    actual = [SAMPLERS[name](optimal(process), start, times(process, 7), process) for name in ("euler", "ddim")]
    torch.testing.assert_close(*actual)
    with pytest.raises(ModelError, match="use ddim"):
        find_sampler("euler")(optimal(Process()), start, times(Process(), 7), Process())


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_finite(name, steps):
    for process in PROCESSES:
        start = torch.ones(1, 2, 4, dtype=torch.float64)
        assert SAMPLERS[name](optimal(process), start, times(process, steps), process).isfinite().all()


def test_guidance_mixes_both_predictions_in_one_batch():
    batches = []

    def network(conditions):
        def predict(x, time):
            batches.append(len(x))
            return x * time.float() + conditions[0].mean(1, keepdim=True)

        return predict

    speech, silence, x, time = torch.ones(2, 3, 4), torch.zeros(2, 3, 4), torch.randn(2, 5, 4), torch.rand(())
    towards, without = x * time + 1, x * time
    for guidance in (0.0, 0.5, 1.0, 3.0):
        actual = guided(network, (speech,), (silence,), guidance)(x, time)
        torch.testing.assert_close(actual, without + guidance * (towards - without))
    assert batches == [2, 4, 2, 4], "one batch of both, and one alone where the other does not count"
    in_turn = guided(network, (speech,), (silence,), 3.0, one_batch=False)(x, time)
    torch.testing.assert_close(in_turn, actual)
    assert batches[4:] == [2, 2]


def test_rescaled_guidance_keeps_level_and_spread():
    """Guidance against silence scales x0 up; in full, rescaling returns each clip's own mean and deviation."""
    process, generator = Process(), torch.Generator().manual_seed(0)
    speech, x = (torch.randn(2, frames, 4, generator=generator) + 1 for frames in (6, 5))
    time = torch.tensor(0.4, dtype=torch.float64)

    def network(conditions):
        """Return the prediction whose x0 is three times the context's mean, plus a part of x_t."""
        mean = conditions[0].mean(1, keepdim=True)
        return lambda x, time: process.prediction(x, 3 * mean + 0.5 * x, time)

    def clean(guidance, **named):
        predict = guided(network, (speech,), (speech - 2,), guidance, process=process, **named)
        return process.denoised(x, predict(x, time), time)[0]

    plain, loud = clean(1.0), clean(2.0)
    assert (loud.mean((1, 2)) - plain.mean((1, 2)) > 3).all()
    back = clean(2.0, rescale=1.0)
    torch.testing.assert_close(back.mean((1, 2)), plain.mean((1, 2)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.std((1, 2)), plain.std((1, 2)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(clean(2.0, rescale=0.5), (loud + back) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_a_prediction_and_the_x0_that_it_determines_are_one(process):
    noisy, clean = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    time = torch.tensor([0.1, 0.6, process.last_time], dtype=torch.float64)
    if process.target == "epsilon":
        time[2] = 0.9  # at its last time x0 hangs on the last digits of the prediction
    actual, _ = process.denoised(noisy, process.prediction(noisy, clean, time), time)
    torch.testing.assert_close(actual, clean, rtol=0, atol=1e-5)


def test_unknown_sampler_names_the_known_ones():
    with pytest.raises(ModelError, match="dpm-solver-2m"):
        find_sampler("dpm")


@pytest.mark.parametrize("process", PROCESSES, ids=str)
def test_times_are_even_in_the_angle(process):
    grid = times(process, 9)
    assert (grid[0], grid[-1], len(grid)) == (process.last_time, 0.0, 10)
    alpha, sigma = process.scales(torch.tensor(grid, dtype=torch.float64))
    gaps = torch.atan2(sigma, alpha).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(9), rtol=1e-6, atol=0)


def test_a_power_above_one_makes_the_first_steps_finer():
    process = Process("linear")
    alpha, sigma = process.scales(torch.tensor(times(process, 8, 2.0), dtype=torch.float64))
    shares = torch.atan2(sigma, alpha) / torch.atan2(sigma, alpha)[0]
    torch.testing.assert_close(shares, 1 - (torch.arange(9) / 8.0).double() ** 2, rtol=0, atol=1e-6)


def test_schedules_that_keep_variance_sample_alike():
    """With times even in the angle, the same steps are taken whatever the schedule."""
    start = torch.randn(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    actual = [
        SAMPLERS["heun"](optimal(process), start, times(process, 12), process)
        for process in (Process("linear"), Process("cosine"), Process("exponential"))
    ]
    torch.testing.assert_close(actual[0], actual[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(actual[0], actual[2], rtol=0, atol=1e-6)
