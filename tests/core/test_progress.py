"""Progress names where a run works, as it is when a line is printed, and what it counts."""

from __future__ import annotations

import re

from cdslm_eval.core.progress import shown_progress


def test_a_line_names_the_nodes_that_work_now(capsys):
    places = iter(["", "2 nodes, 3 workers", "1 node, \x1b[2J1 worker"])
    for _ in range(3):
        with shown_progress(True, "scoring", lambda: next(places)) as bar:
            bar(4, 4)
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("scoring: 4/4 clips, ")
    assert second.startswith("scoring on 2 nodes, 3 workers: 4/4 clips, ")
    assert third.startswith("scoring on 1 node, ")
    assert "\x1b" not in third


def test_a_line_names_what_is_counted(capsys):
    with shown_progress(True, "stationary", unit="pairs") as bar:
        bar(3, 3)
    assert re.fullmatch(r"stationary: 3/3 pairs, [0-9.]+ pairs/s, 0 s left\n", capsys.readouterr().err)
