"""Transcripts come through the host once per clip, for metrics and recognizers alike, and are kept."""

from __future__ import annotations

import pytest
from transcript_readers import Counting, Letters, LogOptions, Reads, ReadsPhones

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.identity import identify
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.executors.local import LocalExecutor


@pytest.fixture
def transcribed(tmp_path):
    """Return a function that runs metrics over a folder: their outcomes by key, and the clips that were transcribed."""
    log = tmp_path / "log"

    def run(folder, *metrics, limit=30.0):
        log.write_text("")
        clips = ClipSet.open(folder)
        with Store(tmp_path / "store") as store:
            transcriber = Counting(LogOptions(log=str(log)))
            runner = Runner(store, LocalExecutor(), Letters(), time_limit_s=limit, transcriber=transcriber)
            (found,) = runner.run([Request(clips, metrics)])
            keys = [source.key for source in clips.sources]
            outcomes = [dict(zip(keys, found.outcomes(metric), strict=True)) for metric in metrics]
        return outcomes, sorted(log.read_text().split())

    return run


def test_one_transcription_serves_metrics_and_recognizer_and_is_kept(transcribed, tone_set):
    folder = tone_set("s", 3)
    (words, phones), requested = transcribed(folder, Reads(), ReadsPhones())
    assert requested == ["c00", "c01", "c02"]
    assert words["c00"].row == {"words": 2, "right": 0.0}
    assert phones["c01"].row == {"phones": 7, "heard": "c01 said"}
    assert (words["c02"].status, words["c02"].reason) == ("failed", "no transcript: mumbled")
    assert phones["c02"].status == "failed"
    (folder / "c00.txt").write_text("c00 said")
    (words,), requested = transcribed(folder, Reads())
    assert words["c00"].row["right"] == 1.0  # measured again for its new text ...
    assert requested == ["c02"]  # ... from the kept transcript; only what failed is tried again


def test_a_transcriber_that_hangs_is_charged_for_its_clip_alone(transcribed, tone_set):
    (words,), _ = transcribed(tone_set("s", 5), Reads(), limit=5.0)
    assert [word.status for word in words.values()] == ["ok", "ok", "failed", "failed", "ok"]
    assert "counting: no result within" in words["c03"].reason


def test_what_it_was_measured_through_is_part_of_the_identity():
    providers = {"transcript": Counting(LogOptions(log="a")), "phones": Letters()}
    others = {**providers, "transcript": Counting(LogOptions(log="b"))}
    for metric in (Reads(), ReadsPhones()):
        assert identify(metric, providers).ident != identify(metric, others).ident
    assert identify(ReadsPhones(), providers).parts["recognizer"]["transcriber"]["name"] == "counting"
    assert identify(Letters(), {"transcript": Counting()}).ident != identify(Letters(), {}).ident
