"""Runs that hang, crash, are killed, are repeated, or use another number of processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import hostile_metrics as hostile
import numpy as np
import pytest

from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.store import Store
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.executors.local import LocalExecutor


def run(store, folder, *metrics, jobs=2, limit=30.0, **more):
    runner = Runner(store, LocalExecutor(), SidecarRecognizer(), jobs=jobs, time_limit_s=limit, **more)
    (measured,) = runner.run([Request(ClipSet.open(folder), metrics)])
    return runner, [list(measured.outcomes(metric)) for metric in metrics]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.cdslm") as held:
        yield held


def test_a_second_run_measures_nothing_and_a_changed_file_is_measured_again(store, tone_set):
    folder = tone_set("t", 5)
    _, (first,) = run(store, folder, Signal())
    runner, (second,) = run(store, folder, Signal())
    assert runner.measured == 0
    assert second == first
    assert all(outcome.status == "ok" for outcome in first)
    (folder / "c00.wav").write_bytes((folder / "c01.wav").read_bytes())
    runner, (third,) = run(store, folder, Signal())
    assert runner.measured == 1
    assert third[0].row["level_dbfs"] == first[1].row["level_dbfs"]


def test_the_time_of_a_metric_is_charged_to_it_and_to_its_set_and_is_0_from_the_store(store, tone_set):
    sets = [ClipSet.open(tone_set("long", 6)), ClipSet.open(tone_set("short", 1, 1))]
    metrics = (Signal(), hostile.Slow())
    runner = Runner(store, LocalExecutor(), SidecarRecognizer(), jobs=1)
    long, short = runner.run([Request(clips, metrics) for clips in sets])
    # what sleeps 0.6 s is charged for it (less what its first message was late), and the other metric is not
    assert long.seconds(metrics[1]) > 0.3
    assert short.seconds(metrics[1]) > 0
    assert 0 < long.seconds(metrics[0]) < long.seconds(metrics[1])
    (again,) = runner.run([Request(sets[0], metrics)])
    assert again.seconds(metrics[1]) == 0


def test_jobs_and_batches_change_nothing(tmp_path, tone_set):
    folder = tone_set("t", 9)
    events = []
    for jobs, metric in ((1, hostile.Batched), (2, hostile.Batched), (2, hostile.OneByOne)):
        with Store(tmp_path / f"{jobs}{metric.__name__}") as held:
            events.append([outcome.row for outcome in run(held, folder, metric(), jobs=jobs)[1][0]])
    assert events[0] == events[1] == events[2]


def test_a_hung_clip_fails_alone_and_other_metrics_do_not_notice(store, tone_set):
    folder = tone_set("t", 5)
    _, (hung, fine) = run(store, folder, hostile.Hangs(), Signal(), limit=5.0)
    assert [outcome.status for outcome in hung] == ["ok", "ok", "failed", "ok", "ok"]
    assert "no result within" in hung[2].reason
    assert [outcome.status for outcome in fine] == ["ok"] * 5


def test_a_dying_process_costs_one_clip_under_one_metric(store, tone_set):
    _, (dead, fine) = run(store, tone_set("t", 5), hostile.Dies(), Signal())
    assert [outcome.status for outcome in dead] == ["ok", "ok", "failed", "ok", "ok"]
    assert "exit code 7" in dead[2].reason
    assert [outcome.status for outcome in fine] == ["ok"] * 5


def test_exceptions_nan_and_missing_columns_become_reasons(store, tone_set):
    _, (raised, nan, lacking) = run(store, tone_set("t", 3), hostile.Raises(), hostile.Nan(), hostile.Lacks())
    assert [outcome.status for outcome in raised] == ["ok", "ok", "failed"]
    assert re.fullmatch(r"ValueError: not this one \(hostile_metrics\.py:\d+\)", raised[2].reason)
    assert {outcome.reason for outcome in nan} == {"nan gave a value that is not finite for 'x'"}
    assert {outcome.reason for outcome in lacking} == {"lacks gave a row without x"}


def test_a_model_that_cannot_be_opened_is_not_remembered_as_a_row(store, tone_set):
    folder = tone_set("t", 2)
    _, (outcomes,) = run(store, folder, hostile.CannotOpen())
    assert {outcome.reason for outcome in outcomes} == {"weights.bin is missing; download it"}
    runner, _ = run(store, folder, hostile.CannotOpen(), keep_failures=True)
    assert runner.measured == 2


def test_needs_and_domains_are_the_hosts_to_guard(store, tmp_path):
    import soundfile as sf

    folder = tmp_path / "odd"
    folder.mkdir()
    sf.write(folder / "empty.wav", np.zeros(0), 8000)
    sf.write(folder / "nan.wav", np.full(4000, np.nan), 8000, subtype="FLOAT")
    sf.write(folder / "short.wav", np.ones(10), 8000)
    sf.write(folder / "silent.wav", np.zeros(4000), 8000)
    (folder / "text.wav").write_text("not audio")
    _, (outcomes, texts) = run(store, folder, hostile.Choosy(), hostile.NeedsText())
    reasons = [(outcome.status, outcome.reason) for outcome in outcomes]
    assert reasons[:4] == [
        ("skipped", "no samples"),
        ("failed", "samples that are not finite"),
        ("skipped", "under 0.25 s"),
        ("skipped", "silent"),
    ]
    assert reasons[4][0] == "failed"
    assert "not readable" in reasons[4][1]
    assert [outcome.reason for outcome in texts[:4]] == ["no text", "samples that are not finite", "no text", "no text"]


def test_killed_half_way_the_same_command_finishes_with_the_same_numbers(tmp_path, tone_set):
    folder, real = tone_set("t", 30), tone_set("r", 30, rng_seed=1)
    here = Path(__file__).parents[1]
    settings = {"env": {**os.environ, "PYTHONPATH": str(here)}, "text": True}

    def command(store):
        return [sys.executable, str(here / "slow_score.py"), str(folder), str(real), str(tmp_path / store)]

    whole = subprocess.run(command("whole"), capture_output=True, check=True, **settings)
    broken = subprocess.Popen(command("broken"), stdout=subprocess.DEVNULL, **settings)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _rows(tmp_path / "broken") < 5:
        time.sleep(0.05)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert 5 <= _rows(tmp_path / "broken") < 30
    again = subprocess.run(command("broken"), capture_output=True, check=True, **settings)
    first, second = json.loads(whole.stdout), json.loads(again.stdout)
    assert second["estimates"] == first["estimates"]
    assert second["measured"] < first["measured"]


def _rows(path):
    """Return how many rows of the slow metric, the last to be measured on a clip, a store holds."""
    import sqlite3

    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM rows WHERE identity LIKE 'slow@%'").fetchone()[0]
    except sqlite3.Error:
        return 0


@pytest.mark.parametrize(("recognizer", "where"), [(hostile.Flaky, "clip"), (hostile.FlakyReader, "open")])
def test_upstream_features_that_fail_once_leave_no_rows_and_heal(tmp_path, tone_set, monkeypatch, recognizer, where):
    """A GPU that is full once must not leave rows with "no phones" for ever, nor rows that lack them as ok."""
    folder = tone_set("t", 4)
    monkeypatch.setenv("FLAKY", f"flaky:{where} writer:{where} encoder:{where}")
    reads_words = recognizer is hostile.FlakyReader

    def measure(store):
        runner = Runner(store, LocalExecutor(), recognizer(), transcriber=hostile.FlakyTranscriber(), jobs=1)
        (measured,) = runner.run([Request(ClipSet.open(folder), metrics)])
        return [list(measured.outcomes(metric)) for metric in metrics]

    phones, words, signal, encoder = metrics = (
        hostile.CountsPhones(), hostile.CountsWords(), Signal(), hostile.FlakyEncoder()
    )  # fmt: skip
    with Store(tmp_path / "s") as store:
        lost = dict(zip(metrics, measure(store), strict=True))
        failing = {clip for clip in range(4) if where == "open" or clip == 1}
        for metric, feature, cause in (
            (phones, "phones", "no transcript: " if reads_words else "flaky: " if where == "open" else ""),
            (words, "transcript", ""),
            (encoder, "", ""),
        ):
            assert {clip for clip, outcome in enumerate(lost[metric]) if outcome.status == "failed"} == failing
            reasons = [outcome.reason for outcome in lost[metric] if outcome.status != "ok"]
            assert all(reason.startswith(f"no {feature}: {cause}" if feature else "Runtime") for reason in reasons)
            assert all("RuntimeError: CUDA out of memory" in reason for reason in reasons)
        # what only wants phones has the rest of its row now, and all of it when they can be had
        assert [outcome.row["phones"] is None for outcome in lost[signal]] == [clip in failing for clip in range(4)]
        monkeypatch.delenv("FLAKY")
        healed = measure(store)
    with Store(tmp_path / "unbroken") as store:
        assert _plain(healed) == _plain(measure(store))
    assert {outcome.status for own in healed for outcome in own} == {"ok"}
    assert all(outcome.row["phones"] for outcome in healed[2])


def _plain(outcomes):
    """Return outcomes whose arrays are lists, which know their equals."""
    return [
        [(o.status, o.reason, {name: np.asarray(value).tolist() for name, value in o.row.items()}) for o in own]
        for own in outcomes
    ]


def test_a_float_file_at_integer_scale_fails_and_codec_overshoot_does_not(store, tmp_path):
    """Scored, such a file moved DNSMOS from 3.24 to 2.68 without a word."""
    import soundfile as sf

    folder = tmp_path / "loud"
    folder.mkdir()
    wave = np.sin(np.arange(8000) * 0.3).astype(np.float32)
    for name, scale in (("int16", 13840.0), ("overshoot", 1.4)):
        sf.write(folder / f"{name}.wav", wave * np.float32(scale), 8000, subtype="FLOAT")
    _, (outcomes,) = run(store, folder, Signal())
    assert [outcome.status for outcome in outcomes] == ["failed", "ok"]
    assert re.match(r"samples of up to 13\d+(\.\d+)?, where full scale is 1; bring them into", outcomes[0].reason)


def test_one_relative_path_in_two_folders_is_two_files(store, tmp_path, monkeypatch):
    """Two experiments with equal names, sizes and times in one store: the second was reported at the first's level."""
    import soundfile as sf

    levels = []
    for name, scale in (("exp1", 0.5), ("exp2", 0.05)):
        (tmp_path / name / "samples").mkdir(parents=True)
        file = tmp_path / name / "samples" / "0.wav"
        sf.write(file, scale * np.sin(np.arange(8000) * 0.3), 8000, subtype="PCM_16")
        os.utime(file, (1e9, 1e9))
        monkeypatch.chdir(tmp_path / name)
        _, (outcomes,) = run(store, "samples", Signal())
        levels.append(outcomes[0].row["level_dbfs"])
    assert levels[0] - levels[1] == pytest.approx(20.0, abs=0.1)
