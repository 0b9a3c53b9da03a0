"""Phone error rates agree with another implementation, and the command prints them."""

from __future__ import annotations

import json
import math
import sys

import jiwer
import numpy as np
import pytest
import soundfile as sf
from cdslm_eval_phones import cli
from cdslm_eval_phones.per import PhoneErrors, phone_errors, reference_phones, text_phones, try_recognizer
from cdslm_eval_phones.recognizer import PhoneCtc

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError


@pytest.mark.parametrize("seed", range(10))
def test_counts_agree_with_jiwer(seed):
    rng = np.random.default_rng(seed)
    reference, other = (rng.choice(list("abcd"), rng.integers(1, 30)).tolist() for _ in range(2))
    errors = phone_errors(reference, other)
    assert errors.rate == pytest.approx(jiwer.wer(" ".join(reference), " ".join(other)))
    assert len(other) == errors.phones - errors.deletions + errors.insertions


def test_texts_become_the_phones_of_the_dictionary_and_others_those_of_espeak():
    assert text_phones(["The cat, zyzzik!"]) == ["DH AH K AE T Z IH Z IH K".split()]  # noqa: SIM905
    assert "ç" in text_phones(["ich"], "de")[0]


def test_phones_of_the_set_come_before_its_text(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(800), 16_000)
    (tmp_path / "a.phones").write_text("t͡ʃ AH0")
    (tmp_path / "a.txt").write_text("cat")
    assert reference_phones(ClipSet.open(tmp_path).sources) == [["CH", "AH"]]


def test_a_set_without_text_is_refused(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(800), 16_000)
    with pytest.raises(UsageError, match="no clip has a text or phones"):
        try_recognizer(ClipSet.open(tmp_path), PhoneCtc())


def test_no_reference_phone_is_no_rate():
    assert math.isnan(PhoneErrors().rate)


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    sf.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    (tmp_path / "a.txt").write_text("cat")
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["cdslm-phones", "per", str(tmp_path), "--json", str(out)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    assert "phone-ctc" in capsys.readouterr().out
    (row,) = json.loads(out.read_text())
    assert (row["deletions"], row["phones"], row["per"]) == (3, 3, 1.0)


def test_a_wrong_name_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cdslm-phones", "per", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "no such file or directory" in capsys.readouterr().err
