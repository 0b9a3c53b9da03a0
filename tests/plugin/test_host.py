"""The guard around plugins, tried with distributions that are really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

METRIC = '''
"""Share of each clip that is silent."""
import numpy as np
from cdslm_eval import Mean, Metric, hookimpl

class {cls}(Metric):
    """Share of samples that are digital zeros."""
    name = "{name}"
    version = "1"
    unit = "fraction"
    better = "lower"
    needs = {{"audio"}}
    rate_hz = 16_000
    statistics = {{"{name}": Mean("share")}}

    def measure(self, clips):
        for clip in clips:
            yield {{"share": float(np.mean(clip.samples == 0))}}

@hookimpl
def cdslm_metrics():
    return [{cls}]
'''
IMPL = "from cdslm_eval import hookimpl\n@hookimpl\n"
PACKAGES = {
    "good": ("silence", METRIC.format(cls="SilenceShare", name="silence_share")),
    "broken-import": ("broken", "import a_module_that_is_not_there\n"),
    "twin-a": ("twin", METRIC.format(cls="TwinA", name="twin_a")),
    "twin-b": ("twin", METRIC.format(cls="TwinB", name="twin_b")),
    "raising": (
        "raising",
        "from cdslm_eval import hookimpl\n@hookimpl\ndef cdslm_metrics():\n    raise RuntimeError('boom')\n",
    ),
    "misspelt": ("misspelt", "from cdslm_eval import hookimpl\n@hookimpl\ndef cdslm_metrcs():\n    return []\n"),
    "claim-a": ("claim", METRIC.format(cls="ClaimA", name="claimed")),
    "claim-b": ("claim2", METRIC.format(cls="ClaimB", name="claimed")),
    "thief": ("thief", METRIC.format(cls="Thief", name="signal")),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build and pip-install each package into one target folder; return the environment that sees it."""
    base = tmp_path_factory.mktemp("plugins")
    target = base / "site"
    projects = []
    for name, (entry, code) in PACKAGES.items():
        module = f"cdslm_test_{name.replace('-', '_')}"
        project = base / name
        project.mkdir()
        (project / f"{module}.py").write_text(textwrap.dedent(code))
        (project / "pyproject.toml").write_text(
            f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            f'[project]\nname = "cdslm-test-{name}"\nversion = "1.0"\n'
            f'[project.entry-points.cdslm_eval]\n{entry} = "{module}"\n'
            f'[tool.hatch.build.targets.wheel]\ninclude = ["{module}.py"]\n'
        )
        projects.append(str(project))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    subprocess.run([*command, *projects], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


def cli(environment, *arguments, check=True):
    done = subprocess.run(
        [sys.executable, "-m", "cdslm_eval", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def plugins(installed):
    return {one["name"]: one for one in json.loads(cli(installed, "plugins", "--json").stdout)}


def test_a_good_plugin_stands_beside_every_broken_one(installed, plugins):
    names = {one["name"] for one in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert {"silence_share", "pjsd", "signal"} <= names
    assert plugins["cdslm-test-good:silence"]["problems"] == []


def test_an_import_that_fails_is_kept_with_its_cause_and_the_mending_line(plugins):
    broken = plugins["cdslm-test-broken-import:broken"]
    assert "a_module_that_is_not_there" in broken["problems"][0]
    assert broken["mend"] == "pip install a_module_that_is_not_there"


def test_one_entry_point_name_in_two_distributions_loads_both(installed, plugins):
    names = {one["name"] for one in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert {"twin_a", "twin_b"} <= names
    assert {"cdslm-test-twin-a:twin", "cdslm-test-twin-b:twin"} <= plugins.keys()


def test_a_raising_hook_and_a_misspelt_one_are_told(plugins):
    assert "boom" in plugins["cdslm-test-raising:raising"]["problems"][0]
    assert "Did you mean 'cdslm_metrics'" in plugins["cdslm-test-misspelt:misspelt"]["problems"][0]


def test_a_name_claimed_twice_belongs_to_neither_and_a_built_in_keeps_its_own(installed, plugins, tmp_path):
    metrics = {one["name"]: one for one in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert "claimed" not in metrics
    assert metrics["signal"]["owner"] == "cdslm-eval:metrics"
    assert "cdslm-test-claim-a:claim" in plugins["cdslm-test-claim-b:claim2"]["problems"][0]
    assert plugins["cdslm-test-thief:thief"]["problems"]
    pinned = {**installed, "CDSLM_EVAL_PLUGINS": "cdslm-test-claim-b"}
    owners = {one["name"]: one["owner"] for one in json.loads(cli(pinned, "metrics", "--json").stdout)}
    assert owners["claimed"] == "cdslm-test-claim-b:claim2"


def test_pins_load_what_they_name_and_say_what_is_absent(installed):
    none = json.loads(cli({**installed, "CDSLM_EVAL_PLUGINS": ""}, "plugins", "--json").stdout)
    assert all(one["name"].startswith("cdslm-eval:") for one in none)
    absent = cli({**installed, "CDSLM_EVAL_PLUGINS": "not-there"}, "plugins")
    assert "pip install not-there" in absent.stdout


def test_a_strangers_metric_scores_and_is_in_the_report(installed, tone_set, tmp_path):
    folder = tone_set("tones", 4)
    done = cli(
        installed, "score", str(folder), "-m", "silence_share", "--store", str(tmp_path / "s"), "--out",
        str(tmp_path / "report"), "--json", "-",
    )  # fmt: skip
    (estimate,) = json.loads(done.stdout)["estimates"]
    assert estimate["name"] == "silence_share"
    assert estimate["n_scored"] == 4
    assert "silence_share" in (tmp_path / "report" / "index.html").read_text()


def test_misspelt_names_are_answered(installed, tone_set, tmp_path):
    done = cli(installed, "score", str(tone_set("t", 1)), "-m", "signl", "--store", str(tmp_path / "s"), check=False)
    assert done.returncode == 2
    assert "Did you mean 'signal'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_listing_imports_no_model_library(installed):
    code = (
        "import sys\nfrom cdslm_eval.plugin.host import Host\nHost([])\nimport cdslm_eval.cli\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
