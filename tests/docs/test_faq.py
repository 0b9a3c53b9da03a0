"""Every error that docs/faq.md quotes is provoked through the real programs, and printed as it is quoted."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cdslm_eval.cli

PAGE = Path(__file__).parents[2] / "docs" / "faq.md"
ENTRIES = re.findall(r"^### (\d+)\. .*?\n```\n\$ (.*?)\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
WITHOUT_TORCH = "20"
MEASURES = "6"  # the only entry that measures: one worker, two clips

SUITE = """name = "nightly"
[references.real]
path = "real"
[systems.released]
path = "samples/model-a"
baseline = "candidate"
[systems.candidate]
{path} = "samples/model-b"
[metrics.signal]

[[gates]]
gate = "duration >= {bound}"
"""


@pytest.fixture
def folder(tone_set, tmp_path, monkeypatch):
    """Return a folder with everything that the commands of the page name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    monkeypatch.setenv("CDSLM_EVAL_STORE", str(tmp_path / "store.cdslm"))
    monkeypatch.setenv("COLUMNS", "200")
    tone_set("real", 2)
    for name in ("model-a", "model-b"):
        shutil.copytree("real", Path("samples") / name)
    Path("samples/model-a/manifest.jsonl").write_text('{"path": "c00.wav"}\n{"path": "c01.wav"}\n')
    shutil.copytree("real", "broken")
    Path("broken/c01.wav").write_text("<html>404 Not Found</html>")
    Path("notes").mkdir()
    Path("notes/read.txt").write_text("no audio")
    Path("clips.csv").write_text("file,speaker\nreal/c00.wav,a\n")
    Path("clips.jsonl").write_text('{"path": "real/c00.wav", "emotion": "calm"}\n')
    Path("twice.csv").write_text("path,key\nreal/c00.wav,a\nreal/c01.wav,a\n")
    Path("mine.py").write_text('from cdslm_eval import Metric\nclass Silence(Metric):\n    name = "silence"\n')
    Path("misspelt.toml").write_text(SUITE.format(path="pth", bound="0.1"))
    Path("factor.toml").write_text(SUITE.format(path="path", bound="baseline * 1.05"))
    Path("runs.csv").write_text("N,D,val_loss\n1e6,1e9,3.1\n2e6,1e9,3.0\n4e6,1e9,2.9\n")
    return tmp_path


def printed(command: str, capfd, monkeypatch) -> tuple[str, int]:
    """Return what a command prints, with single spaces, and its exit code."""
    arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", arguments)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        cdslm_eval.cli.main()
    signal.signal(signal.SIGTERM, before)
    streams = capfd.readouterr()
    return " ".join((streams.out + streams.err).split()), end.value.code


def without_torch(command: str) -> tuple[str, int]:
    """Return the same where torch is absent: in a process of its own, as modules that are imported stay imported."""
    program = "import sys; sys.modules['torch'] = None; from cdslm_model.cli import main; main()"
    started = [sys.executable, "-c", program, *shlex.split(command)[1:]]
    done = subprocess.run(started, capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split()), done.returncode


def test_the_page_has_twenty_entries_in_order():
    assert [int(number) for number, _, _ in ENTRIES] == list(range(1, 21))


@pytest.mark.parametrize(("number", "command", "sentence"), ENTRIES, ids=[command for _, command, _ in ENTRIES])
def test_a_quoted_error_is_what_the_program_prints(number, command, sentence, folder, capfd, monkeypatch):
    if number == MEASURES:
        command += " -j 1 --recognizer sidecar"
    text, code = without_torch(command) if number == WITHOUT_TORCH else printed(command, capfd, monkeypatch)
    assert " ".join(sentence.split()) in text
    assert code == {MEASURES: 1, WITHOUT_TORCH: 3}.get(number, 2)
