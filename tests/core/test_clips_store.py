"""Sets of clips, odd audio, and the store."""

from __future__ import annotations

import json
import shutil
import sqlite3

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.audio import content_digest, read_audio
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.completeness import truncation
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.levels import frame_levels_dbfs, level_dbfs
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import FileFacts, Outcome, Store


def test_a_directory_is_sorted_recursive_and_takes_sidecars(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/Z.WAV", "a.flac", "a.wav"):
        sf.write(tmp_path / name, np.zeros(100), 8000, format=name[-4:].strip(".").upper())
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "notes.md").write_text("no audio")
    clip_set = ClipSet.open(tmp_path)
    assert [source.key for source in clip_set.sources] == ["a.flac", "a.wav", "b/Z"]
    assert clip_set.sources[0].text == "hello"
    assert clip_set.offers() == {"audio", "text"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "scp"])
def test_manifests_of_every_kind_give_the_same_clips(tmp_path, kind):
    sf.write(tmp_path / "x.wav", np.full(100, 0.5), 8000)
    if kind == "jsonl":
        (tmp_path / "m.jsonl").write_text(
            json.dumps({"path": "x.wav", "key": "k", "text": "hi", "speaker": "s"}) + "\n"
        )
    elif kind == "scp":
        (tmp_path / "m.scp").write_text("k x.wav\n")
        (tmp_path / "text").write_text("k hi\n")
        (tmp_path / "utt2spk").write_text("k s\n")
    else:
        sep = "," if kind == "csv" else "\t"
        (tmp_path / f"m.{kind}").write_text(
            sep.join(["path", "key", "text", "speaker"]) + "\n" + sep.join(["x.wav", "k", "hi", "s"]) + "\n"
        )
    clip = ClipSet.open(tmp_path / f"m.{kind}")[0]
    assert (clip.key, clip.text, clip.speaker, clip.rate_hz, len(clip.samples)) == ("k", "hi", "s", 8000, 100)


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.jsonl", '{"path": "x.wav"}\n'), ("m.csv", "path\nx.wav\n"), ("wav.scp", "k x.wav\n"), ("folder", "")],
)
def test_sidecars_are_read_for_manifests_as_for_directories(tmp_path, name, text):
    sf.write(tmp_path / "x.wav", np.zeros(100), 8000)
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "x.phones").write_text("h e l o")
    if text:
        (tmp_path / name).write_text(text)
    (source,) = ClipSet.open(tmp_path / name if text else tmp_path).sources
    assert (source.text, source.phones) == ("hello", ("h", "e", "l", "o"))


def test_a_manifests_own_fields_win_over_sidecars(tmp_path):
    (tmp_path / "x.txt").write_text("from the sidecar")
    (tmp_path / "m.csv").write_text("path,text\nx.wav,from the manifest\n")
    assert ClipSet.open(tmp_path / "m.csv").sources[0].text == "from the manifest"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.jsonl", '{"path": "a.wav"}\n{broken\n', "line 2: not JSON"),
        ("m.jsonl", '{"paht": "a.wav"}\n', "Did you mean"),
        ("m.csv", "file,text\na.wav,x\n", "line 2: no .path.. Rename the column .file"),
        ("m.scp", "k sox in.wav |\n", "commands from a file are not run"),
        ("m.jsonl", '{"path": "a.wav", "key": "k"}\n{"path": "b.wav", "key": "k"}\n', "occurs twice"),
    ],
)
def test_bad_manifests_are_reported_with_their_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        ClipSet.open(tmp_path / name)


def test_missing_and_empty_paths_are_reported(tmp_path):
    (tmp_path / "samples").mkdir()
    with pytest.raises(UsageError, match="no audio in it"):
        ClipSet.open(tmp_path / "samples")
    with pytest.raises(UsageError, match="Did you mean 'samples'"):
        ClipSet.open(tmp_path / "sampels")


def test_the_digest_is_of_the_content_and_the_mixdown_is_a_mean(tmp_path):
    x = (np.random.default_rng(0).integers(-9000, 9000, (500, 2)) / 32768).astype(np.float32)
    sf.write(tmp_path / "a.wav", x, 16000, subtype="PCM_16")
    sf.write(tmp_path / "b.flac", x, 16000, subtype="PCM_16")
    a, b = (read_audio(tmp_path / name) for name in ("a.wav", "b.flac"))
    assert content_digest(a.samples, a.rate_hz) == content_digest(b.samples, b.rate_hz)
    np.testing.assert_allclose(a.samples, x.mean(axis=1), atol=1e-7)
    assert a.mixdown == "mean of 2 channels"
    with pytest.raises(AudioError, match="longer than"):
        read_audio(tmp_path / "a.wav", max_seconds=0.01)


def test_levels_are_those_of_known_signals():
    assert level_dbfs(np.ones(100, np.float32)) == pytest.approx(0.0)
    sine = np.sin(np.arange(16000) * 2 * np.pi / 160).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert level_dbfs(np.zeros(5, np.float32)) == -np.inf
    np.testing.assert_allclose(frame_levels_dbfs(sine, 16000), -3.0103, atol=1e-3)


def test_every_odd_file_reads_or_is_refused_as_soundfile_says(shared_data):
    listed = (shared_data / "odd" / "generated" / "EXPECT_soundfile.tsv").read_text().splitlines()
    for line in listed:
        name, verdict, rate, *_ = line.split("\t")
        path = shared_data / "odd" / "generated" / name
        if verdict == "reads":
            # soundfile reads cut files without a word
            assert f"{read_audio(path, allow_truncated=bool(truncation(path))).rate_hz} Hz" == rate
        else:
            with pytest.raises(AudioError):
                read_audio(path)


def test_rows_and_facts_come_back_as_they_went_in(tmp_path):
    row = {"phones": ["a", "b"], "x": 1.5, "none": None, "v": np.arange(3, dtype=np.float32)}
    facts = FileFacts("host", 1, 2, 3, 4, "d" * 64, 1.0, 16000, 1, "WAV PCM_16", "none", 0.5, 0.0, -np.inf, 0.0)
    with Store(tmp_path / "deep" / "s.cdslm") as store:
        with store.writing():
            store.put_row("id", "one", Outcome("ok", "", row))
            store.put_row("id", "two", Outcome("skipped", "silent", {}))
            store.put_file(Address("/x.wav"), facts)
        assert store.files([Address("/x.wav"), Address("/y.wav")]) == {Address("/x.wav"): facts}
        one, two, three = store.outcomes("id", ["one", "two", "three"])
        assert three is None
        assert two == Outcome("skipped", "silent", {})
        np.testing.assert_array_equal(one.row["v"], row["v"])
        assert one.row["phones"] == ["a", "b"]
        run = store.put_run({"metrics": "m"}, [{"system": "s", "name": "n", "value": None}])
        assert store.estimates(run) == [{"system": "s", "name": "n", "value": None}]


def test_an_older_store_drops_what_may_rest_on_a_recognizer_that_failed(tmp_path):
    outcomes = {
        "no phones": Outcome("skipped", "no phones", {}),
        "optional": Outcome("ok", "", {"phones": None, "level_dbfs": -20.0}),
        "silent": Outcome("skipped", "silent", {}),
        "phones": Outcome("ok", "", {"phones": ["AH"]}),
    }
    with Store(tmp_path / "s") as store, store.writing():
        for subject, outcome in outcomes.items():
            store.put_row("id", subject, outcome)
        store._db.executemany("INSERT INTO notes VALUES (?, '')", [("score result:1",), ("roster:1",)])
        store._db.execute("PRAGMA user_version = 1")
    with Store(tmp_path / "s") as store:
        assert list(store.outcomes("id", outcomes)) == [None, None, outcomes["silent"], outcomes["phones"]]
        assert store.keys("") == ["roster:1"]
        with store.writing():
            store.put_row("id", "no phones", outcomes["no phones"])
    with Store(tmp_path / "s") as store:  # a row of the new schema stays
        assert next(store.outcomes("id", ["no phones"])) == outcomes["no phones"]


def test_a_store_that_cannot_serve_says_so(tmp_path):
    path = tmp_path / "s.cdslm"
    Store(path).__exit__()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="newer cdslm-eval"):
        Store(path)
    (tmp_path / "text").write_text("this is no database, and long enough to be read as one" * 40)
    with pytest.raises(UsageError, match="not a store"):
        Store(tmp_path / "text")
    shutil.copy(path, tmp_path / "other.db")
    db = sqlite3.connect(tmp_path / "foreign.db")
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(UsageError, match="not a store of cdslm-eval"):
        Store(tmp_path / "foreign.db")
    with pytest.raises(UsageError, match="no such store"):
        Store(tmp_path / "absent", read_only=True)
