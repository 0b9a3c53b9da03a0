"""The gate before scores: what fails, what is noted once a set, and what the index of files may vouch for."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import api
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.store import Store
from cdslm_eval.core.store_care import drop, summarise
from cdslm_eval.plugin.contract import Generator, GeneratorInfo

RATE_HZ = 16000


def noise(seconds=0.5, level=0.05, seed=0):
    return level * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ))


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes a set of WAV files of floats."""

    def write(name, *clips, rate_hz=RATE_HZ):
        (tmp_path / name).mkdir()
        for number, samples in enumerate(clips):
            sf.write(tmp_path / name / f"{number}.wav", samples, rate_hz, subtype="FLOAT")
        return tmp_path / name

    return write


@pytest.fixture
def score(tmp_path):
    """Return a function that scores a set with `signal` and collects the notes to the user."""

    def run(systems, **options):
        notes = []
        result = api.score(systems, metrics="signal", store=tmp_path / "s.cdslm", jobs=1, note=notes.append, **options)
        return result, notes

    return run


@pytest.mark.parametrize(
    ("clips", "note"),
    [
        ([noise(level=1.0)] * 2, "all 2 clips are over full scale, up to"),
        ([noise(), noise() * 0, noise() * 0], "2 of 3 clips are silent"),
        ([noise(), noise() + 0.2], "1 of 2 clips is off zero by a DC offset of up to +0.2"),
        ([noise(), np.stack([noise(), -0.99 * noise()], axis=1)], "1 of 2 clips is almost cancelled by averaging"),
    ],
)
def test_doubts_are_noted_once_a_set_and_again_from_the_store(folder, score, clips, note):
    path = folder("set", *clips)
    result, notes = score(path)
    assert [text for text in notes if note in text] == [f"note: {text}" for text in result.warnings if note in text]
    assert len([text for text in result.warnings if note in text]) == 1
    assert score(path)[0].warnings == result.warnings


def test_sound_sets_have_no_note(folder, score):
    stereo = np.stack([noise(), noise(seed=1)], axis=1)
    assert score(folder("fine", noise(), noise(seed=3) + 0.01, stereo, 1.3 * noise() / np.abs(noise()).max()))[1] == []


def test_a_rate_below_a_metrics_rate_is_one_note(folder, tmp_path):
    result = api.score(
        folder("low", noise(), noise(), rate_hz=8000), metrics="channel,signal", store=tmp_path / "s", jobs=1
    )
    (note,) = [warning for warning in result.warnings if "8000 Hz" in warning]
    assert note.startswith("low: all 2 clips are at 8000 Hz: channel (16000 Hz) finds nothing above 4000 Hz")


def test_a_cut_file_fails_unless_it_is_allowed_and_the_index_does_not_hide_it(folder, score):
    path = folder("cut", noise(1.0), noise(1.0))
    whole = (path / "1.wav").read_bytes()
    (path / "1.wav").write_bytes(whole[: len(whole) // 2])
    strict, _ = score(path)
    (failure,) = {(entry.clip, entry.reason) for entry in strict.failures}
    assert failure[0] == "1"
    assert "ends before its header says: 0.50 of 1.00 s" in failure[1]
    allowed, notes = score(path, allow_truncated=True)
    assert not allowed.failures
    assert any("1 of 2 clips is cut short" in note for note in notes)
    assert {(entry.clip, entry.reason) for entry in score(path)[0].failures} == {failure}


def test_the_index_vouches_for_no_other_file_of_the_same_size_and_time(folder, score, tmp_path):
    path = folder("set", noise(level=0.05))
    clip = path / "0.wav"
    stamp = clip.stat()
    level = score(path)[0].estimate("level").value
    sf.write(tmp_path / "other.wav", noise(level=0.005), RATE_HZ, subtype="FLOAT")
    (tmp_path / "other.wav").replace(clip)
    os.utime(clip, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (clip.stat().st_size, clip.stat().st_mtime_ns) == (stamp.st_size, stamp.st_mtime_ns)
    assert score(path)[0].estimate("level").value == pytest.approx(level - 20, abs=0.01)


def test_two_experiments_with_one_relative_path_are_told_apart(score, tmp_path, monkeypatch):
    """Two folders with `samples/0.wav` of one size and time, and one store: the second had the level of the first."""
    levels = []
    for name, level in (("exp1", 0.05), ("exp2", 0.005)):
        (tmp_path / name / "samples").mkdir(parents=True)
        sf.write(tmp_path / name / "samples" / "0.wav", noise(level=level), RATE_HZ, subtype="FLOAT")
        os.utime(tmp_path / name / "samples" / "0.wav", ns=(10**18, 10**18))
        monkeypatch.chdir(tmp_path / name)
        levels.append(score("samples")[0].estimate("level").value)
    assert levels[1] == pytest.approx(levels[0] - 20, abs=0.01)


def test_rehash_trusts_no_stamp(folder, score, tmp_path):
    path = folder("set", noise(level=0.05))
    level = score(path)[0].estimate("level").value
    other = folder("other", noise(level=0.005))
    score(other)
    with sqlite3.connect(tmp_path / "s.cdslm") as db:  # an index that vouches wrongly, however it came about
        digest = db.execute("SELECT digest FROM files WHERE path LIKE '%other%'").fetchone()[0]
        db.execute("UPDATE files SET digest = ? WHERE path LIKE '%set%'", [digest])
    assert score(path)[0].estimate("level").value == pytest.approx(level - 20, abs=0.01)
    assert score(path, rehash=True)[0].estimate("level").value == pytest.approx(level, abs=1e-9)


def test_an_index_of_another_host_is_not_trusted(folder, score, tmp_path):
    """Two machines have equal paths, and a copied store vouches for none of the second's files."""
    path = folder("set", noise(level=0.05))
    level = score(path)[0].estimate("level").value
    score(folder("other", noise(level=0.005)))
    with sqlite3.connect(tmp_path / "s.cdslm") as db:
        digest = db.execute("SELECT digest FROM files WHERE path LIKE '%other%'").fetchone()[0]
        db.execute("UPDATE files SET digest = ?, host = 'elsewhere' WHERE path LIKE '%set%'", [digest])
    assert score(path)[0].estimate("level").value == level
    with Store(tmp_path / "s.cdslm") as store:
        assert summarise(store)["files_of_other_hosts"] == 1
        dropped = drop(store, None, (), missing_files=True, dry_run=True)
    assert dropped["files"] == 0
    for clip in path.iterdir():
        clip.unlink()
    with Store(tmp_path / "s.cdslm") as store:
        assert drop(store, None, (), missing_files=True, dry_run=False)["files"] == 1
        assert summarise(store)["files_of_other_hosts"] == 1  # whether it is there cannot be seen from here


def relabel(path):
    """Give every row of a store the level 7, so that a row which is measured again can be told from a kept one."""
    with sqlite3.connect(path) as db:
        ours = "FROM rows WHERE identity LIKE 'signal@%'"
        for identity, subject, data in db.execute(f"SELECT identity, subject, data {ours}").fetchall():
            row = json.dumps({**json.loads(data), "level_dbfs": 7.0})
            db.execute("UPDATE rows SET data = ? WHERE identity = ? AND subject = ?", [row, identity, subject])


def test_rows_are_found_by_content_where_only_the_stamp_changed(folder, score, tmp_path):
    path = folder("set", noise(), noise(seed=1))
    score(path)
    relabel(tmp_path / "s.cdslm")
    for clip in path.iterdir():
        shutil.copy(clip, tmp_path / "copy.wav")
        (tmp_path / "copy.wav").replace(clip)
    assert score(path)[0].estimate("level").value == 7.0
    assert score(path, rehash=True)[0].estimate("level").value == 7.0
    sf.write(path / "1.wav", noise(seed=2), RATE_HZ, subtype="FLOAT")
    assert score(path)[0].estimate("level").value == pytest.approx((7.0 - 26.02) / 2, abs=0.1)


def test_a_store_of_the_former_schema_keeps_its_rows(folder, score, tmp_path):
    path = folder("set", noise(), noise(seed=1))
    score(path)
    relabel(tmp_path / "s.cdslm")
    with sqlite3.connect(tmp_path / "s.cdslm") as db:
        former = "path, size, mtime_ns, digest, seconds, rate_hz, channels, encoding, mixdown"
        db.execute(f"CREATE TABLE f AS SELECT {former} FROM files")
        db.execute("DROP TABLE files")
        db.execute("ALTER TABLE f RENAME TO files")
        db.execute("PRAGMA user_version = 2")
    assert score(path)[0].estimate("level").value == 7.0


class Loud(Generator):
    """Yields integers in floats, as a forgotten division makes them."""

    name = "loud"
    version = "1"

    def info(self):
        return GeneratorInfo()

    def clips(self, prompts, count, seconds, seed):
        from cdslm_eval.core.audio import Clip

        for number in range(count):
            samples = (noise(seconds) * 32768).astype(np.float32)
            yield Clip(key=str(number), samples=samples, rate_hz=RATE_HZ)


def test_generated_and_prompting_clips_pass_the_same_gate(folder, tmp_path):
    with pytest.raises(EvalError, match="clip '0' of the generator: samples of up to"):
        api.generate(Loud, tmp_path / "out", count=1, seconds=0.5)
    prompts = folder("prompts", np.full(8000, np.nan))
    with pytest.raises(EvalError, match="prompt '0': samples that are not finite"):
        api.generate("noise", tmp_path / "more", prompts=ClipSet.open(prompts), count=1)
