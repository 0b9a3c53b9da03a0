"""Speech of several sources and languages: kept in shards, left out when short, validated apart."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import SMALL  # noqa: E402 - torch may be absent

from cdslm_model.checkpoint import Checkpoint  # noqa: E402
from cdslm_model.data.mel import MelSpec  # noqa: E402
from cdslm_model.data.prepare import prepare  # noqa: E402
from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.errors import DataError, ModelError  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.plugin.recordings import recordings  # noqa: E402
from cdslm_model.train.jobs import Speech, check_speech  # noqa: E402
from cdslm_model.train.settings import Settings  # noqa: E402


@pytest.fixture(scope="module")
def labelled(corpus, tmp_path_factory):
    """Return held-out shards of two sources, the first in two languages."""
    folder = tmp_path_factory.mktemp("labelled")
    paths = sorted((corpus / "valid").iterdir())
    for name, own in (("first", paths[:4]), ("second", paths[4:])):
        rows = [{"path": str(path), "key": f"{name} {path.stem}", "speaker": name} for path in own]
        if name == "first":
            rows = [{**row, "language": "en" if number < 3 else "de"} for number, row in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clips = recordings([f"studio={folder / 'first.jsonl'}", str(folder / "second.jsonl")])[""]
    prepare(clips, folder / "shards", MelSpec())
    return folder / "shards"


def test_shards_keep_language_and_source(labelled):
    clips = Shards(labelled).clips
    assert [clip["source"] for clip in clips] == ["studio"] * 4 + ["second"] * 2
    assert [clip["language"] for clip in clips] == ["en"] * 3 + ["de"] + [None] * 2
    # each window has the label of the clip that it begins in
    windows = Windows(Shards(labelled), 10, 20)
    ends = np.cumsum([clip["frames"] for clip in clips])
    starts = [windows._start((index + 0.5) / 40) for index in range(40)]
    owners = [int(np.searchsorted(ends, start, "right")) for start in starts]
    assert windows.spread_labels(40, "language") == [clips[owner]["language"] for owner in owners]


def test_short_recordings_are_left_out_and_named(corpus, tmp_path):
    clips = recordings([str(corpus / "train")], min_seconds=2.0)[""]
    report = prepare(clips, tmp_path / "long", MelSpec())
    frames = [clip["frames"] for clip in Shards(tmp_path / "long").clips]
    assert 0 < len(frames) < len(clips)
    assert min(frames) >= 160
    assert len(report.left_out) == len(clips) - len(frames)
    assert all("s long, under 2 s" in why for why in report.left_out.values())


def test_the_losses_of_sources_add_up_to_the_validation_loss(trained, labelled, shards, inside, tmp_path):
    whole = json.loads((trained / "result.json").read_text())
    done = inside("validate", trained, "--valid", shards / "valid", "--windows", "8", "--device", "cpu", "--json")
    (group,) = json.loads(done.stdout)
    assert group["loss"] == pytest.approx(whole["val_loss"], rel=1e-3)
    assert group["se"] == pytest.approx(whole["val_loss_se"], rel=1e-2)
    joined = ("--data", shards / "train", "--valid", labelled, "--out", tmp_path / "run", "--join-speakers")
    done = inside("train", *joined, *SMALL, "--steps", "1", "--valid-windows", "12", "--no-probe", "--json")
    whole, done = json.loads(done.stdout), inside("validate", tmp_path / "run", "--valid", labelled, "--json")
    groups = json.loads(done.stdout)
    assert {own["name"]: own["windows"] > 0 for own in groups} == {"studio": True, "second": True}
    mean = sum(own["windows"] * own["loss"] for own in groups) / 12
    assert mean == pytest.approx(whole["val_loss"], rel=1e-5)
    done = inside("validate", trained, "--valid", labelled, "--windows", "24", "--by", "language", "--json")
    groups = json.loads(done.stdout)
    assert [own["name"] for own in groups] == ["de", "en", None]
    assert sum(own["windows"] for own in groups) == 24
    done = inside("validate", trained, "--valid", labelled, "--windows", "24")
    assert done.stdout.splitlines()[0].startswith("second: 0.")
    done = inside("validate", trained, "--valid", shards / "valid", "--by", "language")
    assert done.returncode == 2
    assert "no clip has a language; prepare it again" in done.stderr
    done = inside("validate", trained, "--valid", labelled, "--by", "speaker")
    assert "losses by 'speaker': one of language, source" in done.stderr


@pytest.mark.parametrize(
    ("clip", "label", "values"),
    [(None, "speaker", None), (0, "speaker", "second"), (3, "source", "second"), (2, "language", "fr")],
)
def test_a_run_with_joined_speakers_resumes_on_the_same_windows_only(labelled, shards, tmp_path, clip, label, values):
    """Speakers and sources part the stretches that windows lie in; names of speakers and languages do not."""
    copy = shutil.copytree(labelled, tmp_path / "copy")
    (path,) = copy.glob("shard-*.json")
    record = json.loads(path.read_text())
    for number, own in enumerate(record["clips"]):
        if clip in (None, number):
            own[label] = values or f"renamed {own[label]}"
    path.write_text(json.dumps(record))
    before, after = (Speech(Shards(shards / "train"), Shards(folder)) for folder in (labelled, copy))
    config = Config.from_depth(1)
    settings = Settings(config=config, join_speakers=True)
    spec = dataclasses.asdict(before.train.spec)
    last = Checkpoint(tmp_path, {"data": before.digests(settings.window_labels()), "mel_spec": spec})
    if np.array_equal(before.valid.stretches(True), after.valid.stretches(True)):
        check_speech(tmp_path, last, after, settings)
    else:
        with pytest.raises(ModelError, match="the speakers or sources of"):
            check_speech(tmp_path, last, after, settings)
    # single clips, and runs from before labels were recorded, are as they were
    check_speech(tmp_path, last, before, settings)
    last = Checkpoint(tmp_path, {"data": before.digests(), "mel_spec": spec})
    for own in (settings, Settings(config=config)):
        check_speech(tmp_path, last, after, own)


def test_a_label_of_another_kind_is_damage(labelled, tmp_path):
    copy = shutil.copytree(labelled, tmp_path / "copy")
    (path,) = copy.glob("shard-*.json")
    record = json.loads(path.read_text())
    record["clips"][0]["language"] = ["en"]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="its list of clips is damaged"):
        Shards(copy)
