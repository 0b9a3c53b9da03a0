"""The default recognizer is the best that is usable here, and a fallback is announced with its sensitivity."""

from __future__ import annotations

import json

import numpy as np
import pytest

import cdslm_eval
from cdslm_eval.builtin.metrics.pjsd import PJSD
from cdslm_eval.builtin.metrics.signal import Signal
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.defaults import RECOGNIZER, RECOGNIZERS
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Component, Metric
from cdslm_eval.plugin.host import PIN, Host
from cdslm_eval.plugin.recognition import cautions, default_recognizer


class Level(Metric):
    """A metric that reads no phones."""

    name = "level"

    def measure(self, clips):
        return iter({"level": 0.0} for _ in clips)


@pytest.fixture
def bare(monkeypatch):
    """Return the host of an environment without plugins."""
    monkeypatch.setenv(PIN, "")
    return Host()


def test_the_neural_recognizer_is_the_default_where_its_plugin_is_installed():
    pytest.importorskip("cdslm_eval_phones")
    host = Host()
    made = host.make("recognizer", RECOGNIZER)
    assert made.name == default_recognizer(host) == RECOGNIZERS[0] == "phone-ctc"
    assert cautions(host, RECOGNIZER, made, [PJSD()]) == []


def test_without_its_plugin_the_fallback_announces_its_sensitivity(bare):
    made = bare.make("recognizer", RECOGNIZER)
    (sentence,) = cautions(bare, RECOGNIZER, made, [Signal(), PJSD()])
    assert made.name == "pocketsphinx"
    assert "fallback" in sentence
    assert "pip install ./plugins/phones" in sentence
    assert ".055" in sentence
    (named,) = cautions(bare, "pocketsphinx", made, [PJSD()])
    assert ".055" in named
    assert "fallback" not in named
    assert cautions(bare, RECOGNIZER, made, [Level()]) == []


def test_a_plugin_whose_runtime_is_missing_is_passed_over(monkeypatch):
    pytest.importorskip("cdslm_eval_phones")
    from cdslm_eval_phones.recognizer import PhoneCtc

    monkeypatch.setattr(PhoneCtc, "requires", {"no_such_runtime": "no-such-runtime>=1"})
    host = Host()
    made = host.make("recognizer", RECOGNIZER)
    assert made.name == "pocketsphinx"
    assert "no-such-runtime" in cautions(host, RECOGNIZER, made, [PJSD()])[0]
    assert issubclass(PhoneCtc, Component)


def test_a_set_in_another_language_is_reported_once(tmp_path):
    languages = ["de", "pt-BR", "en_GB", "EN", ""]
    lines = "".join(f"{number}.wav\t{language}\n" for number, language in enumerate(languages))
    (tmp_path / "set.tsv").write_text(f"path\tlanguage\n{lines}")
    clips, host = ClipSet.open(tmp_path / "set.tsv"), Host()
    sphinx = host.make("recognizer", "pocketsphinx")
    sentences = cautions(host, "pocketsphinx", sphinx, [PJSD()], [clips, clips[3:]])
    (foreign,) = [sentence for sentence in sentences if "2 of 5 clips are in de, pt" in sentence]
    assert "made for en" in foreign
    assert "wav2vec2" in foreign
    assert cautions(host, "sidecar", host.make("recognizer", "sidecar"), [PJSD()], [clips]) == []
    (tmp_path / "set.tsv").write_text("path\tlang\na.wav\tde\n")
    with pytest.raises(UsageError, match="Did you mean 'language'"):
        ClipSet.open(tmp_path / "set.tsv")


def test_results_record_the_recognizer_that_was_used_and_carry_the_note(bare, tmp_path):
    rng = np.random.default_rng(0)
    sets = {"noise": [(rng.normal(0, 0.1, 8000).astype(np.float32), 16_000) for _ in range(3)]}
    notes: list[str] = []
    result = cdslm_eval.score(sets, sets["noise"], "pjsd", store=tmp_path / "rows.cdslm", jobs=1, note=notes.append)
    assert result.settings["recognizer"] == "pocketsphinx"
    assert any("fallback" in warning for warning in json.loads(json.dumps(result.as_json()))["warnings"])
    assert any("fallback" in sentence for sentence in notes)
