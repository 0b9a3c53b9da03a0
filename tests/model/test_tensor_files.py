"""Checkpoint files: what safetensors reads is what was written, and the digest is that of the file."""

from __future__ import annotations

import hashlib

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from safetensors.torch import load_file, save_file  # noqa: E402 - torch may be absent

from cdslm_model.tensor_files import save_tensors  # noqa: E402


def test_the_file_is_that_of_safetensors_and_its_digest_needs_no_second_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("cdslm_model.tensor_files._BLOCK", 7)
    tensors = {
        "b.weight": torch.randn(3, 5),
        "half": torch.randn(2, 2).bfloat16(),
        "count": torch.arange(3),
        "größe": torch.tensor(2.0),
        "empty": torch.empty(0, 4),
        "turned": torch.randn(4, 3).T,
    }
    digest = save_tensors(tmp_path / "own", tensors)
    content = (tmp_path / "own").read_bytes()
    assert digest == hashlib.sha256(content).hexdigest()
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "theirs")
    assert content == (tmp_path / "theirs").read_bytes()
    assert all(torch.equal(value, tensors[name]) for name, value in load_file(tmp_path / "own").items())
