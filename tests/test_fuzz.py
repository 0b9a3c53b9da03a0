"""A short fuzz of every reader, and every input that once broke one."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.parametrize("path", sorted(fuzz.CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_stays_fixed(path):
    assert fuzz.attempt(path.name.partition("-")[0], path.read_bytes()) == ""


def test_mutated_inputs_are_read_or_refused_in_a_sentence():
    finds = fuzz.fuzz(seed=1, rounds=12)
    assert {name: trace for name, (_, trace) in finds.items()} == {}


def test_a_reader_that_breaks_is_found(monkeypatch):
    def breaks(path):
        return path.read_bytes().decode("ascii")

    monkeypatch.setattr(fuzz, "TARGETS", {"name": breaks})
    finds = fuzz.fuzz(seed=0, rounds=5)
    assert finds
    assert all("UnicodeDecodeError" in trace for _, trace in finds.values())
