"""Values are followed through windows of clips, from files and from memory, into JSON, text and page."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile as sf

import cdslm_eval
from cdslm_eval import ClipSet, ScoreResult, UsageError
from cdslm_eval.cli.common import duration_s
from cdslm_eval.cli.tables import table
from cdslm_eval.core.windows import windowed
from cdslm_eval.report import write_report

RATE = 8000


@pytest.fixture
def fading(tmp_path):
    """Return a function that writes clips of 3.5 s whose level falls by so many dB a second."""

    def make(name, fall_db_s):
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(5)
        t = np.arange(int(3.5 * RATE)) / RATE
        for number in range(8):
            level_db = -20 + 3 * rng.standard_normal() - fall_db_s * t
            samples = rng.standard_normal(len(t)) * 10 ** (level_db / 20)
            sf.write(folder / f"c{number}.wav", samples.clip(-1, 1).astype(np.float32), RATE)
        return folder

    return make


def score(systems, tmp_path, **more):
    return cdslm_eval.score(
        systems, metrics="signal", recognizer="sidecar", jobs=1, store=tmp_path / "s.cdslm", note=lambda _: None, **more
    )


def test_a_falling_level_drifts_and_a_steady_one_holds(fading, tmp_path):
    sets = {"fades": fading("fades", 4.0), "steady": fading("steady", 0.0)}
    result = score(sets, tmp_path, reference=sets["steady"], windows=1.0)
    tracks = {(track.system, track.name): track for track in result.over_time}
    fades, steady = tracks["fades", "level"], tracks["steady", "level"]
    assert fades.starts_s == (0.0, 1.0, 2.0)
    assert fades.change == pytest.approx(-8.0, abs=0.3)
    assert (fades.verdict, steady.verdict) == ("drifts", "holds")
    assert tracks["real speech", "level"].values == steady.values
    assert tracks["fades", "duration"].verdict == ""  # every window is as long as the next
    # whole clips are scored as they are without windows
    plain = score(sets, tmp_path, reference=sets["steady"])
    assert [e.as_json() for e in plain.estimates] == [e.as_json() for e in result.estimates]
    assert "over_time" not in plain.as_json()
    again = ScoreResult.load(result.save(tmp_path / "result.json"))
    assert again.over_time[1] == result.over_time[1]
    assert "level of fades drifts: -8." in table(result)
    page = write_report(result, tmp_path / "page").read_text(encoding="utf-8")
    assert 'id="over-time"' in page
    assert "level-over-time" in " ".join(path.name for path in (tmp_path / "page" / "figures").iterdir())
    json.dumps(result.as_json(), allow_nan=False)


def test_windows_of_parts_of_files_and_of_memory_are_those_of_the_recording(fading, tmp_path):
    folder = fading("fades", 4.0)
    manifest = tmp_path / "parts.jsonl"
    manifest.write_text(json.dumps({"path": "fades/c0.wav", "offset": 0.5, "duration": 2.7, "text": "words"}))
    parts = windowed(ClipSet.open(manifest), 1.0)
    assert parts.positions.tolist() == [0, 1]
    whole, rate = sf.read(folder / "c0.wav", dtype="float32")
    np.testing.assert_array_equal(parts.clips[1].samples, whole[int(1.5 * rate) : int(2.5 * rate)])
    assert parts.clips.sources[1].text is None
    held = windowed(ClipSet.from_arrays([(whole, rate)]), 1.0)
    np.testing.assert_array_equal(held.clips[2].samples, whole[2 * rate : 3 * rate])
    from_disk = windowed(ClipSet.open(folder), 1.0)
    assert held.clips[2].digest == from_disk.clips[2].digest
    (folder / "broken.wav").write_bytes(b"RIFF")
    assert windowed(ClipSet.open(folder), 1.0).n_unread == 1


def test_clips_of_one_window_and_odd_lengths_are_told(fading, tmp_path):
    folder = fading("steady", 0.0)
    result = score(folder, tmp_path, windows=2.0)
    assert result.over_time == ()
    assert "steady: no clip has two windows of 2 s" in " ".join(result.warnings)
    with pytest.raises(UsageError, match=r"windows of 0.1 s: use 0.25 to 3600 s"):
        score(folder, tmp_path, windows=0.1)
    assert [duration_s(text, "--windows") for text in ("10s", "10", "500ms", "2m")] == [10.0, 10.0, 0.5, 120.0]
    with pytest.raises(UsageError, match="--windows 'soon': a length of time, such as 10s"):
        duration_s("soon", "--windows")
