"""The log of training after a kill."""

from __future__ import annotations

import json

import pytest

from cdslm_model.train.journal import Journal


@pytest.mark.parametrize(("checkpoint", "steps"), [(0, [0, 1, 2, 3]), (2, [0, 1, 2, 3])])
def test_a_resumed_log_has_every_step_once(tmp_path, checkpoint, steps):
    def log(start, stop):
        journal = Journal(tmp_path, start, 3, 1.0, 1.0, 1.0, True)
        if start == 0:
            journal.note(0, {"constant_loss": 1.0})
        for step in range(start + 1, stop + 1):
            journal.note(step, {"loss": 1.0 / step})
        journal.close()

    log(0, 2)
    log(checkpoint, 3)  # from nothing where the kill came before the first checkpoint
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == steps
