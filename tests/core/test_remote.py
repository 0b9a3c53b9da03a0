"""Clips in an object store have the content of files, and are read by ranges."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
import soundfile as sf
from object_sets import SECRET, audio, put, tar_of, upload

from cdslm_eval import ClipSet, score
from cdslm_eval.core.remote import objects
from cdslm_eval.run.clip_ranges import InProcess

pytest.importorskip("s3fs")


def test_the_command_scores_objects_as_it_scores_files(bucket, tone_set, tmp_path):
    client, name = bucket
    folders = [tone_set("system", 4, 1), tone_set("real", 4, 2)]
    for folder in folders:
        upload(client, name, folder, f"sets/{folder.name}")
    system, real = (f"s3://{name}/sets/{folder.name}" for folder in folders)
    command = [sys.executable, "-m", "cdslm_eval", "score", system, "--reference", real, "--metrics", "pjsd,signal"]
    command += ["--recognizer", "sidecar", "--executor", "local", "--jobs", "2", "--json", "-", "--store", "s.cdslm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert SECRET.encode() not in (tmp_path / "s.cdslm").read_bytes()
    far = json.loads(result.stdout)
    here = score(
        folders[0],
        reference=folders[1],
        metrics="pjsd,signal",
        recognizer="sidecar",
        executor=InProcess(),
        store=tmp_path / "here.cdslm",
    ).as_json()
    values = [[(e["name"], e["value"], e["low"], e["n_scored"]) for e in entry["estimates"]] for entry in (far, here)]
    assert values[0] == values[1]
    digests = [{key: entry["digest"] for key, entry in side["settings"]["sets"].items()} for side in (far, here)]
    assert digests[0] == digests[1]


def test_each_kind_of_set_has_the_content_of_the_files(bucket, tmp_path):
    client, name = bucket
    files = {f"{number}.flac": audio(number) for number in range(3)}
    for key, content in files.items():
        put(client, name, f"wav/{key}", content)
    address = f"s3://{name}/wav"
    put(client, name, "lists/a.csv", f"path,key\n../wav/0.flac,0\n{address}/1.flac,1\n../wav/2.flac,2\n".encode())
    rows = [{"audio_filepath": f"{address}/{key}", "text": "one", "duration": 0.5} for key in files]
    put(client, name, "lists/b.json", "\n".join(map(json.dumps, rows)).encode())
    put(client, name, "shard.tar", tar_of([*files.items(), ("0.txt", b"zero")]))
    local = tmp_path / "here.csv"
    local.write_text(f"path\n{address}/0.flac\n{address}/1.flac\n{address}/2.flac\n")
    put(client, name, "kaldi/wav.scp", "".join(f"{n} {address}/{n}.flac\n" for n in range(3)).encode())
    put(client, name, "kaldi/segments", b"0-b 0 .25 .5\n")
    wanted = [sf.read(io.BytesIO(content), dtype="float32")[0] for content in files.values()]
    opened = [ClipSet.open(f"s3://{name}/{path}") for path in ("wav", "lists/a.csv", "lists/b.json", "shard.tar")]
    for clips in (*opened, ClipSet.open(local)):
        assert [clip.samples.tolist() for clip in clips] == [samples.tolist() for samples in wanted]
    assert opened[3][0].text == "zero"
    (part,) = ClipSet.open(f"s3://{name}/kaldi/wav.scp")
    assert part.samples.tolist() == wanted[0][4000:].tolist()


def test_listing_and_asking_give_one_stamp(bucket):
    client, name = bucket
    paths = [f"s3://{name}/x/c{number:02d}.flac" for number in range(24)]
    for number in range(23):
        put(client, name, f"x/c{number:02d}.flac", bytes(number))
    store = objects.ObjectStore.of("s3")
    stamps = dict(store.stamps(paths))
    assert stamps == {path: store.stamp(path) for path in paths[:23]}
    assert dict(store.stamps(paths[21:])) == {path: stamps[path] for path in paths[21:23]}
    assert len(set(stamps.values())) == 23


def test_tables_are_read_by_their_row_groups(bucket, requests):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    client, name = bucket
    # noise, which FLAC does not make smaller
    structs = [{"bytes": audio(number, seconds=4.0), "path": f"{number}.flac"} for number in range(8)]
    file = io.BytesIO()
    pq.write_table(pa.table({"audio": structs}), file, row_group_size=2)
    put(client, name, "t.parquet", file.getvalue())

    def n_read():
        ends = [part.removeprefix("bytes=").split("-") for operation, _, part in requests[0] if part]
        return sum(min(int(end), len(file.getvalue()) - 1) - int(start) + 1 for start, end in ends)

    clips = ClipSet.open(f"s3://{name}/t.parquet")
    assert 0 < n_read() < len(file.getvalue()) / 3
    assert clips[5].samples.tolist() == sf.read(io.BytesIO(structs[5]["bytes"]), dtype="float32")[0].tolist()
    assert n_read() < len(file.getvalue()) * 2 / 3


def test_objects_are_prepared_once_wherever_the_command_runs_and_a_changed_one_is_refused(
    bucket, tmp_path, monkeypatch
):
    pytest.importorskip("torch")
    from cdslm_model.data.mel import MelSpec
    from cdslm_model.data.prepare import prepare
    from cdslm_model.errors import DataError
    from cdslm_model.plugin.recordings import recordings

    client, name = bucket
    for number in range(2):
        put(client, name, f"speech/{number}.flac", audio(number))

    def prepared():
        (clips,) = recordings([f"s3://{name}/speech"]).values()
        return prepare(clips, tmp_path / "shards", MelSpec())

    assert prepared().added == 2
    monkeypatch.chdir(tmp_path)
    assert prepared().added == 0
    put(client, name, "speech/1.flac", audio(5))
    with pytest.raises(DataError, match="changed since"):
        prepared()
