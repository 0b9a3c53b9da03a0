"""The row of real speech equals scoring the reference as a system; shared keys come with their prompts."""

from __future__ import annotations

import json

import pytest

import cdslm_eval
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.report.listen import Players
from cdslm_eval.results.score_result import ScoreResult
from cdslm_eval.run.shared_keys import shared_takes


def score(systems, tmp_path, **more):
    return cdslm_eval.score(
        systems, recognizer="sidecar", jobs=1, store=tmp_path / "s.cdslm", channel=False, note=lambda _: None, **more
    )


def test_the_reference_scores_as_it_would_as_a_system(tone_set, tmp_path):
    real, ours = tone_set("real", 12, 1), tone_set("ours", 12, 2)
    result = score({"ours": ours}, tmp_path, reference=real, metrics=("pjsd", "signal"))
    alone = score({"real speech": real}, tmp_path, metrics="signal")
    assert [e.as_json() for e in result.real] == [e.as_json() for e in alone.estimates]
    assert {estimate.system for estimate in result.real} == {"real speech"}
    without = score({"ours": ours}, tmp_path, reference=real, metrics=("pjsd", "signal"), real_row=False)
    assert without.real == ()
    # the row is beside the systems and moves none of their numbers
    assert json.dumps(without.as_json()["estimates"]) == json.dumps(result.as_json()["estimates"])
    again = ScoreResult.load(result.save(tmp_path / "result.json"))
    assert again.real[0].value == result.real[0].value


def test_shared_keys_come_with_their_prompts_and_marks(tone_set, tmp_path):
    tone_set("ours", 3)
    theirs, prompts = tone_set("theirs", 2), tone_set("prompts", 1)
    manifest = tmp_path / "ours.jsonl"
    lines = [{"path": f"ours/c0{n}.wav", "key": f"c0{n}", "prompt_seconds": 0.2 * n} for n in range(3)]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    sets = [ClipSet.open(manifest), ClipSet.open(theirs)]
    takes = shared_takes(sets, ClipSet.open(prompts))
    assert [(take.key, take.system, take.prompt_seconds) for take in takes] == [
        ("c00", "", None), ("c00", "ours", 0.0), ("c00", "theirs", None), ("c01", "ours", 0.2), ("c01", "theirs", None)
    ]  # fmt: skip
    assert shared_takes(sets[:1]) == ()
    manifest.write_text(json.dumps({"path": "ours/c00.wav", "prompt_seconds": "soon"}))
    with pytest.raises(
        UsageError, match=r"ours.jsonl, line 1: 'prompt_seconds' must be a number of seconds, not 'soon'"
    ):
        ClipSet.open(manifest)


def test_parts_of_recordings_are_played_as_parts(tone_set, tmp_path):
    tone_set("ours", 1)
    rows = [{"path": "ours/c00.wav", "key": f"k{n}", "offset": 0.1 * n, "duration": 0.1 + 0.1 * n} for n in range(2)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    takes = shared_takes([ClipSet.open(tmp_path / "a.jsonl"), ClipSet.open(tmp_path / "b.jsonl")])
    assert [(take.key, take.system) for take in takes] == [("k0", "a"), ("k0", "b"), ("k1", "a"), ("k1", "b")]
    players = Players()
    lengths = [players.get(take.path, take.key).seconds for take in takes]
    assert lengths == pytest.approx([0.1, 0.1, 0.2, 0.2], abs=1e-3)
