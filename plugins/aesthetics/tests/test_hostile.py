"""Checkpoints that are missing, wrong, damaged or hold code; a broken torchaudio; malformed audio, through the CLI."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from cdslm_eval_aesthetics import Aesthetics, AestheticsOptions

from cdslm_eval.core.errors import EvalError

SCALE = {axis: {"mean": 0.0, "std": 1.0} for axis in ("CE", "CU", "PC", "PQ")}


@pytest.fixture
def cli(tmp_path):
    """Return a function that runs the command line with one thread, without the hub's cache, network or proxies."""

    def run(*args, code=0, **more_environment):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hub"), **more_environment}
        command = [sys.executable, "-m", "cdslm_eval", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
        assert done.returncode == code, done.stderr
        return done

    return run


def used(model, **options):
    metric = Aesthetics(AestheticsOptions(model=str(model), **options))
    metric.fingerprint()
    with metric.open("cpu"):
        pass


def refusal(model, **options):
    with pytest.raises(EvalError) as caught:
        used(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickle_that_holds_code_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"state_dict": {}, "x": Payload(str(trap))}, tmp_path / "checkpoint.pt")
    assert "pickled objects beyond tensors" in refusal(tmp_path / "checkpoint.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Payload(str(trap))))
    assert "old.pt" in refusal(tmp_path / "old.pt")
    assert not trap.exists()


def test_missing_damaged_and_wrong_checkpoints_are_named(folder, pt_file, tmp_path):
    assert "no model.safetensors" in refusal(
        shutil.copytree(folder, tmp_path / "a", ignore=lambda *_: ["model.safetensors"])
    )
    half = shutil.copytree(folder, tmp_path / "half")
    (half / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    assert "not readable as safetensors" in refusal(half)
    (tmp_path / "half.pt").write_bytes(pt_file.read_bytes()[:5000])
    assert "half.pt: not readable" in refusal(tmp_path / "half.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    assert "state_dict, model_cfg, target_transform are wanted" in refusal(tmp_path / "other.pt")
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "config.json").write_text("{}")
    assert "target_transform" in refusal(bare)
    (bare / "config.json").write_text(json.dumps({"target_transform": SCALE}))
    assert "proj_layer" in refusal(bare)  # upstream's defaults, for which this file has other weights
    held = torch.load(pt_file, weights_only=True)
    del held["state_dict"]["model.layer_weights.CE"]
    torch.save(held, tmp_path / "lacking.pt")
    assert "layer_weights.CE" in refusal(tmp_path / "lacking.pt")
    assert "no such folder" in refusal(tmp_path / "nowhere")


def test_a_wrong_digest_stops_it(folder):
    metric = Aesthetics(AestheticsOptions(model=str(folder)))
    right = metric.fingerprint()["weights"]
    assert Aesthetics(AestheticsOptions(model=str(folder), sha256=right.upper())).fingerprint()["weights"] == right
    assert f"sha256={'0' * 64} was required" in refusal(folder, sha256="0" * 64)


def test_without_a_network_the_wanted_files_are_named(cli, tone_set):
    """The other metric is measured all the same; exit code 1, as a requested metric was not."""
    folder = tone_set("t", 2)
    done = cli("score", folder, "-m", "aesthetics,signal", "--json", "-", code=1, HF_ENDPOINT="http://127.0.0.1:9")
    assert "Use: download config.json, model.safetensors where there is a network" in done.stderr
    assert "Traceback" not in done.stderr
    scored = {entry["metric"]: entry["n_scored"] for entry in json.loads(done.stdout)["estimates"]}
    assert scored == {"aesthetics": 0, "signal": 2}


def test_a_broken_torchaudio_breaks_nothing(cli, tone_set, folder, tmp_path):
    broken = tmp_path / "broken" / "torchaudio"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('undefined symbol: _ZN3c10')")
    path = os.pathsep.join([str(broken.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = cli("score", tone_set("t", 2), "-m", f"aesthetics:{folder}", "--json", "-", PYTHONPATH=path)
    estimates = json.loads(done.stdout)["estimates"]
    assert [estimate["n_scored"] for estimate in estimates] == [2, 2, 2, 2]


def test_every_odd_file_has_a_status(cli, shared_data, folder):
    done = cli("score", shared_data / "odd", "-m", f"aesthetics:{folder}", "--json", "-", "--fail-budget", "0.9")
    result = json.loads(done.stdout)
    count = result["estimates"][0]
    clips = result["settings"]["sets"]["odd"]["clips"]
    assert count["n_scored"] + count["n_failed"] + count["n_skipped"] == clips
    assert count["n_scored"] > 20
    assert len(result["failures"]) == count["n_failed"] + count["n_skipped"]
    assert all(one["reason"] for one in result["failures"])
    assert "CC-BY-4.0" in done.stderr
