"""A statistic of a third party, installed with pip: an energy distance gets everything that ours get."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from cdslm_eval.core.store import Outcome
from cdslm_eval.stats.sample import gather

PLUGIN = '''
"""Energy distance between the loudness and pitch of clips and of real speech."""

import numpy as np
from dataclasses import dataclass

from cdslm_eval import Metric, SetStatistic, hookimpl


def mean_distance(x, y):
    return float(np.linalg.norm(x[:, None, :] - y[None, :, :], axis=-1).mean())


@dataclass(frozen=True)
class Energy(SetStatistic):
    """Energy distance of Szekely and Rizzo, the unbiased form."""

    needs_reference = True
    quantities = ("value", "floor")
    column: str = "embedding"

    @property
    def columns(self):
        return (self.column,)

    def evaluate(self, sample, reference):
        x, y = sample.column(self.column), reference.column(self.column)
        if min(len(x), len(y)) < 2:
            return float("nan")
        within = [mean_distance(one, one) * len(one) / (len(one) - 1) for one in (x, y)]
        return 2 * mean_distance(x, y) - sum(within)


class LoudnessAndPitch(Metric):
    """Two numbers a clip, as one vector."""

    name = "energy"
    version = "1"
    unit = "a.u."
    better = "lower"
    needs = {"audio"}
    rate_hz = 8_000
    statistics = {"energy": Energy()}

    def measure(self, clips):
        for clip in clips:
            spectrum = np.abs(np.fft.rfft(clip.samples))
            pitch = np.argmax(spectrum) * clip.rate_hz / len(clip.samples) / 1000
            yield {"embedding": np.array([np.sqrt(np.mean(clip.samples**2)), pitch], np.float32)}


@hookimpl
def cdslm_metrics():
    return [LoudnessAndPitch]
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the plugin installed in `site`, and sets of tones: two near the reference, one far from it."""
    base = tmp_path_factory.mktemp("energy")
    project = base / "project"
    project.mkdir()
    (project / "energy_plugin.py").write_text(PLUGIN)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "energy-plugin"\nversion = "1.0"\n'
        '[project.entry-points.cdslm_eval]\nenergy = "energy_plugin"\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["energy_plugin.py"]\n'
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(base / "site"), str(project)], check=True, capture_output=True)
    rng = np.random.default_rng(0)
    for name, centre_hz in (("near", 400), ("far", 900), ("real", 400)):
        (base / name).mkdir()
        for clip in range(12):
            frequency = centre_hz + 100 * rng.standard_normal()
            samples = rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * frequency * np.arange(2000) / 8000)
            soundfile.write(base / name / f"c{clip:02d}.wav", samples, 8000)
    return base


def cli(home, *arguments):
    path = os.pathsep.join([str(home / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "cdslm_eval", *arguments]
    return subprocess.run(
        command, cwd=home, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


def test_it_is_scored_with_interval_floor_page_and_table(home):
    options = ("--reference", "real", "--metrics", "energy", "--store", "s.cdslm", "--json", "out.json")
    done = cli(home, "score", "near", "far", *options, "--out", "page")
    assert done.returncode == 0, done.stderr
    estimates = {entry["system"]: entry for entry in json.loads((home / "out.json").read_text())["estimates"]}
    near, far = estimates["near"], estimates["far"]
    assert far["low"] > near["high"] >= near["value"] >= near["low"]
    assert far["interval"] == "95% jackknife"
    assert abs(far["floor"]) < 0.2 * far["value"]
    assert (far["n_scored"], far["n_reference"], far["trust"]) == (12, 12, "")
    # best first: the table and the page rank by the statistic's own headline
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.split()[:1] in (["near"], ["far"])]
    assert rows == ["near", "far"]
    page = (home / "page" / "index.html").read_text()
    assert re.search(r"<caption>.*energy", page)
    assert "nan" not in page[: page.index("<style")].lower()


def test_two_systems_are_compared_under_it(home):
    options = ("--reference", "real", "--metrics", "energy", "--store", "s.cdslm", "--json", "-")
    done = cli(home, "compare", "near", "far", *options)
    assert done.returncode == 0, done.stderr
    (difference,) = json.loads(done.stdout)["differences"]
    assert difference["difference"] == pytest.approx(difference["a"] - difference["b"])
    assert difference["high"] < 0
    assert difference["p_holm"] < 0.05
    assert difference["paired"]


def test_gates_judge_it_and_refuse_what_it_does_not_have(home):
    suite = (
        'name = "energy"\n[references.real]\npath = "real"\n[systems.near]\npath = "near"\n'
        '[systems.far]\npath = "far"\n[metrics.energy]\n'
        '[[gates]]\ngate = "energy < {bound}"\nsystems = ["far"]\n'
    )
    (home / "passes.toml").write_text(suite.format(bound=10))
    done = cli(home, "run", "passes.toml", "--store", "run.cdslm", "--json", "gates.json")
    assert done.returncode == 0, done.stderr
    (gate,) = json.loads((home / "gates.json").read_text())["gates"]
    assert gate["status"] == "pass"
    (home / "fails.toml").write_text(suite.format(bound=0.01))
    assert cli(home, "run", "fails.toml", "--store", "run.cdslm").returncode == 4
    (home / "asks.toml").write_text(suite.format(bound=1).replace("energy <", "energy.corrected <"))
    refused = cli(home, "run", "asks.toml", "--store", "run.cdslm")
    assert refused.returncode == 2
    assert "energy has no corrected value" in refused.stderr


def test_its_interval_covers_the_truth():
    namespace: dict[str, object] = {}
    exec(compile(PLUGIN, "energy_plugin.py", "exec"), namespace)
    from cdslm_eval import Context

    statistic = namespace["Energy"]()
    rng = np.random.default_rng(1)

    def sample(count, shift):
        rows = rng.standard_normal((count, 2)).astype(np.float32) + np.float32([shift, 0])
        return gather([Outcome("ok", "", {"embedding": row}) for row in rows], range(count))

    truth = statistic.evaluate(sample(1500, 1.0), sample(1500, 0.0))
    context = Context(name="energy")
    hits = 0
    for _ in range(60):
        estimate = statistic.estimate(sample(40, 1.0), sample(60, 0.0), context).estimates[0]
        hits += estimate.low <= truth <= estimate.high
    assert hits / 60 >= 0.87
