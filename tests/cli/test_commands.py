"""The real command line, one path a feature."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import cdslm_eval.cli as cli_module

TESTS = Path(__file__).parents[1]

FIELDS = {
    "system", "metric", "identity", "name", "value", "low", "high", "floor", "corrected", "corrected_low",
    "corrected_high", "held_out", "trust", "unit", "better", "n_scored", "n_failed", "n_skipped", "reason",
}  # fmt: skip


@pytest.fixture
def cli(tmp_path):
    def call(*arguments, code=0):
        environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "store.cdslm"), "CDSLM_EVAL_PLUGINS": ""}
        done = subprocess.run(
            [sys.executable, "-m", "cdslm_eval", *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


def test_score_gives_the_documented_json_and_ranks_the_nearer_system_first(cli, tone_set):
    real, near, far = tone_set("real", 25), tone_set("near", 25, 1), tone_set("far", 25, 2, skew=-1.0)
    done = cli("score", far, near, "-r", real, "--recognizer", "sidecar", "--json", "-")
    result = json.loads(done.stdout)
    assert set(result) >= {"estimates", "failures", "settings"}
    assert set(result["estimates"][0]) >= FIELDS
    value = {(estimate["system"], estimate["name"]): estimate for estimate in result["estimates"]}
    assert {f"pjsd_{n}" for n in range(1, 6)} <= {name for _, name in value}
    assert value["far", "pjsd_1"]["corrected_low"] > value["near", "pjsd_1"]["corrected_high"]
    table = cli("score", far, near, "-r", real, "--recognizer", "sidecar").stdout
    assert table.index("near") < table.index("far")
    reference = cli("score", real, "-r", real, "--recognizer", "sidecar", "-m", "pjsd").stderr
    assert "same audio as the reference" in reference


def test_compare_export_and_other_formats(cli, tone_set, tmp_path):
    real, near, far = tone_set("real", 25), tone_set("near", 25, 1), tone_set("far", 25, 2, skew=-1.0)
    done = cli("compare", far, near, "-r", real, "--recognizer", "sidecar", "-m", "pjsd", "--json", "-")
    first = json.loads(done.stdout)["differences"][0]
    assert first["paired"] is True
    assert first["low"] > 0
    assert first["p_holm"] < 0.05
    cli("score", near, "-r", real, "--recognizer", "sidecar", "--format", "md")
    rows = list(csv.DictReader(io.StringIO(cli("export").stdout)))
    assert {row["system"] for row in rows} == {"near"}
    cli("export", tmp_path / "x.parquet")
    import pandas as pd

    assert set(pd.read_parquet(tmp_path / "x.parquet")["name"]) == {row["name"] for row in rows}


def test_everything_odd_ends_normally_with_every_bad_file_named(cli, shared_data):
    done = cli("score", shared_data / "odd", "-m", "signal", "--recognizer", "sidecar", "--json", "-", code=1)
    result = json.loads(done.stdout)
    reasons = {failure["clip"]: failure["reason"] for failure in result["failures"]}
    assert "not readable" in reasons["generated/text_named"]
    assert "not finite" in reasons["generated/nan_inf_float"]
    assert reasons["generated/zero_frames"] == "no samples"
    (duration,) = [entry for entry in result["estimates"] if entry["name"] == "duration"]
    assert duration["n_scored"] + duration["n_failed"] + duration["n_skipped"] > 50
    assert duration["n_scored"] > 20
    assert "over the failure budget" in done.stderr
    cli("score", shared_data / "odd", "-m", "signal", "--recognizer", "sidecar", "--fail-budget", "0.9")
    cli(
        "score",
        shared_data / "odd",
        "-m",
        "signal",
        "--recognizer",
        "sidecar",
        "--fail-budget",
        "0.9",
        "--strict",
        code=1,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{set}"], "name it with --reference"),
        (["score", "nowhere", "-r", "{set}"], "no such file"),
        (["score", "bable:2", "-r", "{set}"], "Did you mean 'babble'"),
        (["score", "{set}", "-r", "{set}", "--recognizer", "pocketsphink"], "Did you mean 'pocketsphinx'"),
        (["score", "{set}", "-r", "{set}", "--recognizer", "pocketsphinx:lww=3"], "Did you mean 'lw'"),
        (["score", "{set}", "-r", "{set}", "--format", "xml"], "one of table"),
        (["score", "{set}", "{set}", "-r", "{set}"], "named twice"),
        (["compare", "{set}", "noise", "-r", "{set}"], "write its clips first"),
        (["export"], "no such store"),
        (["score", "{set}", "-m", "signal", "--store", "/proc/nothing/s.cdslm"], "store"),
    ],
)
def test_wrong_commands_are_one_sentence_and_exit_code_two(cli, tone_set, arguments, message):
    folder = str(tone_set("set", 2))
    done = cli(*[argument.replace("{set}", folder) for argument in arguments], code=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_generate_writes_a_set_that_scores_and_the_seed_decides(cli, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\nShe sells sea shells by the shore.\n")
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        cli("generate", f"babble:1,text={text}", "--out", name, "--count", 3, "--seconds", 1, "--seed", seed)
    first, second, third = ((tmp_path / name / "00001.flac").read_bytes() for name in ("one", "two", "three"))
    assert first == second != third
    done = cli("score", "one", "-r", "three", "--recognizer", "sidecar", "-m", "pjsd", "--json", "-")
    assert json.loads(done.stdout)["estimates"][0]["n_scored"] == 3
    cli("generate", f"babble:1,text={text}", "--out", "one", code=2)
    noise = cli("score", "noise", "-r", "one", "--recognizer", "sidecar", "-m", "signal", "--count", 2, "--json", "-")
    assert {entry["system"] for entry in json.loads(noise.stdout)["estimates"]} == {"noise"}


def test_listings_answer_in_json(cli):
    assert {"channel", "join_jump", "pjsd", "repetition", "signal"} == {
        entry["name"] for entry in json.loads(cli("metrics", "--json").stdout)
    }
    assert {"pocketsphinx", "sidecar", "transcript"} <= {
        entry["name"] for entry in json.loads(cli("recognizers", "--json").stdout)
    }
    names = {entry["name"] for entry in json.loads(cli("generators", "--json").stdout)}
    assert {"samples", "silence", "noise", "reversed", "shuffled", "resample", "babble"} <= names
    why_not = {entry["metric"]: entry["why_not"] for entry in json.loads(cli("pairs", "--json").stdout)}
    assert {name: why for name, why in why_not.items() if why} == {"join_jump": "no prompt_seconds"}
    assert any(entry["what"] == "recognizer pocketsphinx" for entry in json.loads(cli("doctor", "--json").stdout))


def test_what_plugins_and_decoders_print_stays_out_of_the_json(cli, tmp_path, tone_set, monkeypatch):
    """A plugin's print in a worker, and libsndfile's own printf while it decodes, would break whoever parses stdout."""
    from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.store import Store
    from cdslm_eval.run import Request, Runner
    from cdslm_eval.run.executors.local import LocalExecutor

    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hostile_metrics\n"
        "if __name__ == '__main__':\n"
        f"    from {Runner.__module__} import Runner, Request\n"
        f"    from {LocalExecutor.__module__} import LocalExecutor\n"
        f"    from {SidecarRecognizer.__module__} import SidecarRecognizer\n"
        f"    from {Store.__module__} import Store\n"
        f"    from {ClipSet.__module__} import ClipSet\n"
        "    with Store(sys.argv[3]) as store:\n"
        "        runner = Runner(store, LocalExecutor(), SidecarRecognizer())\n"
        "        runner.run([Request(ClipSet.open(sys.argv[2]), (hostile_metrics.Chatty(),))])\n"
    )
    assert Request.__name__ == "Request"
    script = tmp_path / "s.py"
    script.write_text(code)
    folder = tone_set("t", 2)
    command = [sys.executable, str(script), str(TESTS), str(folder), str(tmp_path / "st")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "a plugin's print" in done.stderr
    assert "a library's printf" in done.stderr
    # a .sds whose data packets are damaged has libsndfile print "Error A : 00" on descriptor 1
    sf.write(tmp_path / "x.sds", np.zeros(4000), 8000, format="SDS", subtype="PCM_16")
    damaged = bytearray((tmp_path / "x.sds").read_bytes())
    damaged[21 + 127] ^= 0xFF
    (tmp_path / "x.sds").write_bytes(bytes(damaged))
    (tmp_path / "m.csv").write_text("path\nx.sds\n")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from cdslm_eval.core.audio import read_audio; read_audio(sys.argv[1])",
         str(tmp_path / "x.sds")], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""


@pytest.mark.parametrize(("number", "code", "how"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_an_ended_run_says_what_is_kept(tmp_path, tone_set, number, code, how):
    folder = tone_set("t", 300)
    environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "s.cdslm"), "CDSLM_EVAL_PLUGINS": ""}
    command = [sys.executable, "-m", "cdslm_eval", "score", str(folder), "-m", "signal", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--recognizer", "pocketsphinx"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "s.cdslm").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(getattr(signal, number))
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == code
    assert f"cdslm-eval: {how}; what was measured is kept, the same command continues from there" in stderr


@pytest.mark.parametrize(("words", "is_kept"), [(["--quiet", "score"], True), (["fit"], False), (["--help"], False)])
def test_only_commands_that_keep_their_work_say_so(monkeypatch, capsys, words, is_kept):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_module, "app", interrupted)
    # the handlers of this process stay
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["cdslm-eval", *words])
    with pytest.raises(SystemExit) as ended:
        cli_module.main()
    assert ended.value.code == 130
    stderr = capsys.readouterr().err
    assert stderr.startswith("cdslm-eval: interrupted")
    assert ("the same command continues" in stderr) == is_kept


def test_compare_of_sets_without_a_scored_clip_gives_the_reason_and_scores_exit_code(cli, tmp_path, tone_set):
    fine, broken = tone_set("fine", 3), tmp_path / "broken"
    broken.mkdir()
    for number in range(3):
        (broken / f"c{number:02d}.wav").write_text("not audio")
    done = cli("compare", fine, broken, "-m", "signal", "--recognizer", "sidecar", code=1)
    assert "broken, signal: none of 3 clips was scored (3 failed: not readable as audio" in done.stderr
    cli("score", broken, "-m", "signal", "--recognizer", "sidecar", code=1)
    cli("compare", fine, fine / "..", "-m", "signal", "--recognizer", "sidecar")


def test_one_reason_for_all_clips_is_printed_once_with_the_count(cli, tmp_path):
    (tmp_path / "b").mkdir()
    for number in range(5):
        (tmp_path / "b" / f"{number}.wav").write_text("not audio")
    done = cli("score", "b", "-m", "signal", "--recognizer", "sidecar", code=1)
    assert done.stdout.count("not readable as audio") == 1
    assert "b, signal: 5 clips failed" in done.stdout


def test_bench_measures_in_a_process_and_keeps_what_it_measured(cli, tmp_path):
    done = cli("bench", "-m", "channel", "--device", "cpu", "--seconds", "0", "--json")
    measured = json.loads(done.stdout)
    assert [rate["name"] for rate in measured["rates"]] == ["channel"]
    assert all(rate["clips_per_s"] > 0 and rate["memory_mb"] > 20 for rate in measured["rates"])
    (kept,) = json.loads((tmp_path / "rates.json").read_text()).values()
    assert {rate["name"] for rate in kept} == {rate["name"] for rate in measured["rates"]}
    assert "did you mean 'signal'" in cli("bench", "-m", "signall", code=2).stderr.lower()


def test_compare_is_printed_in_every_format_and_as_a_page(cli, tone_set, tmp_path):
    near, far = tone_set("ne_ar", 6, 1), tone_set("far", 6, 2)
    base = ("compare", near, far, "-m", "signal", "--recognizer", "sidecar")
    (comma, tab) = (list(csv.reader(io.StringIO(cli(*base, "--format", kind).stdout), delimiter=separator))
                    for kind, separator in (("csv", ","), ("tsv", "\t")))  # fmt: skip
    assert comma == tab
    names = [row[comma[0].index("name")] for row in comma[1:]]
    result = json.loads(cli(*base, "--format", "json", "--out", "page").stdout)
    assert [difference["name"] for difference in result["differences"]] == names
    page = (tmp_path / "page" / "index.html").read_text()
    assert all(f'<th scope="row">{name}</th>' in page for name in names)
    assert "@software{cdslm_eval" in page
    assert json.loads((tmp_path / "page" / "result.json").read_text()) == result
    latex = cli(*base, "--format", "latex").stdout
    assert r"\toprule" in latex
    assert r"ne\_ar - far" in latex
    assert r"\footnotesize signal@" in latex
    assert "one of table, json" in cli(*base, "--format", "xml", code=2).stderr


def test_a_result_says_how_to_quote_it(cli, tone_set, tmp_path):
    real, near = tone_set("real", 12), tone_set("near", 12, 1)
    base = ("score", near, "-r", real, "--recognizer", "sidecar", "-m", "pjsd")
    cli(*base, "--json", "r.json", "--out", "page")
    result = json.loads((tmp_path / "r.json").read_text())
    (sentence,) = result["quote"]["sentences"]
    (first, *_) = result["estimates"]
    assert sentence.startswith("near: pjsd_1 ")
    assert all(part in sentence for part in ("12 clips, 12 reference clips", first["identity"], "cdslm-eval 0."))
    assert "@article{lin1991divergence," in result["quote"]["bibtex"]
    page = (tmp_path / "page" / "index.html").read_text()
    assert "@article{lin1991divergence," in page
    from cdslm_eval import ScoreResult

    read = ScoreResult.load(tmp_path / "r.json")
    assert read.quote() == result["quote"]
    tsv = cli(*base, "--format", "tsv").stdout.splitlines()
    assert {line.count("\t") for line in tsv} == {tsv[0].count("\t")}
    cited = cli("cite", "pjsd", "sidecar")
    assert cited.stdout.count("\n@") == 2
    assert "sidecar declares no paper" in cited.stderr
