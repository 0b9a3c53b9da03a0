"""The guard around plugins, tried with distributions that are really installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

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
NO_JSON = METRIC.format(cls="NoJson", name="no_json").replace(
    "    statistics", '    class Options(Options):\n        model_config = {"arbitrary_types_allowed": True}\n'
    "        what: object = object()\n    statistics"
).replace("hookimpl\n", "hookimpl, Options\n", 1)  # fmt: skip
PRINTING = METRIC.format(cls="Printing", name="printing").replace("for clip", "print(1); [][1]\n        for clip")
REQUIRES = {"declares": '["declared-but-absent>=2"]', "extra": "[]"}
PACKAGES = {
    "good": ("silence", METRIC.format(cls="SilenceShare", name="silence_share")),
    "broken-import": ("broken", "import a_module_that_is_not_there\n"),
    "declares": ("declares", "\n\nimport declared_but_absent\n"),
    "extra": ("extra", "import only_in_an_extra\n"),
    "incomplete": ("incomplete", "from cdslm_test_incomplete import parts\nimport cdslm_test_incomplete.parts\n"),
    "audoi": ("audoi", METRIC.format(cls="Audoi", name="audoi").replace('"audio"', '"audoi"')),
    "no-json": ("no_json", NO_JSON),
    "printing": (
        "printing",
        METRIC.format(cls="Printing", name="printing").replace("for clip", "print(1); [][1]\n        for clip"),
    ),
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
            f"dependencies = {REQUIRES.get(name, '[]')}\n"
            f'[project.optional-dependencies]\nheavy = ["only-in-an-extra"]\n'
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
    return {plugin["name"]: plugin for plugin in json.loads(cli(installed, "plugins", "--json").stdout)}


def test_a_good_plugin_works_next_to_every_broken_one(installed, plugins):
    names = {metric["name"] for metric in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert {"silence_share", "pjsd", "signal"} <= names
    assert plugins["cdslm-test-good:silence"]["problems"] == []


@pytest.mark.parametrize(
    ("name", "problem", "fix"),
    [
        ("broken-import:broken", "imports at cdslm_test_broken_import.py:1 and does not declare", ""),
        ("declares:declares", "at cdslm_test_declares.py:3 and declares", "pip install 'declared-but-absent>=2'"),
        ("extra:extra", "'only_in_an_extra' is missing", "pip install 'cdslm-test-extra[heavy]'"),
        ("incomplete:incomplete", "cannot import name 'parts'", "pip install --upgrade cdslm-test-incomplete"),
    ],
)  # fmt: skip
def test_a_failed_import_names_whose_fault_it_is_and_never_guesses_a_distribution(plugins, name, problem, fix):
    """Whoever registers a guessed name would be installed: only the owner or a declared requirement is named."""
    broken = plugins[f"cdslm-test-{name}"]
    assert problem in broken["problems"][0]
    assert broken["fix"] == fix


def test_needs_that_no_clip_carries_and_options_that_are_no_json_are_refused_at_admission(plugins):
    (problem,) = plugins["cdslm-test-audoi:audoi"]["problems"]
    assert "its needs names 'audoi', which no clip carries. Did you mean 'audio'?" in problem
    (problem,) = plugins["cdslm-test-no-json:no_json"]["problems"]
    assert "the default of its option 'what' cannot be written as JSON" in problem


def test_an_unknown_name_is_answered_with_the_plugin_that_has_it_or_may_have_it(installed, tone_set, tmp_path):
    folder = str(tone_set("t", 1))
    ours = {**installed, "CDSLM_EVAL_PLUGINS": ""}
    for command in (["score", folder], ["compare", folder, str(tone_set("u", 1))]):
        done = cli(ours, *command, "-m", "dnsmos", "--store", str(tmp_path / "s"), check=False)
        assert done.returncode == 2
        assert "dnsmos is in cdslm-eval-perceptual. Install: pip install ./plugins/perceptual" in done.stderr
    suite = tmp_path / "s.toml"
    suite.write_text(f'name = "s"\n[systems.a]\npath = "{folder}"\n[metrics.dnsmos]\n')
    done = cli(ours, "run", str(suite), "--store", str(tmp_path / "s"), check=False)
    assert "dnsmos is in cdslm-eval-perceptual" in done.stderr
    broken = {**installed, "CDSLM_EVAL_PLUGINS": "cdslm-test-broken-import"}
    done = cli(broken, "score", folder, "-m", "brokenness", "--store", str(tmp_path / "s"), check=False)
    assert "cdslm-test-broken-import:broken may provide it, but is broken: cannot be loaded" in done.stderr
    assert "a_module_that_is_not_there" in done.stderr


def test_doctor_fails_on_a_broken_plugin_only_where_strict(installed):
    assert "broken" in cli(installed, "doctor").stdout
    assert cli(installed, "doctor", "--strict", check=False).returncode == 1
    assert cli({**installed, "CDSLM_EVAL_PLUGINS": "cdslm-test-good"}, "doctor", "--strict").returncode == 0


def test_the_catalogue_of_own_plugins_is_what_their_hooks_return():
    """Every installed plugin of this repository is compared with the table that hints are read from."""
    from cdslm_eval.plugin.catalogue import OWN_PLUGINS
    from cdslm_eval.plugin.host import Host

    root = Path(__file__).parents[2]
    folders = {f"cdslm-eval-{project.parent.name}" for project in root.glob("plugins/*/pyproject.toml")}
    assert folders <= set(OWN_PLUGINS)
    for plugin in Host().plugins:
        if plugin.distribution in folders and not plugin.problems:
            assert {kind: set(names) for kind, names in plugin.provides.items()} == {
                kind: set(names) for kind, names in OWN_PLUGINS[plugin.distribution].items()
            }


def test_one_entry_point_name_in_two_distributions_loads_both(installed, plugins):
    names = {metric["name"] for metric in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert {"twin_a", "twin_b"} <= names
    assert {"cdslm-test-twin-a:twin", "cdslm-test-twin-b:twin"} <= plugins.keys()


def test_a_raising_hook_and_a_misspelt_one_are_told(plugins):
    assert "boom" in plugins["cdslm-test-raising:raising"]["problems"][0]
    assert "Did you mean 'cdslm_metrics'" in plugins["cdslm-test-misspelt:misspelt"]["problems"][0]


def test_a_name_claimed_twice_belongs_to_neither_and_a_built_in_keeps_its_own(installed, plugins, tmp_path):
    metrics = {entry["name"]: entry for entry in json.loads(cli(installed, "metrics", "--json").stdout)}
    assert "claimed" not in metrics
    assert metrics["signal"]["owner"] == "cdslm-eval:metrics"
    assert "cdslm-test-claim-a:claim" in plugins["cdslm-test-claim-b:claim2"]["problems"][0]
    assert plugins["cdslm-test-thief:thief"]["problems"]
    pinned = {**installed, "CDSLM_EVAL_PLUGINS": "cdslm-test-claim-b"}
    owners = {entry["name"]: entry["owner"] for entry in json.loads(cli(pinned, "metrics", "--json").stdout)}
    assert owners["claimed"] == "cdslm-test-claim-b:claim2"


def test_pins_load_what_they_name_and_say_what_is_absent(installed):
    none = json.loads(cli({**installed, "CDSLM_EVAL_PLUGINS": ""}, "plugins", "--json").stdout)
    assert all(one["name"].startswith("cdslm-eval:") for one in none)
    absent = cli({**installed, "CDSLM_EVAL_PLUGINS": "not-there"}, "plugins")
    assert "not-there: CDSLM_EVAL_PLUGINS names it, but it is not installed." in absent.stdout
    assert "pip install" not in absent.stdout


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


def test_a_raising_plugin_is_named_with_its_line_once_and_debug_shows_the_traceback(installed, tone_set, tmp_path):
    command = ["score", str(tone_set("t", 3)), "-m", "printing", "--store", str(tmp_path / "s"), "--format", "table"]
    done = cli(installed, *command, check=False)
    (line,) = [line for line in done.stdout.splitlines() if "3 clips failed: IndexError" in line]
    assert "cdslm_test_printing.py:17" in line
    assert "Traceback" not in done.stderr
    for debugged in (cli(installed, *command, "--debug", check=False),
                     cli({**installed, "CDSLM_EVAL_DEBUG": "1"}, *command, check=False)):  # fmt: skip
        assert debugged.stderr.count("Traceback") >= 1
        assert 'cdslm_test_printing.py", line 17' in debugged.stderr
