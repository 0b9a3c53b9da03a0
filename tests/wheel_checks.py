"""Build every distribution of this repository and exercise an environment in which only the wheels are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]

_LOAD_EVERYTHING = """
import json, sys
from importlib.metadata import distributions
import cdslm_eval
print(cdslm_eval.__file__, file=sys.stderr)
loaded = {}
for distribution in distributions():
    name = distribution.metadata["Name"]
    if name.startswith("cdslm-eval"):
        for entry in distribution.entry_points:
            try:
                entry.load()
            except ImportError as error:
                loaded[f"{name}:{entry.name}"] = f"{error.name}: {error}"
            else:
                loaded[f"{name}:{entry.name}"] = ""
print(json.dumps(loaded))
"""


@dataclass(frozen=True)
class Built:
    """The artefacts of one distribution.

    Attributes:
        folder: Folder of its pyproject.toml.
        wheel, sdist: Paths of what was built.
    """

    folder: Path
    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Environment:
    """An interpreter that sees the wheels, and no source tree.

    Attributes:
        python: Its executable.
        variables: Environment variables of its processes.
        folder: An empty working folder.
    """

    python: Path
    variables: dict[str, str]
    folder: Path

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run Python with `arguments` and check the exit code."""
        command = [str(self.python), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done


def build(folder: Path, into: Path) -> Built:
    """Build wheel and sdist of a distribution without network and without a build environment."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(into)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return Built(folder, wheel, sdist)


def bare_variables() -> dict[str, str]:
    """Return this process's environment variables without what points at other Python code."""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CDSLM_EVAL_PLUGINS")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"PYTHONNOUSERSITE": "1"}


def check_entry_points(environment: Environment, absent: frozenset[str] = frozenset()) -> set[str]:
    """Load every entry point of our distributions from the wheels; return their names.

    Args:
        environment: Where the wheels are installed.
        absent: Third-party modules that are not installed there, whose absence excuses an entry point.
    """
    done = environment.run("-c", _LOAD_EVERYTHING)
    assert "site-packages" in done.stderr or "site" in Path(done.stderr.strip()).parts, done.stderr
    assert not Path(done.stderr.strip()).is_relative_to(ROOT), "the source tree is on the path"
    loaded = json.loads(done.stdout)
    failures = {name: error for name, error in loaded.items() if error and error.partition(":")[0] not in absent}
    assert not failures, str(failures)
    return set(loaded)


def check_commands(environment: Environment) -> None:
    """Run both commands and score a few clips with what the base install provides."""
    assert "prepare" in environment.run("-c", "from cdslm_model.cli import main; main()", "--help").stdout
    rng = np.random.default_rng(0)
    for name in ("ours", "real"):
        (environment.folder / name).mkdir(exist_ok=True)
        for number in range(12):
            samples = 0.1 * rng.standard_normal(8000).astype(np.float32)
            sf.write(environment.folder / name / f"{number}.wav", samples, 8000)
            (environment.folder / name / f"{number}.phones").write_text(" ".join(rng.choice([*"abcd"], 30)))
    score = ("score", "ours", "--reference", "real", "--metrics", "pjsd,signal", "--recognizer", "sidecar")
    done = environment.run("-m", "cdslm_eval", *score, "--store", "rows", "--json", "-")
    estimates = {estimate["name"]: estimate for estimate in json.loads(done.stdout)["estimates"]}
    assert estimates["pjsd_1"]["n_scored"] == 12
    assert 0 <= estimates["pjsd_1"]["value"] < 0.1
