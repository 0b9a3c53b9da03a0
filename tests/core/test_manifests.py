"""Manifests as users write them: each mistake is an error with its line, none a set with fewer clips or cut texts."""

from __future__ import annotations

import pytest

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.records import parse_quantity, read_records
from cdslm_eval.scaling.table import RunTable


def test_a_quotation_mark_in_a_tsv_is_text(tmp_path):
    """pytorch/audio#2838: `'"Tis the season'` used to swallow the rows below it."""
    (tmp_path / "q.tsv").write_text('path\ttext\na.wav\t"Tis the season\nb.wav\tbye\nc.wav\tciao\n')
    sources = ClipSet.open(tmp_path / "q.tsv").sources
    assert [source.text for source in sources] == ['"Tis the season', "bye", "ciao"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", 'path,text\na.wav,fine\nb.wav,"open\nc.wav,x\n', "line 3: not a table"),
        ("m.csv", "path,text\na.wav,hello, world\n", "line 2: 3 fields where the header names 2"),
        ("m.csv", "path,text\na.wav\n", "line 2: 1 fields where the header names 2"),
        ("m.csv", "path,text,text\na.wav,x,y\n", "the column 'text' occurs twice"),
        ("m.csv", "path,Text\na.wav,x\n", "the column 'Text' is not read. Did you mean 'text'"),
        ("m.csv", "path,transcript\na.wav,x\n", "the column 'transcript' is not read. Did you mean 'text'"),
        ("m.csv", "path,referense\na.wav,x\n", "Did you mean 'reference'"),
        ("m.csv", "path,spkr,mood\na.wav,x,y\n", "line 2: the column 'spkr' is not read. Did you mean 'speaker'"),
        ("m.csv", "path,mood,age\na.wav,x,y\n", "not read. If that is meant: --ignore-columns mood,age"),
        ("m.csv", "path,text,words\na.wav,x,y\n", "not read. If that is meant: --ignore-columns words"),
        ("m.jsonl", '{"path": "a.wav"}\n{"path": "b.wav", "mood": 1}\n', "line 2: the column 'mood' is not read"),
        ("m.jsonl", '{"path": "a.wav", "text": "x", "text": "y"}\n', "line 1: not JSON (the key 'text' occurs twice)"),
        ("m.jsonl", '{"path": "a.wav", "offset": 1, "offset": 1}\n', "the key 'offset' occurs twice"),
        ("m.jsonl", '{"path": "a.wav", "text": "\\"", "key": "k", "key": "l"}\n', "the key 'key' occurs twice"),
        ("m.csv", "path,key\na.wav,caf\u00e9\nb.wav,cafe\u0301\n", "the key 'caf\u00e9' occurs twice"),
        ("m.jsonl", '{"path": "a.wav", "phones": 3}\n', "line 1: 'phones' must be text"),
        ("m.jsonl", '{"path": "a.wav", "text": ["a", "b"]}\n', "line 1: 'text' must be text"),
        ("m.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
        ("wav.scp", "u a.ark:1234\n", "archives are not read"),
        ("wav.scp", "u ~/a.wav\n", "not expanded"),
        ("wav.scp", "u file:///a.wav\n", "not expanded"),
    ],
)
def test_a_mistake_is_an_error_with_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as raised:
        ClipSet.open(tmp_path / name)
    assert message in str(raised.value)


def test_header_names_are_stripped_and_long_fields_are_read(tmp_path):
    (tmp_path / "m.csv").write_text(f"path, text\na.wav,{'x' * 200_000}\n")
    assert len(ClipSet.open(tmp_path / "m.csv").sources[0].text or "") == 200_000


def test_any_white_space_separates_in_kaldi_files(tmp_path):
    """With tabs, speakers were lost and an interval was 2.8 times too narrow."""
    (tmp_path / "wav.scp").write_text("u1\ta.wav\nu2  b.wav\n")
    (tmp_path / "utt2spk").write_text("u1\ts1\nu2\ts2\n")
    (tmp_path / "text").write_text("u1\thello you\nu2 bye\n")
    sources = ClipSet.open(tmp_path / "wav.scp").sources
    assert [(source.key, source.speaker, source.text) for source in sources] == [
        ("u1", "s1", "hello you"), ("u2", "s2", "bye"),
    ]  # fmt: skip


def test_columns_that_are_meant_are_passed_over(tmp_path):
    (tmp_path / "m.csv").write_text("path,Text,meta_a,meta_b\na.wav,x,1,2\n")
    (source,) = ClipSet.open(tmp_path / "m.csv", ignore_columns=["Text", "meta_*"]).sources
    assert source.text is None
    rows = "N,D,loss,wall_s\n1e6,1e8,3.5,1\n2e6,1e8,3.2,x\n"
    (tmp_path / "t.csv").write_text(rows)
    assert set(RunTable.read(tmp_path / "t.csv", ignore_columns=["wall_*"]).metrics) == {"loss"}


def test_names_are_compared_in_composed_form(tmp_path):
    """Archives of macOS hold decomposed names, and lists that were typed composed ones."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (tmp_path / f"{decomposed}.wav").write_bytes(b"")
    (tmp_path / f"{decomposed}.txt").write_text("coffee")
    (tmp_path / "m.csv").write_text(f"path,speaker\n{composed}.wav,{decomposed}\n")
    (source,) = ClipSet.open(tmp_path / "m.csv").sources
    assert (source.path, source.text) == (str(tmp_path / f"{decomposed}.wav"), "coffee")
    assert (source.key, source.speaker) == (composed, composed)
    (tmp_path / "wav.scp").write_text(f"{composed} x.wav\n")
    (tmp_path / "utt2spk").write_text(f"{decomposed} s\n")
    (source,) = ClipSet.open(tmp_path / "wav.scp").sources
    assert (source.key, source.speaker) == (composed, "s")


@pytest.mark.parametrize("text", ['{"N": 1e6, "D": 2, "loss": 1, "N": 2}', '[{"N": 1, "N": 2}]'])
def test_a_doubled_key_of_a_table_of_runs_is_an_error(tmp_path, text):
    path = tmp_path / ("t.json" if text.startswith("[") else "t.jsonl")
    path.write_text(text)
    with pytest.raises(UsageError, match="the key 'N' occurs twice"):
        read_records(path)


def test_key_zero_stays_and_missing_text_is_missing(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "key": 0, "text": NaN}\n{"path": "b.wav", "key": 1}\n')
    assert [(source.key, source.text) for source in ClipSet.open(tmp_path / "m.jsonl").sources] == [
        ("0", None), ("1", None),
    ]  # fmt: skip


def test_tables_of_runs_are_read_as_strictly(tmp_path):
    (tmp_path / "t.csv").write_text("N,loss\n1e6,2,5\n")
    with pytest.raises(UsageError, match="line 2: 3 fields where the header names 2"):
        read_records(tmp_path / "t.csv")


def test_decimal_commas_are_named_with_their_line():
    """A column of decimal commas counted as labels ("no metric column"), and a count of 1,5B as 15B."""
    rows = [{"N": "1e6", "D": "2e7", "loss": "2,5"}, {"N": "2e6", "D": "3e7", "loss": "2,4"}]
    with pytest.raises(UsageError, match="line 1: loss: '2,5' is not a number; write a point for decimals"):
        RunTable.from_records(rows)
    with pytest.raises(ValueError, match=r"'1,5B' is not a count .* write a point"):
        parse_quantity("1,5B")
    assert parse_quantity("1,000,000") == parse_quantity("1_000_000") == 1e6
    assert parse_quantity("12,500.5K") == 12_500_500
