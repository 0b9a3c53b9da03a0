"""fad, kad and diversity through the real command line: score, compare, report, and embeddings that are shared."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

RATE_HZ = 16_000


@pytest.fixture
def cli(tmp_path):
    def call(*arguments, code=0):
        environment = {
            **os.environ,
            "CDSLM_EVAL_STORE": str(tmp_path / "store.cdslm"),
            "CDSLM_EVAL_PLUGINS": "cdslm-eval-embeddings",
        }
        done = subprocess.run(
            [sys.executable, "-m", "cdslm_eval", *map(str, arguments)],
            env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture
def sets(tmp_path):
    """Write a reference, a set of its kind, a muffled one, and one that copies the reference a little softer."""
    rng = np.random.default_rng(0)

    def clip(muffle: float):
        # coloured noise in bursts: a crude voice, each clip with a colour and a rhythm of its own
        noise = rng.standard_normal(RATE_HZ)
        taps = np.exp(-np.arange(32) * rng.uniform(0.3, 0.9) / muffle)
        burst = np.repeat(rng.uniform(0.05, 1, 20), RATE_HZ // 20)
        wave = np.convolve(noise, taps, "same") * burst
        return (0.3 * wave / np.abs(wave).max()).astype(np.float32)

    made = {"real": [clip(1) for _ in range(30)], "near": [clip(1) for _ in range(20)]}
    made["far"] = [clip(4) for _ in range(20)]
    made["thief"] = [0.5 * estimate for estimate in made["real"][:3]] + [clip(1) for _ in range(17)] + made["real"][5:6]
    for name, clips in made.items():
        (tmp_path / name).mkdir()
        for number, samples in enumerate(clips):
            sf.write(tmp_path / name / f"c{number:02d}.wav", samples, RATE_HZ, subtype="FLOAT")
    return made


def test_score_shares_embeddings_ranks_flags_copies_and_reports(cli, sets, tmp_path):
    done = cli(
        "score", "near", "far", "thief", "-r", "real", "-m", "fad,kad,diversity", "--json", "r.json", "--out", "page"
    )
    result = json.loads((tmp_path / "r.json").read_text())
    value = {(estimate["system"], estimate["name"]): estimate for estimate in result["estimates"]}
    for name in ("fad", "kad"):
        near, far = value["near", name], value["far", name]
        assert near["corrected"] < far["corrected"]
        if name == "kad":  # the Fréchet distance of so few clips is biased: no interval would be one of the truth
            assert near["corrected_high"] < far["corrected_low"]
            assert near["low"] <= near["value"] <= near["high"]
        else:
            assert near["low"] is near["corrected_low"] is None
        assert near["floor_clips"] == 15  # half of the reference
        assert near["n_reference"] == 30
        assert done.stdout.index("near", done.stdout.index(f"{name} ↓")) < done.stdout.index(
            "far", done.stdout.index(f"{name} ↓")
        )
    assert value["near", "fad"]["trust"] == "rank_deficient"
    assert "rank 19 in 64 dimensions (20 clips)" in done.stdout
    assert value["far", "diversity"]["value"] < value["far", "diversity"]["floor"]
    assert value["near", "diversity"]["floor"] == value["far", "diversity"]["floor"]

    (warning,) = [estimate for estimate in result["warnings"] if "memorised" in estimate]
    assert warning.startswith("thief: 1 clips are clips of the reference and 3 all but copy one (c20 of c05")
    page = (tmp_path / "page" / "index.html").read_text()
    # the card of a copy plays the reference clip that it copies
    assert "reference, c05.wav" in page
    assert "real against real" in page

    database = sqlite3.connect(tmp_path / "store.cdslm")
    assert database.execute("SELECT count(DISTINCT identity), count(*) FROM rows").fetchone() == (
        1,
        90,
    )  # one of 91 clips twice
    database.close()
    assert "91/91 clips" in done.stderr
    again = cli("score", "near", "-r", "real", "-m", "kad", "--json", "again.json")
    assert "clips/s" not in again.stderr
    estimate = json.loads((tmp_path / "again.json").read_text())["estimates"][0]
    assert estimate == value["near", "kad"]  # whatever else was in the run


def test_compare_says_which_system_is_nearer_and_sees_none_in_itself(cli, sets, tmp_path):
    cli("compare", "near", "far", "-r", "real", "-m", "fad,kad,diversity", "--json", "c.json")
    differences = {entry["name"]: entry for entry in json.loads((tmp_path / "c.json").read_text())["differences"]}
    for name in ("fad", "kad"):
        assert differences[name]["high"] < 0
        assert differences[name]["p_holm"] < 0.01
        assert differences[name]["quantity"] == "corrected"
        assert differences[name]["difference"] == pytest.approx(differences[name]["a"] - differences[name]["b"])
        assert 0 < differences[name]["detectable"] < math.inf
    assert differences["diversity"]["quantity"] == "value"
    cli("compare", "near", "near", "-r", "real", "-m", "fad,kad", "--json", "c.json", code=2)
    shutil.copytree(tmp_path / "near", tmp_path / "same")
    cli("compare", "near", "same", "-r", "real", "-m", "fad,kad", "--json", "c.json")
    for entry in json.loads((tmp_path / "c.json").read_text())["differences"]:
        assert entry["difference"] == 0
        assert entry["p_value"] == 1


def test_one_clip_has_no_distance_but_a_reason(cli, sets, tmp_path):
    (tmp_path / "lone").mkdir()
    sf.write(tmp_path / "lone" / "a.wav", sets["near"][0], RATE_HZ)
    cli("score", "lone", "-r", "real", "-m", "fad,kad,diversity", "--json", "r.json")
    for entry in json.loads((tmp_path / "r.json").read_text())["estimates"]:
        assert entry["value"] is None
        assert entry["reason"]


def test_what_cannot_be_loaded_is_said_in_one_sentence(cli, sets):
    done = cli("score", "near", "-r", "real", "-m", "kad,fad:wavlm,model=/nowhere/at-all", "--json", "-", code=1)
    result = json.loads(done.stdout)
    value = {estimate["name"]: estimate for estimate in result["estimates"]}
    assert "/nowhere/at-all: no such folder" in value["fad"]["reason"]
    assert value["fad"]["value"] is None
    assert math.isfinite(value["kad"]["value"])  # the other metric is measured all the same
    assert "over the failure budget: near, fad" in done.stderr
    done = cli("score", "near", "-r", "real", "-m", "fad:encoder=wavml", code=2)
    assert "encoder" in done.stderr
