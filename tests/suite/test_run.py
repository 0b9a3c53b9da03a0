"""Runs of suites: verdicts and exit codes, shards, records, repeats, interruptions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
import soundfile as sf
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt

from cdslm_eval import api
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.host import Host
from cdslm_eval.report.junit import junit
from cdslm_eval.report.markdown import suite_markdown
from cdslm_eval.run.executors.local import LocalExecutor
from cdslm_eval.suite import RunOptions, Shard, load_suite, make_plan, run_suite
from cdslm_eval.suite.recording import record_run

EVIL = 'a|b\n<script>alert(1)</script>"\x00\x1b@team'


def run(path, store, **options):
    plan = make_plan(load_suite(path), Host(pinned=[]), recorded="against" in options, only=options.get("only", ()))
    return run_suite(plan, RunOptions(store=store, **options))


@pytest.fixture
def measured(suite_file, tmp_path):
    """The suite, run once: its file, store and result."""
    path, store = suite_file(), tmp_path / "a.cdslm"
    return path, store, run(path, store)


def test_a_gate_each_way_gives_exit_code_4_and_what_ci_reads(suite_file, cli, tmp_path):
    path = suite_file()
    done = cli("run", path, "--json", "r.json", "--junit", "j.xml", "--markdown", "m.md", "--out", "out", code=4)
    result = json.loads((tmp_path / "r.json").read_text())
    assert [entry["status"] for entry in result["gates"]] == ["pass", "fail", "undecided"]
    assert result["gates"][2]["more_clips"] > 0
    assert "UNDECIDED: near: level >= baseline" in done.stderr
    suites = JUnitXml.fromfile(str(tmp_path / "j.xml"))
    assert (suites.tests, suites.failures, suites.errors) == (3, 2, 0)
    cases = {case.name: case.result for suite in suites for case in suite}
    assert cases["long enough"] == []
    assert isinstance(cases["like speech"][0], Failure)
    assert "24 clips" in cases["like speech"][0].message
    html = MarkdownIt("commonmark").enable("table").render((tmp_path / "m.md").read_text())
    assert html.count("<tr>") > 3 + len(result["estimates"]) / 2
    assert "2 of 3 gates failed" in html
    board = (tmp_path / "out" / "index.html").read_text()
    real = {entry["name"]: entry for entry in result["real"]}
    assert set(real) == {"duration", "level", "silence_share", "clipping_share", "speech_rate"}
    level = real["level"]["value"]
    assert re.search(rf'<tr class="real">.*<td>{level:.0f}', board)
    assert board.count('class="take"') == 8
    assert "All values next to real speech" in board
    assert (tmp_path / "out" / "scores" / "index.html").is_file()
    # an undecided gate that counts as passed, and none that fails
    lenient = suite_file(
        head='undecided = "pass"', gates="[[gates]]\ngate='level >= baseline'\nbaseline='far'", name="b.toml"
    )
    cli("run", lenient, "--junit", "j.xml")
    (case,) = [case for suite in JUnitXml.fromfile(str(tmp_path / "j.xml")) for case in suite]
    assert isinstance(case.result[0], Skipped)


def test_the_function_plans_first_and_a_shard_of_it_judges_nothing(suite_file, tmp_path, monkeypatch):
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    path, plans = suite_file(), []
    store, planned = tmp_path / "one.cdslm", api.plan_suite(path)
    part = api.run_suite(path, store=store, shard="1/2", jobs=1, planned=plans.append)
    assert [plan.cells for plan in plans] == [planned.cells]
    assert (part.scores.estimates, part.judgements) == ((), ())
    whole = api.run_suite(path, store=store, jobs=1)
    assert [judgement.status for judgement in whole.judgements] == ["pass", "fail", "undecided"]
    with pytest.raises(UsageError, match="the first number lies in"):
        api.run_suite(path, store=store, shard="3/2")


def test_shards_that_are_merged_equal_the_whole_bit_for_bit(measured, cli, tmp_path, monkeypatch):
    path, _, whole = measured
    for number in (1, 2, 3):
        part = run(path, tmp_path / f"part{number}.cdslm", shard=Shard(number, 3))
        assert part.scores.estimates == ()
    cli("merge", "merged.cdslm", *(f"part{n}.cdslm" for n in (1, 2)))
    again = cli("merge", "merged.cdslm", "part3.cdslm").stderr
    assert "no store of shard 1/3, 2/3" in again
    # nothing is left to measure
    monkeypatch.setattr(LocalExecutor, "run", lambda *_: pytest.fail("measured again"))
    merged = run(path, tmp_path / "merged.cdslm")
    assert json.dumps(merged.as_json()) == json.dumps(whole.as_json())
    with pytest.raises(UsageError):
        Shard.parse("4/3")


def test_a_checkout_elsewhere_with_other_times_is_not_measured_again(measured, tmp_path, monkeypatch):
    path, store, whole = measured
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("real", "near", "far"):
        shutil.copytree(tmp_path / name, elsewhere / name, copy_function=shutil.copyfile)
    moved = elsewhere / path.name
    moved.write_text(path.read_text())
    seen = []
    original = LocalExecutor.run
    monkeypatch.setattr(
        LocalExecutor, "run", lambda s, worker, *rest: seen.append(worker) or original(s, worker, *rest)
    )
    result = run(moved, store)
    assert [type(worker).__name__ for worker in seen] == ["_Decoder"]
    assert result.as_json()["estimates"] == whole.as_json()["estimates"]


def test_systems_that_share_clips_measure_them_once(suite_file, tmp_path):
    path = suite_file(systems='[systems.twin]\npath = "twin"')
    shutil.copytree(tmp_path / "near", tmp_path / "twin")
    with Store(tmp_path / "s.cdslm") as store:
        done = run(path, tmp_path / "s.cdslm")
        ident = next(estimate.identity for estimate in done.scores.estimates if estimate.metric == "signal")
        rows = store._db.execute("SELECT count(*) FROM rows WHERE identity = ?", [ident]).fetchone()[0]
    assert rows == 72  # near, far and the row of real speech
    value = {(estimate.system, estimate.name): estimate.value for estimate in done.scores.estimates}
    assert value["twin", "level"] == value["near", "level"]
    # what was summarised once is the same when it is read back
    assert json.dumps(run(path, tmp_path / "s.cdslm").as_json()) == json.dumps(done.as_json())


def test_a_change_against_a_record_is_named_with_its_interval(measured, cli, tmp_path):
    path, store, _ = measured
    record_run(store, tmp_path / "base.cdslm", None)
    for clip in (tmp_path / "near").glob("*.wav"):
        samples, rate = sf.read(clip, dtype="float32")
        sf.write(clip, samples * 0.5, rate)
    gates = "[[gates]]\ngate='level >= recorded - 1'\nsystems=['near']"
    changed = run(path, store, against=tmp_path / "base.cdslm")
    by_quantity = {(change.system, change.name): change for change in changed.changes}
    # half the amplitude is 20 log10(1/2) dB
    assert by_quantity["near", "level"].difference == pytest.approx(-6.02, abs=0.05)
    assert by_quantity["near", "level"].paired
    assert by_quantity["near", "level"].verdict == "changed"
    assert by_quantity["near", "level"].p_holm < 0.05
    assert by_quantity["near", "pjsd_1"].verdict == "no change shown"
    assert by_quantity["far", "level"].verdict == "same audio"
    gated = path.with_name("gated.toml")
    gated.write_text(load_suite(path).text.split("[[gates]]")[0] + gates)
    cli("run", gated, "--store", store, "--against", "base.cdslm", "--markdown", "-", code=4)
    other = path.with_name("other.toml")
    other.write_text(path.read_text().replace('recognizer = "sidecar"', 'recognizer = "sidecar:inventory=ipa"'))
    refused = cli("run", other, "--store", store, "--against", "base.cdslm", code=2).stderr
    assert "pjsd: recognizer.options.inventory" in refused or "inventory" in refused


def test_a_record_is_kept_under_a_name_compared_and_shown_as_history(measured, cli):
    path, store, whole = measured
    cli("record", "first", "--store", store)
    assert "there already" in cli("record", "first", "--store", store, code=2).stderr
    assert "Did you mean 'first'?" in cli("run", path, "--store", store, "--against", "frist", code=2).stderr
    again = run(path, store)
    unchanged = cli("run", path, "--store", store, "--against", "first", code=4).stderr
    assert "no change shown against the recorded run" in unchanged
    past = {(entry.system, entry.name): entry for entry in again.past}
    now = next(estimate for estimate in whole.scores.estimates if (estimate.system, estimate.name) == ("near", "level"))
    assert past["near", "level"].value == now.value
    assert past["near", "level"].run == "first"


def test_rerun_repeats_a_result_and_names_what_differs(measured, cli, tmp_path):
    whole = measured[2]
    (tmp_path / "r.json").write_text(json.dumps(whole.as_json()))
    same = cli("rerun", "r.json", "--store", "fresh.cdslm")
    count = len(whole.scores.estimates)
    assert f"{count} of {count} values are the same" in same.stdout
    samples, rate = sf.read(tmp_path / "near" / "c00.wav", dtype="float32")
    sf.write(tmp_path / "near" / "c00.wav", samples * 0.5, rate)
    changed = cli("rerun", "r.json", "--store", "fresh.cdslm", code=1).stderr
    assert "differs: audio of near: 24 clips then, 24 now, other content" in changed
    assert "differs: value level of near: value" in changed
    assert "value level of far" not in changed
    cli("score", "near", "far", "-r", "real", "--recognizer", "sidecar", "--json", "s.json")
    assert "bit for bit" in cli("rerun", "s.json").stdout
    cli("score", "near", "far", "-r", "real", "--recognizer", "sidecar", "--out", "page")
    assert "installed" not in cli("rerun", "page/result.json").stderr
    (tmp_path / "broken.json").write_text("[]")
    assert "not a result" in cli("rerun", "broken.json", code=2).stderr
    assert "which has no suite" in cli("rerun", "s.json", "--suite", "suite.toml", code=2).stderr


def test_rerun_reads_below_the_folder_of_a_suite_that_is_here(measured, cli, tmp_path):
    """A result of a third party names any folder, and a generator's texts may lie below the suite's."""
    path, _, whole = measured
    result = whole.as_json()
    absent = json.loads(json.dumps(result))
    absent["settings"]["suite"]["path"] = "/nowhere/suite.toml"
    (tmp_path / "absent.json").write_text(json.dumps(absent))
    assert (
        "its suite file /nowhere/suite.toml is not here; name it with --suite FILE"
        in cli("rerun", "absent.json", code=2).stderr
    )
    (tmp_path / "notes.toml").write_text("text of another kind")
    assert "notes.toml" in cli("rerun", "absent.json", "--suite", "notes.toml", code=2).stderr
    again = cli("rerun", "absent.json", "--suite", path, "--store", "fresh.cdslm", "--memory-limit", "8")
    assert f"note: sets are read from {path.parent.resolve()}, the folder of {path.name}" in again.stderr
    assert "values are the same" in again.stdout


def test_a_set_may_allow_truncated_files_and_ignore_columns(suite_file, tmp_path):
    path = suite_file()
    clip = tmp_path / "near" / "c00.wav"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    (tmp_path / "far.csv").write_text(
        "path,mood\n" + "".join(f"far/{file.name},x\n" for file in sorted((tmp_path / "far").glob("*.wav")))
    )
    text = path.read_text()
    strict = run(path, tmp_path / "s.cdslm")
    assert [failure.clip for failure in strict.scores.failures if failure.metric == "signal"] == ["c00"]
    path.write_text(
        text.replace('path = "near"', 'path = "near"\nallow_truncated = true').replace(
            'path = "far"', 'path = "far.csv"\nignore_columns = ["mood"]'
        )
    )
    allowed = run(path, tmp_path / "s.cdslm")
    assert not [failure for failure in allowed.scores.failures if failure.metric == "signal"]
    far = [[r.scores.estimate("level", "far").value] for r in (strict, allowed)]
    assert far[0] == far[1]


def test_two_runs_on_one_store_lose_nothing(suite_file, tmp_path):
    path = suite_file()
    command = [
        sys.executable,
        "-m",
        "cdslm_eval",
        "run",
        path,
        "--store",
        tmp_path / "s.cdslm",
        "--jobs",
        "1",
        "--json",
    ]
    both = [
        subprocess.Popen([*command, tmp_path / f"{n}.json"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for n in "ab"
    ]
    assert [entry.wait(timeout=120) for entry in both] == [4, 4]
    a, b = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
    assert a["estimates"] == b["estimates"]
    with Store(tmp_path / "s.cdslm") as store:
        assert len(store.runs()) == 2


def test_an_interrupted_run_keeps_what_it_measured(suite_file, tmp_path):
    path, store = suite_file(), tmp_path / "s.cdslm"
    plan = make_plan(load_suite(path), Host(pinned=[]))

    def interrupt(done, total):
        """Stand for ^C once something is done."""
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(plan, RunOptions(store=store, progress=interrupt))
    with Store(store) as held:
        n_rows = held._db.execute("SELECT count(*) FROM rows").fetchone()[0]
    assert n_rows > 0
    assert run(path, store).exit_code == 4


def test_only_narrows_the_grid_and_its_gates(suite_file, tmp_path):
    done = run(suite_file(), tmp_path / "s.cdslm", only=("near", "signal"))
    assert done.scores.systems == ("near",)
    assert {estimate.metric for estimate in done.scores.estimates} == {"signal"}
    assert [judgement.title for judgement in done.judgements] == ["long enough"]


def test_what_strangers_wrote_stays_text_in_junit_and_markdown(measured):
    import dataclasses

    result = measured[2]
    judgements = tuple(dataclasses.replace(judgement, system=EVIL, sentence=EVIL) for judgement in result.judgements)
    unmeasured = dataclasses.replace(judgements[0], status="unmeasured", counts_as="fail")
    evil = dataclasses.replace(result, name=EVIL, judgements=(*judgements, unmeasured), over_budget=(EVIL,))
    text = junit(evil, "2026-01-01T00:00:00+00:00")
    root = ET.fromstring(text)
    assert root.find("testsuite").get("tests") == "5"
    assert root.find("testsuite").get("errors") == "1"
    assert any(isinstance(case.result[0], Error) for s in JUnitXml.fromstring(text) for case in s if case.result)
    html = MarkdownIt("gfm-like", {"linkify": False}).render(suite_markdown(evil))
    assert "<script" not in html
    assert "@team" not in suite_markdown(evil)


TONE_SUITE = """
name = "channel"
recognizer = "{recognizer}"
{head}
[references.real]
path = "real"
[systems.near]
path = "near"
[metrics.pjsd]
[[gates]]
gate = "{gate}"
"""


def test_gates_on_the_matched_value_put_the_reference_through_the_channel(tone_set, tmp_path):
    from cdslm_eval.suite import parse_suite

    real, _ = tone_set("real", 24), tone_set("near", 24, 1)
    for number, path in enumerate(sorted(real.glob("*.wav"))):
        path.with_suffix(".txt").write_text(("she sees these", "all tall walls")[number % 2])

    def plan(gate, recognizer="pocketsphinx", head=""):
        text = TONE_SUITE.format(gate=gate, recognizer=recognizer, head=head)
        return make_plan(parse_suite(text, tmp_path / "s.toml"), Host(pinned=[]))

    store = tmp_path / "s.cdslm"
    judged = run_suite(plan("pjsd_1.matched < 1"), RunOptions(store=store))
    (estimate,) = [e for e in judged.scores.estimates if e.name == "pjsd_1"]
    (judgement,) = judged.judgements
    assert judgement.quantity == "matched"
    assert judgement.value == pytest.approx(estimate.acoustics.matched, nan_ok=True)
    assert [entry.name for entry in judged.scores.channel.sets] == ["real", "near"]
    again = run_suite(plan("pjsd_1.matched < 1"), RunOptions(store=store))
    assert again.scores.as_json()["channel"] == judged.scores.as_json()["channel"]
    first = judged.scores.recognition_gain[0]
    assert (first.reference, first.clips) == ("real", (12, 12))
    assert first.text > 0.5
    assert again.scores.as_json()["recognition_gain"] == judged.scores.as_json()["recognition_gain"]
    # pocketsphinx is slow: without a gate on it, nothing is put through a channel
    assert plan("pjsd_1.corrected < 1").profiler is None
    assert plan("pjsd_1.corrected < 1", head="channel = true").profiler is not None
    with pytest.raises(UsageError, match="channel = false turns it off"):
        plan("pjsd_1.matched < 1", head="channel = false")
    with pytest.raises(UsageError, match="does not read audio"):
        plan("pjsd_1.matched < 1", recognizer="sidecar")
    with pytest.raises(UsageError, match="matched is not compared with baseline"):
        plan("pjsd_1.matched < baseline")
