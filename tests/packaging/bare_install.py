"""The base wheel installed by pip, with its dependencies, into an empty environment; `make wheel-test` runs this.

It uses the package index, so it is no part of `make test`. The base has neither torch nor phonemizer and espeak-ng:
what needs them must name the install command, and everything else must work.
"""

from __future__ import annotations

import subprocess
import venv

import pytest
from wheel_checks import ROOT, Environment, bare_variables, check_commands, check_entry_points

ABSENT = frozenset({"pytest", "torch", "transformers", "ray", "sklearn", "onnxruntime", "jiwer", "audiobox_aesthetics"})


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    wheels = [str(distribution.wheel) for name, distribution in built.items() if name]
    for arguments in (["-c", str(ROOT / "constraints.txt"), str(built[""].wheel)], ["--no-deps", *wheels]):
        done = subprocess.run([*pip, *arguments], env=bare_variables(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (folder / "work").mkdir()
    return Environment(python, bare_variables(), folder / "work")


def test_the_base_install_is_light_and_permissive(environment):
    names = environment.run("-m", "pip", "list", "--format=freeze").stdout.lower()
    for name in ("torch", "transformers", "phonemizer", "espeakng"):
        assert name not in names


def test_entry_points_load(environment):
    check_entry_points(environment, ABSENT)


def test_the_commands_run(environment):
    check_commands(environment)
    bin_folder = environment.python.parent
    subprocess.run([bin_folder / "cdslm", "--help"], check=True, capture_output=True)
    listed = subprocess.run([bin_folder / "cdslm-eval", "plugins"], check=True, capture_output=True, text=True).stdout
    assert "cdslm-eval" in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "speak:text.txt", "--out", "spoken"),
        ("generate", "babble:2,text=text.txt", "--out", "babbled"),
        ("score", "ours", "--reference", "real", "--metrics", "pjsd", "--recognizer", "transcript"),
        ("demo",),
    ],
    ids=["speak", "babble", "transcript", "demo"],
)
def test_without_the_speech_extra_one_sentence_names_the_command(environment, arguments):
    (environment.folder / "text.txt").write_text("a quiet morning\n")
    done = environment.run("-m", "cdslm_eval", *arguments, code=2)
    assert "pip install 'cdslm-eval[speech]'" in done.stderr
    assert "Traceback" not in done.stderr
