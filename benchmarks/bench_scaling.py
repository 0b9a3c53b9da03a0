"""The point fit against the reference method (4,500 starts of L-BFGS-B with numerical gradients), and the bootstrap."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from cdslm_eval.scaling import fit_law
from cdslm_eval.table import RunTable

DATA = Path(__file__).parents[2] / "shared" / "data" / "scaling" / "chinchilla_epoch" / "svg_extracted_data.csv"
STARTS = 4500
SAMPLE = 45
"""Starts of the reference that are timed: every hundredth of its grid, the rest taken to cost the same."""


@pytest.fixture(scope="module")
def table():
    if not DATA.is_file():
        pytest.skip("the development data (../shared/data) is not on this machine")
    return RunTable.read(DATA, columns={"N": "Model Size", "C": "Training FLOP"}).excluding("highest:loss:5")


def reference_seconds(table) -> float:
    """Return the CPU seconds of Hoffmann et al.'s method (approach 3): a grid of starts, each to its end."""
    n, d, loss = np.log(table.N), np.log(table.D), np.log(table.metric("loss"))

    def objective(x):
        said = np.logaddexp(np.logaddexp(x[0] - x[3] * n, x[1] - x[4] * d), x[2])
        size = np.abs(said - loss)
        return np.where(size <= 1e-3, 0.5 * size**2, 1e-3 * (size - 0.5e-3)).sum()

    grid = list(
        itertools.product(
            np.linspace(0, 25, 6),
            np.linspace(0, 25, 6),
            np.linspace(-1, 1, 5),
            np.linspace(0, 2, 5),
            np.linspace(0, 2, 5),
        )
    )
    assert len(grid) == STARTS
    start = time.process_time()
    with np.errstate(all="ignore"):
        for x in grid[:: STARTS // SAMPLE]:
            minimize(objective, np.array(x), method="L-BFGS-B")
    return (time.process_time() - start) * STARTS / SAMPLE


def cpu_seconds(action, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


def test_point_fit_against_the_reference_method(benchmark, table):
    reference = reference_seconds(table)
    benchmark(lambda: fit_law(table, "loss"))
    ours = cpu_seconds(lambda: fit_law(table, "loss"), 5)
    benchmark.extra_info |= {"reference_s": reference, "ours_s": ours, "ratio": reference / ours}
    assert reference / ours >= 500


@pytest.mark.parametrize("estimator", ["huber", "lad"])
def test_a_thousand_replicates(benchmark, table, estimator):
    fit = fit_law(table, "loss", estimator=estimator)
    benchmark.pedantic(lambda: fit.bootstrap(replicates=1000), rounds=1)
    benchmark.extra_info["cpu_s"] = cpu_seconds(lambda: fit.bootstrap(replicates=1000), 2)
