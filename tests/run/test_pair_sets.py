"""Pairs as sets are released, and manifests whose bad lines are named."""

from __future__ import annotations

import json

import pytest

from cdslm_eval import UsageError
from cdslm_eval.run.pair_sets import PairSource, open_pairs


@pytest.fixture
def folder(tmp_path):
    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def names(pairs: list[PairSource]) -> list[tuple[str, ...]]:
    return [(pair.better.key, pair.worse.key, pair.family, pair.kind) for pair in pairs]


def test_manifests_of_every_format_are_read(folder):
    path = folder("a/x.wav", "a/y.flac", "a/z.wav")
    (path / "pairs.csv").write_text(
        "better,worse,family,kind,prefix_seconds\na/x.wav,a/y.flac,f,swap,1.5\na/x.wav,a/z.wav,,,\n"
    )
    first, second = open_pairs(path)
    assert (first.better.path, first.worse.path) == (str(path / "a/x.wav"), str(path / "a/y.flac"))
    assert (first.family, first.kind, first.context_s) == ("f", "swap", 1.5)
    # without a family each pair is its own
    assert (second.family, second.kind, second.context_s) == ("line 3", "", 0.0)
    (path / "more.jsonl").write_text(json.dumps({"better": "a/x.wav", "worse": "a/z.wav", "prefix_seconds": 2}))
    assert [pair.context_s for pair in open_pairs(path / "more.jsonl")] == [2.0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("better,worse\na.wav,gone.wav", r"pairs.csv, line 2: 'worse': there is no file .*gone.wav"),
        ("better,worse\na.wav,b.wav\na.wav,a.wav", r"line 3: 'better' and 'worse' are one file"),
        ("better,worse\n,b.wav", r"line 2: no 'better'. It names an audio file"),
        ("better,worse,prefix\na.wav,b.wav,1", r"line 2: the column 'prefix' is not read"),
        (
            "better,worse,prefix_seconds\na.wav,b.wav,-1",
            r"line 2: 'prefix_seconds' must be 0 or more seconds, not '-1'",
        ),
        ("better,worse,prefix_seconds\na.wav,b.wav,nan", r"line 2: 'prefix_seconds' must be 0 or more seconds"),
        ("better,worse", r"no pair in it"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(folder, lines, message):
    path = folder("a.wav", "b.wav")
    (path / "pairs.csv").write_text(lines + "\n")
    with pytest.raises(UsageError, match=message):
        open_pairs(path / "pairs.csv")


def test_sblimp_pairs_sentences_of_one_id_and_voice(folder):
    path = folder(*(f"syntactic/dev/{name}.wav" for name in "abcd"))
    gold = path / "syntactic/dev/gold.csv"
    rows = ["id,filename,voice,type,subtype,correct,transcription"]
    rows += ["7,b,v1,agreement,s,0,x", "7,a,v1,agreement,s,1,x", "7,c,v2,agreement,s,1,x", "7,d,v2,agreement,s,0,x"]
    gold.write_text("\n".join(rows))
    # pairs of two voices are of one sentence, and one family
    expected = [("a", "b", "agreement s 7", "agreement"), ("c", "d", "agreement s 7", "agreement")]
    assert names(open_pairs(path / "syntactic")) == expected
    assert names(open_pairs(path / "syntactic/dev", "sblimp")) == expected
    gold.write_text("\n".join(rows[:-1]))
    with pytest.raises(UsageError, match=r"line 4: id '7', voice 'v2' has 1 correct and 0 incorrect"):
        open_pairs(path / "syntactic")
    gold.write_text("\n".join([*rows, "8,e,v1,agreement,s,1,x"]))
    with pytest.raises(UsageError, match=r"line 6: there is no audio file 'e'"):
        open_pairs(path / "syntactic")


def test_salmon_and_story_cloze_pair_by_their_numbers(folder):
    path = folder(
        "salmon/gender_consistency/sample_10_a.wav",
        "salmon/gender_consistency/sample_10_b.wav",
        "salmon/gender_consistency/sample_2.wav",
        "salmon/gender_consistency/sample_2_other.wav",
        "tsc/0_right.wav",
        "tsc/1_wrong.wav",
        "tsc/11_wrong.wav",
        "tsc/10_right.wav",
    )
    assert names(open_pairs(path / "salmon")) == [
        ("sample_2", "sample_2_other", "gender_consistency 2", "gender_consistency"),
        ("sample_10_a", "sample_10_b", "gender_consistency 10", "gender_consistency"),
    ]
    assert names(open_pairs(path / "tsc")) == [
        ("0_right", "1_wrong", "tsc 0", "tsc"),
        ("10_right", "11_wrong", "tsc 5", "tsc"),
    ]
    folder("tsc/12_right.wav", "salmon/gender_consistency/sample_3.wav")
    with pytest.raises(UsageError, match="number 13, is missing"):
        open_pairs(path / "tsc")
    with pytest.raises(UsageError, match="sample 3 has 1 files"):
        open_pairs(path / "salmon")


def test_what_is_no_set_of_pairs_is_refused(folder):
    path = folder("speech/clip.wav")
    with pytest.raises(UsageError, match=r"no pairs.csv, no gold.csv \(sBLIMP\)"):
        open_pairs(path / "speech")
    with pytest.raises(UsageError, match="no such file"):
        open_pairs(path / "gone")
    with pytest.raises(UsageError, match="no layout 'blimp' of pairs"):
        open_pairs(path, "blimp")
