"""Runs the scripts of docs/paths in empty folders, and writes what each took into docs/paths.md.

Usage: python docs/build/paths.py [NAME]...   (all of them by default)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "paths.md"
SCRIPTS = {path.stem: path for path in sorted((ROOT / "docs" / "paths").glob("*.sh"))}
_COMMAND = re.compile(r"^(cdslm-eval|cdslm|python) ", re.MULTILINE)
_ROW = "| [`{0}.sh`](paths/{0}.sh) | {1} | {2} |"


def command_count(script: Path) -> int:
    """Return how many commands a reader of a script types."""
    return len(_COMMAND.findall(script.read_text()))


def run(script: Path, folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script in an empty folder, with this interpreter's programs first on the path.

    What it installs with pip goes below that folder, without dependencies and network: the environment stays as it is.

    Args:
        script: One of `SCRIPTS`.
        folder: Where it runs; everything it writes lies below.
        environment: Variables beside those of this process.
    """
    site = folder / "site"
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        # pip reads this variable as the value of `build_isolation`
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    return subprocess.run(
        ["bash", str(script)],
        cwd=folder,
        env={**os.environ, **own, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def main(names: list[str]) -> int:
    """Run the named scripts and put their rows of the page's table in place."""
    page = PAGE.read_text()
    for name in names or list(SCRIPTS):
        with tempfile.TemporaryDirectory() as folder:
            before = os.times()
            done = run(SCRIPTS[name], Path(folder))
            after = os.times()
        # processor time: the clock would tell how busy the machine was
        seconds = sum(after[2:4]) - sum(before[2:4])
        if done.returncode:
            print(done.stdout + done.stderr, f"{name}: exit code {done.returncode}", sep="\n", file=sys.stderr)
            return 1
        row = _ROW.format(name, command_count(SCRIPTS[name]), round(seconds))
        page, count = re.subn(rf"^\| \[`{name}\.sh`\].*$", row, page, flags=re.MULTILINE)
        print(f"{name}: {command_count(SCRIPTS[name])} commands, {seconds:.0f} s of processor time")
        if not count:
            print(f"{PAGE.name} has no row for {name}.sh", file=sys.stderr)
            return 1
        PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
