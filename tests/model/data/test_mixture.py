"""Sources in fixed shares: exact in every thousand draws, without replacement, the same on any number of processes."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import SMALL  # noqa: E402 - torch may be absent

from cdslm_model.data.mel import MelSpec  # noqa: E402
from cdslm_model.data.mixture import MixedWindows, windows_of  # noqa: E402
from cdslm_model.data.prepare import prepare  # noqa: E402
from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.errors import DataError  # noqa: E402
from cdslm_model.plugin.recordings import recordings  # noqa: E402


@pytest.fixture(scope="module")
def two(corpus, tmp_path_factory):
    """Return shards of a large and of a small source."""
    folder = tmp_path_factory.mktemp("two")
    clips = recordings([f"large={corpus / 'train'}", f"small={corpus / 'valid'}"])[""]
    prepare(clips, folder / "train", MelSpec())
    return folder / "train"


def starts(windows, seed, steps, size=16, rows=None):
    """Return the first frames of the windows of some steps."""
    kept = []
    stored = windows._stored
    windows._stored = lambda own: kept.extend(own) or stored(own)
    for step in range(steps):
        windows.batch(seed, step, range(size) if rows is None else rows, size)
    del windows._stored
    return np.array(kept)


def test_shares_are_exact_and_each_source_is_drawn_without_replacement(two):
    shards = Shards(two)
    mixed = MixedWindows(shards, 20, 40, False, {"large": 1.0, "small": 3.0})
    drawn = starts(mixed, 5, 125)  # 2000 draws
    ends = np.cumsum(shards.clips.frames)
    numbers = shards.clips.labels["source"][np.searchsorted(ends, drawn, "right")]
    assert [int((numbers[:1000] == number).sum()) for number in (0, 1)] == [250, 750]
    assert [int((numbers == number).sum()) for number in (0, 1)] == [500, 1500]
    for number, (name, part) in enumerate(mixed.sources.items()):
        own = drawn[numbers == number]
        alone = [part.drawn(5, place) for place in range(len(own))]
        # a source is drawn as it would be alone: all its windows once in each epoch
        np.testing.assert_array_equal(own, alone)
        assert max(Counter(own[: part.per_epoch].tolist()).values()) == 1
        assert mixed.use(2000)[name]["epochs"] == pytest.approx(len(own) * 60 / part.usable_frames)
    # some rows are those of the whole batch, as two processes draw them
    np.testing.assert_array_equal(starts(mixed, 5, 3, rows=range(8, 16)), drawn[:48].reshape(3, 16)[:, 8:].ravel())
    assert (starts(mixed, 6, 3) != drawn[:48]).any()


def test_without_a_mix_nothing_changes_and_unknown_sources_are_refused(two):
    shards = Shards(two)
    assert type(windows_of(shards, 20, 40)) is Windows
    with pytest.raises(DataError, match=r"no source 'studio' in it; it has large, small. Use: cdslm prepare NAME=PATH"):
        windows_of(shards, 20, 40, mix=[("studio", 1.0)])
    with pytest.raises(DataError, match="no clip is as long as a window"):
        windows_of(shards, 20_000, 40, mix=[("large", 1.0)])


def test_a_share_is_exact_or_refused(two):
    shards = Shards(two)
    least = windows_of(shards, 20, 40, mix=[("large", 999.0), ("small", 1.0)])
    assert {name: own["share"] for name, own in least.use(5000).items()} == {"large": 0.999, "small": 0.001}
    for weight in (0.9, 1e-9):
        with pytest.raises(DataError, match=r"'small' has .* use a weight of at least 1/1000 of their sum, or leave"):
            windows_of(shards, 20, 40, mix=[("large", 999.0), ("small", weight)])


def assert_other_sources_are_refused(resume, folder):
    """Check that a run whose result is lost resumes, and not on clips of which one moved to the other source."""
    (path,) = (folder / "train").glob("shard-*.json")
    before = path.read_text()
    record = json.loads(before)
    record["clips"][0]["source"] = "small"
    for text, code, message in ((json.dumps(record), 2, "the speakers or sources of"), (before, 0, "")):
        path.write_text(text)
        (folder / "run" / "result.json").unlink(missing_ok=True)
        done = resume()
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def assert_use_of_each_source(inside, command, clips):
    """Check epochs and distinct tokens of plans against the frames of the clips, each of which holds a window."""
    frames = {name: sum(clip["frames"] for clip in clips if clip["source"] == name) for name in ("large", "small")}
    # 100 steps of 4 windows of 60 frames: a twentieth of the draws are less than an epoch of the large source
    for mix, share in ((("small=1",), 1.0), (("large=1", "small=19"), 0.95)):
        done = inside(*command, "100", *(word for own in mix for word in ("--mix", own)), "--plan")
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        assert (1 - share) * 24_000 < frames["large"] < 24_000
        assert plan["epochs"] == pytest.approx(24_000 * share / frames["small"])
        assert plan["unique_tokens"] == pytest.approx(frames["small"] + (1 - share) * 24_000)


def test_a_run_trains_on_a_mix_and_resumes_on_the_same_only(corpus, shards, tmp_path, inside):
    halves = sorted((corpus / "train").iterdir())
    for name, own in (("large", halves[:8]), ("small", halves[8:])):
        rows = [json.dumps({"path": str(path)}) for path in own]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    sets = [f"{name}={tmp_path / name}.jsonl" for name in ("large", "small")]
    assert inside("prepare", *sets, "--out", tmp_path / "train").returncode == 0
    command = ["train", "--data", tmp_path / "train", "--valid", shards / "valid", "--out", tmp_path / "run", *SMALL]
    command += ["--no-probe", "--steps", "2"]
    done = inside(*command, "--mix", "large=1", "--mix", "small=3")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [own["share"] for own in result["mix"].values()] == [0.25, 0.75]
    assert result["epochs"] == max(own["epochs"] for own in result["mix"].values())
    assert "mix" in inside(*command, "--mix", "large=1", "--mix", "small=2").stderr
    assert_other_sources_are_refused(lambda: inside(*command, "--mix", "large=1", "--mix", "small=3"), tmp_path)
    assert_use_of_each_source(inside, command[:-1], Shards(tmp_path / "train").clips)
    for mix, message in (
        ("large", "such as studio=0.7"),
        ("large=0", "with a weight above 0"),
        ("x=1", "no source 'x'"),
    ):
        done = inside(*command[:6], tmp_path / "other", *command[7:], "--mix", mix)
        assert done.returncode == 2
        assert message in done.stderr
