"""Input that was made to do harm, or was damaged: names, manifests, results, stores, files that are none."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cdslm_eval.api import plan_suite
from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.cli import common, listing
from cdslm_eval.cli.recorded import check_recorded
from cdslm_eval.cli.tables import records_csv
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import StoreError, UsageError
from cdslm_eval.core.printable import printable
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.core.store_merge import merge_stores
from cdslm_eval.core.verbosity import set_up_logging
from cdslm_eval.plugin.execution import Finished, Produced, Task
from cdslm_eval.plugin.host import Host
from cdslm_eval.run import Request, Runner
from cdslm_eval.run.executors.local import LocalExecutor, LocalOptions, WorkerProcess
from cdslm_eval.run.row_checks import drop_unsound_rows

SIDECAR = ("--recognizer", "sidecar", "-m", "signal", "-j", "1")


@pytest.fixture
def cli(tmp_path):
    def call(*arguments, code=0):
        environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "store.cdslm"), "CDSLM_EVAL_PLUGINS": ""}
        done = subprocess.run(
            [sys.executable, "-m", "cdslm_eval", *map(str, arguments)],
            env=environment, capture_output=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, err
        assert "internal error" not in err
        return out, err

    return call


def measured(store, folder, **options):
    runner = Runner(store, LocalExecutor(), None, jobs=1, **options)
    (measurement,) = runner.run([Request(ClipSet.open(folder), (Signal(),))])
    return runner.measured, list(measurement.outcomes(measurement.request.metrics[0]))


def test_names_that_are_not_utf8_or_that_no_file_can_have_are_clips_like_others(cli, tone_set, tmp_path):
    folder = tone_set("set", 3)
    (folder / "c00.wav").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.wav"))
    lines = [{"path": os.fsdecode(b"\xff\xfe.wav")}, {"path": "c01.wav"}, {"path": "a\0b.wav"}, {"path": "\ud800.wav"}]
    manifest = folder / "clips.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, _ = cli("score", manifest, *SIDECAR, "--fail-budget", "1", "--json", "-")
    result = json.loads(out)
    assert result["estimates"][0]["n_scored"] == 2
    assert sorted(failure["clip"] for failure in result["failures"]) == ["a\0b", "\ud800"]
    assert all(failure["reason"].startswith("cannot be read: ") for failure in result["failures"])
    with Store(tmp_path / "s.cdslm") as store:
        assert measured(store, folder / "clips.jsonl")[0] == 4
        assert measured(store, folder / "clips.jsonl")[0] == 2  # of the two that exist, the store vouches for both


def test_control_characters_of_names_reach_neither_terminal_nor_log(cli, tone_set):
    folder = tone_set("set", 2)
    (folder / "c00.wav").write_bytes(b"RIFF")
    (folder / "c00.wav").rename(folder / "x\x1b]0;title\a\ncdslm-eval: forged.wav")
    named = folder.rename(folder.with_name("red\x1b[31m"))
    out, err = cli("score", named, *SIDECAR, "--fail-budget", "1")
    assert "\x1b" not in out + err
    assert "red\\x1b[31m" in out
    assert "\\x1b]0;title\\x07\\ncdslm-eval: forged" in out
    _, err = cli("score", "no\x1b[31m\ncdslm-eval: forged", *SIDECAR, code=2)
    assert "\x1b" not in err
    assert sum(line.startswith("cdslm-eval:") for line in err.splitlines()) == 1


def test_what_plugins_and_logs_hold_is_printed_without_control_characters(capsys, monkeypatch):
    evil = "x\x1b]0;title\a\ncdslm-eval: forged"
    row = {"name": evil, "owner": evil, "version": "1", "summary": evil, "options": {evil: evil}}
    card = {**row, "direction": "", "rate_hz": 0, "needs": [evil], "uses": [], "needs_gpu": False, "licence": evil,
            "weights_licence": evil, "unit": evil, "works": evil, "values": {evil: evil}}  # fmt: skip
    listing._show([row], tuple(row), as_json=False)
    listing._show_cards([card])
    with common.progress(evil) as shown:
        shown(1, 1)
    monkeypatch.setenv("CDSLM_EVAL_VERBOSITY", "verbose")
    logger = logging.getLogger("cdslm_eval")
    handlers = list(logger.handlers)
    set_up_logging()
    try:
        logger.info("%s", evil)
    finally:
        logger.handlers = handlers
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\a" not in out + err
    assert not [line for line in (out + err).splitlines() if line.startswith("cdslm-eval:")]


def test_printable_leaves_text_and_escapes_what_is_none():
    assert printable("Größe 東京 → π") == "Größe 東京 → π"
    assert printable("a\u202eb\udcff\r") == "a\\u202eb\\udcff\\r"


@pytest.mark.parametrize(
    ("start", "guard"), [("=", "'="), ("+", "'+"), ("-", "'-"), ("@", "'@"), ("\t=", "\\t="), ("\r=", "\\r=")]
)
def test_cells_of_csv_are_no_formulas_unless_raw(start, guard):
    record = {"system": f"{start}HYPERLINK(1)", "value": -1.5}
    (guarded,) = csv.DictReader(io.StringIO(records_csv([record]), newline=""))
    raw = records_csv([record], raw=True)
    assert guarded == {"system": f"{guard}HYPERLINK(1)", "value": "-1.5"}
    assert raw == f"system,value\n{start}HYPERLINK(1),-1.5\n"


def test_json_holds_a_byte_that_is_not_utf8_as_an_escape(tmp_path):
    common.write_json(str(tmp_path / "r.json"), {"clip": "\udcff"})
    assert json.loads((tmp_path / "r.json").read_text()) == {"clip": "\udcff"}


@pytest.mark.parametrize("name", ["deep.jsonl", "deep.json"])
def test_deep_json_is_an_error_with_its_file(cli, tmp_path, name):
    (tmp_path / name).write_text("[" * 100_000)
    command = ("score", name, *SIDECAR) if name == "deep.jsonl" else ("fit", name)
    assert f"{name}" in cli(*command, code=2)[1]
    assert f"{name}: not a result" in cli("rerun", name, code=2)[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"settings": {"suite": {}}}, "settings.suite.path"),
        ({"settings": {"sets": {"a": "b"}}}, "settings.sets.a"),
        ({"settings": {"sets": []}}, "settings.sets"),
        ({"settings": {"versions": []}}, "settings.versions"),
        ({"estimates": [{"system": 1, "name": "x", "identity": "y"}]}, "estimates.0.system"),
        ({"estimates": 3}, "estimates"),
    ],
)
def test_a_result_of_other_types_names_the_field(change, field):
    whole = {"settings": {"metrics": "signal", "sets": {}, "recognizer": "sidecar", "seed": 0}, "estimates": []}
    check_recorded(whole, Path("r.json"))
    with pytest.raises(UsageError) as caught:
        check_recorded({**whole, **change}, Path("r.json"))
    assert f"r.json: not a result of `run` or `score`: {field}: " in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    ["data = '{\"x\":'", "data = '[1]'", "data = NULL", "data = x'ff'", "status = 'weird'", "reason = x'00'"],
)
def test_a_damaged_row_is_absent_measured_again_and_not_merged(tone_set, tmp_path, damage):
    folder = tone_set("set", 3)
    path = tmp_path / "s.cdslm"
    with Store(path) as store:
        _, whole = measured(store, folder)
        row = "(SELECT min(subject) FROM rows)"
        store._db.execute(f"UPDATE rows SET {damage} WHERE subject = {row}")
    with Store(tmp_path / "target.cdslm") as target:
        assert merge_stores(target, [path])[0]["rows"] == 2
    with Store(path) as store:
        assert measured(store, folder) == (1, whole)


@pytest.mark.parametrize(
    "damage",
    [
        "data = json_remove(data, '$.level_dbfs')",
        "data = json_set(data, '$.level_dbfs', json('true'))",
        "status = 'weird'",
    ],
)
def test_a_row_that_its_metric_cannot_have_returned_is_measured_again(tone_set, tmp_path, damage):
    folder = tone_set("set", 3)
    path = tmp_path / "s.cdslm"
    with Store(path) as store:
        _, whole = measured(store, folder)
        store._db.execute(f"UPDATE rows SET {damage} WHERE subject = (SELECT min(subject) FROM rows)")
        assert measured(store, folder) == (1, whole)
        store._db.execute(f"UPDATE rows SET {damage} WHERE subject = (SELECT min(subject) FROM rows)")
        assert drop_unsound_rows(store, Host(pinned=[])) == 1
        assert measured(store, folder) == (1, whole)


def test_a_value_of_another_kind_in_a_row_fails_that_clip(tone_set, tmp_path):
    """A text among numbers would move the values of every later clip to its neighbour."""
    folder = tone_set("set", 3)
    with Store(tmp_path / "s.cdslm") as store:
        _, whole = measured(store, folder)
        store._db.execute("UPDATE rows SET data = json_set(data, '$.level_dbfs', 'loud') WHERE subject = "
                          "(SELECT min(subject) FROM rows)")  # fmt: skip
        _, outcomes = measured(store, folder)
    assert sorted(outcome.status for outcome in outcomes) == ["failed", "ok", "ok"]
    assert [outcome for outcome in outcomes if outcome.status == "ok"] == [
        good for good, outcome in zip(whole, outcomes, strict=True) if outcome.status == "ok"
    ]
    (reason,) = {outcome.reason for outcome in outcomes if outcome.status == "failed"}
    assert "holds values of another kind" in reason


def test_a_damaged_database_says_what_to_do(tmp_path):
    path = tmp_path / "s.cdslm"
    with Store(path) as store, store.writing():
        for number in range(2000):
            store.put_row("metric", str(number), Outcome("ok", "", {"x": number}))
    with Store(path) as store:
        store.seal()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    advice = "move it away, so that rows are measured again, or name another --store"
    with pytest.raises(StoreError, match=advice), Store(path) as store:
        list(store.outcomes("metric", map(str, range(2000))))


def test_what_is_no_regular_file_fails_at_once_with_a_reason(tone_set, tmp_path):
    folder = tone_set("set", 1)
    os.mkfifo(folder / "fifo.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "dangling.wav").symlink_to("nowhere.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    with Store(tmp_path / "s.cdslm") as store:
        _, outcomes = measured(store, folder)
        manifest = tmp_path / "m.csv"
        manifest.write_text("path\nset/fifo.wav\n/dev/zero\n")
        assert [outcome.reason for outcome in measured(store, manifest)[1]] == ["not a regular file"] * 2
    keys = [source.key for source in ClipSet.open(folder).sources]
    reasons = {key: outcome.reason for key, outcome in zip(keys, outcomes, strict=True)}
    assert reasons == {
        "c00": "",
        "dangling": "cannot be read: No such file or directory",
        "device": "not a regular file",
        "fifo": "not a regular file",
        "loop": "cannot be read: Too many levels of symbolic links",
    }


class Echo:
    """A worker that returns its payload, and is killed by its first starts."""

    def __init__(self, mark, kills):
        self.mark, self.kills = mark, kills

    def open(self):
        return self

    def __enter__(self):
        starts = len(self.mark.read_text()) if self.mark.exists() else 0
        self.mark.write_text("x" * (starts + 1))
        if starts < self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return lambda payload: iter([payload])

    def __exit__(self, *_):
        pass


def test_a_worker_that_is_killed_before_it_is_ready_is_started_twice_more(tmp_path):
    process = WorkerProcess(Echo(tmp_path / "mark", 2))
    try:
        assert list(process.run(Task(1, "payload"))) == [Produced(1, "payload"), Finished(1)]
    finally:
        process.kill()
    process = WorkerProcess(Echo(tmp_path / "other", 9))
    with pytest.raises(Exception, match="a worker process did not start: the worker process died of SIGKILL"):
        list(process.run(Task(1, "payload")))
    assert (tmp_path / "other").read_text() == "xxx"


class Allocates:
    """A worker that touches as many MiB as its payload."""

    def open(self):
        return self

    def __enter__(self):
        return self._allocate

    def _allocate(self, mebibytes):
        try:
            yield len(b"x" * (mebibytes << 20)) >> 20
        except MemoryError:
            yield "out of memory"

    def __exit__(self, *_):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits are Linux's")
def test_a_worker_has_no_more_memory_than_its_limit():
    tasks = iter([Task(1, 64), Task(2, 4096)])
    executor = LocalExecutor(LocalOptions(memory_gb=1.0))
    events = executor.run(Allocates(), lambda: next(tasks, None), 1)
    assert [event.value for event in events if isinstance(event, Produced)] == [64, "out of memory"]
    assert LocalOptions().limit_bytes() > 0
    assert LocalOptions(memory_gb=0).limit_bytes() is None


def test_a_suite_reads_text_below_its_own_folder_only(tmp_path, tone_set):
    tone_set("real", 2)
    folder = tmp_path / "suite"
    folder.mkdir()
    (tmp_path / "private.txt").write_text("a secret\n")
    (folder / "own.txt").write_text("a word\n")
    suite = (
        'name = "s"\nrecognizer = "sidecar"\n[references.real]\npath = "../real"\n[systems.s]\ngenerator = "speak"\n'
        'count = 1\noptions = {{ path = "{path}" }}\n[metrics.signal]\n'
    )
    for path in ("../private.txt", str(tmp_path / "private.txt"), "./link.txt"):
        if path == "./link.txt":
            (folder / "link.txt").symlink_to("../private.txt")
        (folder / "s.toml").write_text(suite.format(path=path))
        with pytest.raises(UsageError, match="lies outside the suite's folder"):
            plan_suite(folder / "s.toml")
        plan_suite(folder / "s.toml", allow_outside=True)
    (folder / "s.toml").write_text(suite.format(path="./own.txt"))
    plan_suite(folder / "s.toml")


def test_names_are_read_while_threads_of_the_caller_write(tmp_path):
    """The guard of descriptors 1 and 2 must give them back, whichever thread is inside."""
    from cdslm_eval.core.audio import read_audio
    from cdslm_eval.core.errors import AudioError

    (tmp_path / "x.sds").write_bytes(b"\xf0\x7e\x00\x01" + b"\xff" * 300)
    before = [os.fstat(descriptor).st_ino for descriptor in (1, 2)]

    def decode():
        for _ in range(20):
            with pytest.raises(AudioError):
                read_audio(tmp_path / "x.sds")

    threads = [threading.Thread(target=decode) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.fstat(descriptor).st_ino for descriptor in (1, 2)] == before


def test_a_store_can_be_shown_pruned_and_checked(cli, tone_set, tmp_path):
    real = tone_set("real", 3)
    cli("score", real, *SIDECAR)
    summary = json.loads(cli("store", "info", "--json")[0])
    (entry,) = [entry for entry in summary["identities"] if entry["name"] == "signal"]
    assert (summary["files"], summary["runs"], entry["rows"]) == (3, 1, {"ok": 3})
    assert cli("store", "verify")[0].endswith(": whole\n")
    (real / "c00.wav").unlink()
    assert "would drop 0 runs, 0 rows, 1 files" in cli("store", "prune", "--missing-files", "--dry-run")[0]
    command = ("store", "prune", "--missing-files", "--identity", entry["identity"], "--older-than", "1")
    assert "dropped 0 runs, 3 rows, 1 files" in cli(*command)[0]
    assert json.loads(cli("store", "info", "--json")[0])["files"] == 2
    with Store(tmp_path / "store.cdslm") as store:
        store.put_row("metric", "subject", Outcome("ok", "", {"x": 1}))
        store.query("UPDATE runs SET finished = '2020-01-01T00:00:00+00:00'")
        store.query("UPDATE rows SET data = '{' WHERE identity = 'metric'")
    assert "1 rows cannot be read" in cli("store", "verify", code=3)[1]
    assert "dropped 1 runs, 0 rows, 0 files" in cli("store", "prune", "--older-than", "1")[0]
    assert "there is no such store" in cli("store", "info", "none.cdslm", code=2)[1]
