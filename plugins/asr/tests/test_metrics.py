"""Error rates by hand, perplexity against a token at a time, the contract, and all of it through the command line."""

from __future__ import annotations

import json
import sqlite3
import unicodedata

import numpy as np
import pytest
import torch
import transformers
from cdslm_eval_asr import AsrPhonemes, AutoBleu, Cer, GenPpl, VertMetric, Wer
from cdslm_eval_asr.perplexity import GenPplOptions
from cdslm_eval_asr.text import NormalizerOptions

from cdslm_eval.builtin.recognizers.phonemize import phonemize
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.plugin.host import Host, transcriber_for
from cdslm_eval.testing import METRIC_CHECKS, RECOGNIZER_CHECKS

NOTHING = np.zeros(0, np.float32)


def clip_with(transcript, text=None, reference=None, language=None):
    paired = None if reference is None else Clip(key="r", samples=NOTHING, rate_hz=1, text=reference)
    return Clip(
        key="k", samples=NOTHING, rate_hz=1, transcript=transcript, text=text, reference=paired, language=language
    )


def test_errors_by_hand():
    clips = [
        clip_with("The cat, sat!", "the cat sat on"),  # one deletion of 4 words
        clip_with("Mr. Smith can't sit sit", "mister smith can not sit"),  # one insertion
        clip_with("", "two words"),  # both are missing
        clip_with("yes", reference="no"),  # the paired clip's text stands in for one's own
        clip_with("what", None),
        clip_with("what", "(laughs)"),
    ]
    rows = list(Wer().measure(clips))
    assert [(row["errors"], row["words"]) for row in rows[:4]] == [(1, 4), (1, 5), (2, 2), (1, 1)]
    assert [row.reason for row in rows[4:]] == ["no text beside the clip", "the text beside the clip says nothing"]
    (characters,) = Cer().measure([clip_with("cart", "cat")])
    assert (characters["errors"], characters["characters"]) == (1, 3)
    plain = Wer(NormalizerOptions(normalizer="none"))
    assert [row["errors"] for row in plain.measure(clips[:1])] == [4]  # The, cat, sat! and no on


def test_vowel_signs_are_read_and_scripts_without_spaces_go_to_cer():
    """The English table drops combining marks: 4 Hindi words with all vowel signs lost had 3 errors of "6" words."""
    hindi = "मेरा नाम राम है"
    bare = "".join(character for character in hindi if not unicodedata.category(character).startswith("M"))
    same, lost = Wer().measure([clip_with(hindi, hindi + "।"), clip_with(bare, hindi)])
    assert (same["errors"], same["words"]) == (0, 4)
    assert (lost["errors"], lost["words"]) == (4, 4)
    thai = "ฉันไปบ้าน"
    marks = sum(unicodedata.category(character) == "Mn" for character in thai)
    clip = clip_with("".join(character for character in thai if unicodedata.category(character) != "Mn"), thai)
    assert list(Wer().measure([clip])) == [Skipped("words are not spaced in Thai text; use: cer")]
    (row,) = Cer().measure([clip])
    assert (row["errors"], row["characters"]) == (marks, len(thai))
    (japanese,) = Cer().measure([clip_with("カラス", "ガラス")])
    assert (japanese["errors"], japanese["characters"]) == (1, 3)


def test_a_text_of_another_language_is_not_normalised_as_english():
    """ "um" is a filler in English only: its loss in "um acht Uhr" is an error."""
    texts = ("acht Uhr", "um acht Uhr")
    german, english, unknown = Wer().measure([clip_with(*texts, language=code) for code in ("de-CH", "en", None)])
    assert (german["errors"], german["words"]) == (1, 3)
    assert (english["errors"], english["words"]) == (unknown["errors"], unknown["words"]) == (0, 2)


def test_the_english_normaliser_is_refused_for_another_language():
    host = Host()
    with pytest.raises(UsageError, match=r"whisper transcribes 'de'. Use: wer:normalizer=basic"):
        transcriber_for([Wer()], host, "whisper:language=de")
    assert transcriber_for([Wer(NormalizerOptions(normalizer="basic"))], host, "whisper:language=de") is not None
    assert transcriber_for([Wer(), AutoBleu()], host, "whisper:language=de,task=translate") is not None


def one_by_one(folder, text):
    """Negative log-likelihood of a text that fits the context, a token at a time."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
    nll = 0.0
    for at in range(1, len(ids)):
        with torch.inference_mode():
            logits = model(torch.tensor([ids[:at]])).logits[0, -1].double()
        nll -= float(torch.log_softmax(logits, -1)[ids[at]])
    return nll, len(ids) - 1


def perplexities(folder, texts):
    metric = GenPpl(GenPplOptions(model=str(folder)))
    with metric.open("cpu"):
        return list(metric.measure([clip_with(text) for text in texts]))


def test_perplexity_is_that_of_a_token_at_a_time(lm):
    texts = ["the boat came in late", "seven birds", "", "nobody asked the old man why he had painted every door"]
    rows = perplexities(lm, texts)
    assert rows[2] == Skipped("nothing was said")
    for text, row in zip(texts, rows, strict=True):
        if text:
            nll, tokens = one_by_one(lm, text)
            assert row["nll"] == pytest.approx(nll, rel=1e-4)
            assert (row["tokens"], row["words"]) == (tokens, len(text.split()))


def test_a_text_beyond_the_context_is_scored_token_by_token_with_half_of_it_in_view(lm):
    words = [["seven", "birds", "in", "the", "rain", "asked", "why"][at % 7] for at in range(130)]
    (row,) = perplexities(lm, [" ".join(words)])
    model = transformers.AutoModelForCausalLM.from_pretrained(lm).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(lm)
    ids, context = [tokenizer.bos_token_id, *tokenizer(" ".join(words))["input_ids"]], 48
    nll = 0.0
    for at in range(1, len(ids)):
        # windows of 48 move on by 24: a token sees everything back to the start of the window it is scored in
        start = 0 if at < context else (at - context) // 24 * 24 + 24
        with torch.inference_mode():
            logits = model(torch.tensor([ids[start:at]])).logits[0, -1].double()
        nll -= float(torch.log_softmax(logits, -1)[ids[at]])
    assert row["tokens"] == 130
    assert row["nll"] == pytest.approx(nll, rel=1e-4)


def test_phones_of_transcripts_are_the_phonemizers():
    message = list(AsrPhonemes().recognize([clip_with("the boat"), clip_with(""), clip_with(None), clip_with("rain")]))
    assert message == [phonemize(["the boat"])[0], [], Skipped("no transcript"), phonemize(["rain"])[0]]


@pytest.mark.parametrize("metric", [Wer, Cer, VertMetric, AutoBleu], ids=lambda metric: metric.name)
@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract(check, metric):
    check(metric)


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=str)
def test_the_contract_of_perplexity(check, lm):
    check(GenPpl(GenPplOptions(model=str(lm))))


@pytest.mark.parametrize("check", RECOGNIZER_CHECKS, ids=str)
def test_the_contract_of_phones(check):
    check(AsrPhonemes)


def test_one_transcription_of_each_clip_serves_every_metric(cli, tone_set, whisper, lm, tmp_path):
    folder, real = tone_set("made", 3), tone_set("real", 3, rng_seed=1)
    (folder / "c00.txt").write_text("Seven birds.")
    metrics = f"wer,cer,vert,auto_bleu,gen_ppl:{lm},pjsd"
    how = ("-r", real, "--transcriber", f"whisper:{whisper}", "--recognizer", "asr-phonemes", "-j", 1, "--json", "-")
    done = cli("score", folder, "-m", metrics, *how)
    estimates = {entry["name"]: entry for entry in json.loads(done.stdout)["estimates"]}
    assert {"wer", "cer", "vert", "self_bleu", "auto_bleu", "gen_ppl", "gen_ppl_word", "pjsd_1"} <= set(estimates)
    assert estimates["wer"]["n_scored"] == 1
    assert estimates["vert"]["n_scored"] == 3
    assert estimates["gen_ppl"]["value"] > 1
    with sqlite3.connect(tmp_path / "store") as store:
        count = store.execute("SELECT count(*) FROM rows WHERE identity LIKE 'whisper@1#%'").fetchone()[0]
        words = store.execute("SELECT count(DISTINCT identity) FROM rows WHERE identity LIKE 'words@2%'").fetchone()[0]
    assert (count, words) == (6, 1)
    assert "note: whisper uses" in done.stderr


def test_every_odd_file_has_a_status_under_every_metric(cli, shared_data, whisper, lm):
    metrics = ["wer", "cer", "vert", "auto_bleu", f"gen_ppl:{lm}"]
    done = cli(
        "score", shared_data / "odd", "-m", ",".join(metrics), "--transcriber", f"whisper:{whisper}", "--json", "-",
        "--fail-budget", 0.9, code=1,
    )  # fmt: skip
    result = json.loads(done.stdout)
    clips = result["settings"]["sets"]["odd"]["clips"]
    for one in result["estimates"]:
        assert one["n_scored"] + one["n_failed"] + one["n_skipped"] == clips, one["name"]
    assert all(one["reason"] for one in result["failures"])
    assert {one["name"]: one["n_scored"] > 20 for one in result["estimates"]}["vert"]
    # none of these files has a text beside it, so that nothing was measured for the error rates alone
    over = [line for line in done.stderr.splitlines() if line.startswith("over the failure budget")]
    assert [line.split(",")[1].split(":")[0].strip() for line in over] == ["wer", "cer"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("whisper:model=/nowhere", "/nowhere: no such folder"),
        ("whisper:model={empty}", "no config.json, no model.safetensors or model.safetensors.index.json"),
        ("whisper:model={pickled}", "pytorch_model.bin is pickled and is not loaded"),
        ("whisper:model={whisper},sha256=00", "sha256=00 was required"),
        ("whisper:model={lm}", "whisper"),
        ("whisper", "download config.json, model.safetensors"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_one_sentence(cli, tone_set, whisper, lm, tmp_path, spec, message):
    (empty := tmp_path / "empty").mkdir()
    (pickled := tmp_path / "pickled").mkdir()
    for name in ("config.json", "pytorch_model.bin", "vocab.json", "preprocessor_config.json"):
        (pickled / name).write_text("{}")
    spec = spec.format(empty=empty, pickled=pickled, whisper=whisper, lm=lm)
    done = cli("score", tone_set("t", 2), "-m", "vert,signal", "--transcriber", spec, "--json", "-", code=1,
               HF_ENDPOINT="http://127.0.0.1:9")  # fmt: skip
    scored = {entry["metric"]: entry["n_scored"] for entry in json.loads(done.stdout)["estimates"]}
    assert scored == {"vert": 0, "signal": 2}
    reasons = {entry["reason"] for entry in json.loads(done.stdout)["failures"]}
    assert len(reasons) == 1
    assert message in reasons.pop()
    assert "Traceback" not in done.stderr


def test_a_metric_that_reads_transcripts_says_which_transcriber_is_unknown(cli, tone_set):
    done = cli("score", tone_set("t", 2), "-m", "vert", "--transcriber", "wisper", code=2)
    assert "Did you mean 'whisper'?" in done.stderr
