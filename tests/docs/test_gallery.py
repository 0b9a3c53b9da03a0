"""The gallery's commands are commands of today, and its page links to every file that it brings."""

from __future__ import annotations

import importlib.util
import json
import shlex
from pathlib import Path

import pytest
import typer

from cdslm_eval.cli import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "build" / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_is_accepted(gallery):
    commands = [*gallery.SETS.format(count=3).splitlines(), gallery.RUNS]
    for line in [*commands, *(exhibit.command for exhibit in gallery.EXHIBITS)]:
        command = typer.main.get_command(app)
        arguments = shlex.split(line)[1:]
        while hasattr(command, "commands"):
            below = command.commands.get(arguments[0])
            # `fit RUNS` is short for `fit law RUNS`
            command, arguments = (below, arguments[1:]) if below else (command.commands["law"], arguments)
        command.make_context(line, arguments)


def test_the_page_links_to_every_file_it_brings_and_says_when_there_is_none(gallery, tmp_path):
    text, links = gallery.page_and_files(tmp_path)
    assert "make docs" in text
    assert not links
    pages = [exhibit.page for exhibit in gallery.EXHIBITS]
    made = {"count": 3, "printed": dict.fromkeys(pages, "table\n"), "pictures": {pages[0]: ["score-wide.png"]}}
    (tmp_path / "gallery.json").write_text(json.dumps(made))
    text, links = gallery.page_and_files(tmp_path)
    assert len(links) == len(pages) + 2  # a picture and a figure
    for name in links:
        assert f"({name})" in text
    for exhibit in gallery.EXHIBITS:
        assert exhibit.command in text
