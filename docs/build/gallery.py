"""Makes the gallery of the site: real runs of small sets, their pages, and pictures of these pages.

Usage: python docs/build/gallery.py   (into .cache/gallery; a second call measures nothing again)
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "gallery"
SETS = """\
cdslm-eval generate speak:real.txt --out real --count {count} --seconds 4
cdslm-eval generate speak:learn.txt --out held-out --count {count} --seconds 4 --seed 1
cdslm-eval generate babble:3,text=learn.txt --out babble-3 --count {count} --seconds 4
cdslm-eval generate babble:0,text=learn.txt --out babble-0 --count {count} --seconds 4
"""
SUITE = """name = "babble"

[references.real]
path = "real"

[systems.held-out]
path = "held-out"
[systems.babble-3]
path = "babble-3"
baseline = "held-out"
[systems.babble-0]
path = "babble-0"
baseline = "held-out"

[metrics.pjsd]
[metrics.signal]

[[gates]]
gate = "pjsd_2 <= baseline + 0.02"
systems = ["babble-3", "babble-0"]

[[gates]]
gate = "silence_share < 0.5"
"""


class Exhibit(NamedTuple):
    """A page of the gallery.

    Attributes:
        title: Its heading.
        text: What to see on it.
        command: What writes it.
        page: Its file, below the gallery's folder.
        screens: Which pictures are made of it.
    """

    title: str
    text: str
    command: str
    page: str
    screens: tuple[str, ...]


class Screen(NamedTuple):
    """How a picture is made: size in CSS pixels, and the colours that the browser prefers."""

    width: int
    height: int
    dark: bool = False


SCREENS = {"wide": Screen(1280, 1500), "phone": Screen(500, 1100), "dark": Screen(1280, 1500, dark=True)}
EXHIBITS = (
    Exhibit(
        "The page of a score",
        "The answer in a sentence, a figure of all systems, a table; everything else is folded below. "
        "The real row is what real speech scores itself.",
        "cdslm-eval score held-out babble-3 babble-0 --reference real --out score",
        "score/index.html",
        ("wide", "dark", "phone"),
    ),
    Exhibit(
        "Differences of two systems",
        "Every value of two systems, paired by key where both have the same keys, Holm-corrected.",
        "cdslm-eval compare babble-3 babble-0 --reference real --out compare",
        "compare/index.html",
        ("wide",),
    ),
    Exhibit(
        "The leaderboard of a suite",
        "Gates and their verdicts first, then places as ranges; it sorts and filters itself.",
        "cdslm-eval run suite.toml --out leaderboard",
        "leaderboard/index.html",
        ("wide", "phone"),
    ),
    Exhibit(
        "A scaling fit",
        "Loss of 120 simulated runs with noise of 0.3 %: law, optima, curvature, near-optimal range, and what "
        "they leave open.",
        "cdslm-eval fit runs.csv --metric loss --out fit",
        "fit/index.html",
        ("wide",),
    ),
)
RUNS = "cdslm-eval fit simulate runs.csv --noise 0.003 --sizes 12 --repeats 2"
FIGURE = "fit/figures/paper.svg"


def run(command: str, folder: Path) -> str:
    """Run a command of the gallery in its folder, and return what it prints on stdout.

    A failed gate (exit code 4) is part of the exhibition.

    Raises:
        RuntimeError: Any other exit code.
    """
    environment = {**os.environ, "CDSLM_EVAL_STORE": str(folder / "store.cdslm"), "COLUMNS": "100", "NO_COLOR": "1"}
    arguments = [sys.executable, "-m", "cdslm_eval", *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 4):
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def photograph(page: Path, target: Path, screen: Screen, browser: str) -> None:
    """Write a picture of the first screen of a page."""
    preference = ["--blink-settings=preferredColorScheme=0"] if screen.dark else []
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            f"--user-data-dir={target.parent / 'profile'}", *preference, "--virtual-time-budget=3000",
            f"--window-size={screen.width},{screen.height}", f"--screenshot={target}", f"file://{page}",
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip


def make(folder: Path, count: int = 40) -> None:
    """Make the sets, the pages and, where a browser is installed, the pictures.

    Args:
        folder: Where everything lies; sets that are there already are not made again.
        count: Clips of each set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = files("cdslm_eval.builtin.generators") / "texts"
    for name in ("real", "learn"):
        (folder / f"{name}.txt").write_text((texts / f"demo_{name}.txt").read_text(encoding="utf-8"))
    (folder / "suite.toml").write_text(SUITE)
    for command in SETS.format(count=count).splitlines():
        if not (folder / shlex.split(command)[4] / "manifest.jsonl").is_file():
            run(command, folder)
    run(RUNS, folder)
    printed = {exhibit.page: run(exhibit.command, folder) for exhibit in EXHIBITS}
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    pictures: dict[str, list[str]] = {}
    for exhibit in EXHIBITS if browser else ():
        for name in exhibit.screens:
            picture = folder / "pictures" / f"{exhibit.page.partition('/')[0]}-{name}.png"
            picture.parent.mkdir(exist_ok=True)
            photograph(folder / exhibit.page, picture, SCREENS[name], str(browser))
            pictures.setdefault(exhibit.page, []).append(picture.name)
    (folder / "gallery.json").write_text(json.dumps({"count": count, "printed": printed, "pictures": pictures}))


def page_and_files(folder: Path) -> tuple[str, dict[str, Path]]:
    """Return the gallery's page as markdown, and the files of the site that it links to.

    Args:
        folder: Where `make` was called; without it the page tells how to make it.
    """
    parts = ["# Gallery\n\n"]
    if not (folder / "gallery.json").is_file():
        return f"{parts[0]}This build of the site has no gallery: `make docs` makes it from real runs.\n", {}
    made = json.loads((folder / "gallery.json").read_text())
    links: dict[str, Path] = {}
    parts.append("Made with this build, by the commands shown, from synthetic speech: sentences that espeak-ng reads ")
    parts.append("as real speech, held-out sentences, and babble of phones (order 3: four phones in a row occur in ")
    parts.append("the text; order 0: each phone on its own). The pages are whole files, without scripts of others.\n")
    parts.append(f"\n```\n{SETS.format(count=made['count'])}```\n")
    for exhibit in EXHIBITS:
        name = exhibit.page.partition("/")[0]
        page = f"gallery/{name}.html"
        links[page] = folder / exhibit.page
        command = f"{RUNS}\n{exhibit.command}" if name == "fit" else exhibit.command
        parts.append(f"\n## {exhibit.title}\n\n{exhibit.text}\n\n```\n{command}\n```\n\n[Open the page]({page})\n")
        for picture in made["pictures"].get(exhibit.page, []):
            links[f"gallery/{picture}"] = folder / "pictures" / picture
            width = "{ width=300 }" if "phone" in picture else ""
            parts.append(f"\n[![{exhibit.title}, {Path(picture).stem}](gallery/{picture}){width}]({page})\n")
        if name == "fit":
            links["gallery/paper.svg"] = folder / FIGURE
            parts.append("\nThe figure of a paper, `--figure paper`: isoFLOPs, curvature and near-optimal range.\n")
            parts.append("\n![isoFLOPs, curvature and near-optimal range](gallery/paper.svg)\n")
        if name in ("score", "compare"):
            parts.append(f"\nIn the terminal:\n\n```\n{made['printed'][exhibit.page]}```\n")
    if not made["pictures"]:
        parts.append("\nNo browser is installed where this was built: the pages are here, their pictures are not.\n")
    return "".join(parts), links


if __name__ == "__main__":
    make(CACHE)
    sys.stdout.write(f"{CACHE}\n")
