"""Folders as archives and other systems leave them: each clip once, with its sidecars, and no file that is no clip."""

from __future__ import annotations

import logging
import os
import unicodedata

import pytest

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError


def test_files_that_macos_adds_are_left_out_with_a_note(tmp_path, caplog):
    """An unpacked zip held `._a.wav` and `__MACOSX/._a.wav`: two of three clips failed."""
    for name in ("a.wav", "._a.wav", "__MACOSX/._a.wav", "__MACOSX/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert [source.key for source in ClipSet.open(tmp_path).sources] == ["a"]
    assert "3 files that macOS adds to archives" in caplog.text


def test_links_to_folders_are_followed_once(tmp_path):
    clips = tmp_path / "set"
    for folder in ("set/own", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.wav").touch()
    (tmp_path / "elsewhere" / "loop").symlink_to(clips)
    (clips / "again").symlink_to(clips / "own")  # sorts before the folder itself, which is what counts
    (clips / "linked").symlink_to(tmp_path / "elsewhere")
    (clips / "twice").symlink_to(tmp_path / "elsewhere")
    assert [source.key for source in ClipSet.open(clips).sources] == ["linked/a", "own/a"]


def test_a_decomposed_name_finds_its_composed_sidecar(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    (tmp_path / f"{decomposed}.wav").touch()
    (tmp_path / f"{composed}.txt").write_text("hello")
    (tmp_path / f"{composed}.phones").write_text("h e")
    (source,) = ClipSet.open(tmp_path).sources
    assert (source.key, source.text, source.phones) == (composed, "hello", ("h", "e"))
    assert source.path.endswith(f"{decomposed}.wav")


def test_a_dangling_link_is_a_clip_that_does_not_vanish(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "absent.wav")
    assert [source.key for source in ClipSet.open(tmp_path).sources] == ["a"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    """os.walk passes over it, and its clips would be missing from every count."""
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.wav").touch()
    listing = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match="shut: the folder cannot be listed: Permission denied"):
        ClipSet.open(tmp_path)
