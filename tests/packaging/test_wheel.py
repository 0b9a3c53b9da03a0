"""Wheels and sdists hold the tracked sources and nothing else, and work without the source tree on the path."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import PurePosixPath

import pytest
from wheel_checks import FOLDERS, Environment, bare_variables, check_commands, check_entry_points

PLUGINS = [folder.name for folder in FOLDERS[1:]]


def tracked(folder):
    """Return the tracked files of a distribution, relative to its folder; a distribution never holds another's."""
    done = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("no git checkout to compare with")
    return {name for name in done.stdout.splitlines() if (folder / name).is_file()}


def packages(folder):
    """Return the import packages of a distribution: top-level folders with an __init__.py, tests aside."""
    names = {path.parent.name for path in folder.glob("*/__init__.py")}
    return names - {"tests", "benchmarks"}


@pytest.mark.parametrize("name", ["", *PLUGINS])
def test_a_wheel_holds_the_tracked_files_of_its_packages(built, name):
    folder = built[name].folder
    files = {path for path in zipfile.ZipFile(built[name].wheel).namelist() if ".dist-info/" not in path}
    own = {path for path in tracked(folder) if PurePosixPath(path).parts[0] in packages(folder)}
    assert own
    # untracked files that are about to be added are sources too; what must not happen is that one is left out
    assert own <= files
    assert {PurePosixPath(path).parts[0] for path in files} == packages(folder)
    assert not [path for path in files if path.endswith((".pyc", ".so")) or "/tests/" in path]


@pytest.mark.parametrize("name", ["", *PLUGINS])
def test_an_sdist_holds_code_with_its_tests_and_no_other_distribution(built, name):
    with tarfile.open(built[name].sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    folder = built[name].folder
    own = {path for path in tracked(folder) if PurePosixPath(path).parts[0] in {*packages(folder), "tests"}}
    assert own <= files
    assert {"pyproject.toml", "README.md"} <= files
    assert not {path for path in files if path.startswith("plugins/")}


@pytest.fixture(scope="session")
def environment(built, tmp_path_factory):
    """Return a new environment with every wheel, which takes third-party packages from the running one.

    The running environment's site-packages are on PYTHONPATH, where Python reads no .pth file: an editable install of
    the source tree, which works through one, cannot be seen.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    wheels = [str(distribution.wheel) for distribution in built.values()]
    subprocess.run([*pip, "--target", str(site), *wheels], check=True, capture_output=True)
    third_party = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (folder / "work").mkdir()
    variables = bare_variables() | {"PYTHONPATH": ":".join([str(site), *third_party])}
    return Environment(folder / "venv" / "bin" / "python", variables, folder / "work")


def test_every_entry_point_loads_from_the_wheels(environment):
    names = check_entry_points(environment, frozenset({"ray"}))
    assert {"cdslm-eval:cdslm", "cdslm-eval:cdslm-eval", "cdslm-eval:model"} <= names
    assert len({name.partition(":")[0] for name in names}) == len(FOLDERS)


def test_the_commands_run_from_the_wheels(environment):
    check_commands(environment)
    listed = environment.run("-m", "cdslm_eval", "plugins").stdout
    for name in PLUGINS:
        assert f"cdslm-eval-{name}"[:20] in listed


def test_every_distribution_names_licence_authors_and_description(built):
    from email.parser import HeaderParser

    for name, distribution in built.items():
        wheel = zipfile.ZipFile(distribution.wheel)
        (path,) = (path for path in wheel.namelist() if path.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(wheel.read(path).decode())
        assert metadata["License-Expression"] == "Apache-2.0", name
        assert metadata["Summary"], name
        assert metadata["Author"], name
        assert metadata["Keywords"], name
        classifiers = metadata.get_all("Classifier", [])
        assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers), name
        # an address that answers nothing would be worse than none
        addresses = metadata.get_all("Project-URL", [])
        assert addresses, name
        assert not [line for line in addresses if "example" in line or "TODO" in line]
        requirements = metadata.get_all("Requires-Dist", [])
        # GPL-3.0: never a requirement of the base, nor of a plugin
        assert not [
            line for line in requirements if line.startswith(("phonemizer", "espeakng")) and "extra" not in line
        ]
