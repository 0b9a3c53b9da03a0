"""Clips in an object store: the content of files, read by ranges; faults named and counted, no credential written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import ClipSet, score
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.remote import objects, paths, prefetch
from cdslm_eval.core.remote.addresses import check_address
from cdslm_eval.core.spans import Address
from cdslm_eval.core.storage import Stamp
from cdslm_eval.plugin.execution import Executor, Finished, Produced

pytest.importorskip("s3fs")
SECRET = "wJalrXUtnFEMI"


@pytest.fixture(scope="module")
def server():
    """Return the endpoint of an S3 server of this process, and its client."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    endpoint = "http://{}:{}".format(*moto.get_host_and_port())
    options = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    yield endpoint, boto3.client("s3", endpoint_url=endpoint, **options)
    moto.stop()


@pytest.fixture
def at(monkeypatch):
    """Return a function that names the endpoint of S3 for this test."""

    def use(endpoint):
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", endpoint),
        ):
            monkeypatch.setenv(name, value)
        objects._store.cache_clear()

    yield use
    objects._store.cache_clear()


@pytest.fixture
def bucket(server, at, request):
    """Return the client and the name of a bucket of the test's own."""
    endpoint, client = server
    at(endpoint)
    name = f"b{abs(hash(request.node.name)):x}"[:20]
    client.create_bucket(Bucket=name)
    return client, name


@pytest.fixture
def requests(monkeypatch):
    """Return the requests to S3 as (operation, key, range), and a list of what is called with each beforehand."""
    import s3fs

    log, hooks, call = [], [], s3fs.S3FileSystem._call_s3

    async def logged(files, operation, *facts, **options):
        request = operation, options.get("Key", ""), options.get("Range", "")
        log.append(request)
        for hook in hooks:
            hook(*request)
        return await call(files, operation, *facts, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", logged)
    return log, hooks


class InProcess(Executor):
    """Works in the process of the test: starting others takes seconds."""

    name = "in-process"

    def run(self, worker, next_task, jobs):
        with worker.open() as work:
            while (task := next_task()) is not None:
                yield from (Produced(task.ident, value) for value in work(task.payload))
                yield Finished(task.ident)


def put(client, bucket, key, content):
    client.put_object(Bucket=bucket, Key=key, Body=content)


def upload(client, bucket, folder, prefix):
    for path in sorted(folder.iterdir()):
        put(client, bucket, f"{prefix}/{path.name}", path.read_bytes())


def audio(number, kind="FLAC", seconds=0.5):
    rng, file = np.random.default_rng(number), io.BytesIO()
    sf.write(file, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000, format=kind)
    return file.getvalue()


def tar_of(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


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


def test_faults_of_objects_are_counted_and_nothing_else_is_lost(bucket, requests, tmp_path, caplog):
    client, name = bucket
    hostile = [
        "..",
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "a?b",
        "x#t=1",
        "#bytes=0,5",
        "'; DROP TABLE rows--",
    ]
    for number, key in enumerate(hostile):
        put(client, name, f"set/{key}.flac", audio(number))
    put(client, name, "set/gone.flac", audio(50))
    put(client, name, "set/text.flac", b"no audio")
    put(client, name, "set/empty.flac", b"")
    shard = tar_of([(f"{n}.wav", audio(60 + n, "WAV")) for n in range(3)])
    put(client, name, "cut.tar", shard[:25_000])
    put(client, name, "changing.tar", shard)
    sets = {
        "folder": ClipSet.open(f"s3://{name}/set", "folder"),
        "cut": ClipSet.open(f"s3://{name}/cut.tar", "cut"),
        "changed": ClipSet.open(f"s3://{name}/changing.tar", "changed"),
    }
    assert "the archive is cut or damaged after 2 members" in caplog.text
    client.delete_object(Bucket=name, Key="set/gone.flac")
    put(client, name, "changing.tar", tar_of([(f"{n}.wav", audio(70 + n, "WAV")) for n in range(3)]))
    result = score(sets, metrics="signal", store=tmp_path / "s.cdslm", executor=InProcess())
    counts = {e.system: (e.n_scored, e.n_failed) for e in result.estimates if e.name == "duration"}
    assert counts == {"folder": (len(hostile), 3), "cut": (1, 1), "changed": (0, 3)}
    reasons = {(failure.system, failure.clip): failure.reason for failure in result.failures}
    assert "no such object" in reasons["folder", "gone"]
    assert "its archive is cut" in reasons["cut", "1"]
    assert "changed since the set was opened" in reasons["changed", "0"]
    # another recording under one address is measured, an unchanged one is not read again
    put(client, name, "set/a?b.flac", audio(80, seconds=1.0))
    requests[0].clear()
    result = score(sets["folder"], metrics="signal", store=tmp_path / "s.cdslm", executor=InProcess())
    duration = next(e for e in result.estimates if e.name == "duration")
    assert duration.value == pytest.approx((0.5 * (len(hostile) - 1) + 1.0) / len(hostile))
    read = {key for operation, key, _ in requests[0] if operation == "get_object"}
    assert "set/a?b.flac" in read
    assert read.isdisjoint(f"set/{key}.flac" for key in hostile if key != "a?b")


def test_a_text_that_cannot_be_read_is_named_and_one_that_is_gone_is_missing(bucket, requests, caplog):
    client, name = bucket
    for number in range(4):
        put(client, name, f"s/{number}.flac", audio(number, seconds=0.1))
        put(client, name, f"s/{number}.txt", f"text {number}".encode())
        put(client, name, f"s/{number}.phones", b"a b")
    failures = {"s/1.txt": PermissionError, "s/2.phones": PermissionError}

    def fail(operation, key, part):
        if operation == "get_object" and key in failures:
            raise failures[key]("of the library")

    requests[1].append(fail)
    for key in list(failures):
        with pytest.raises(UsageError, match=rf"{name}/{key}: cannot be read: the object store refuses access"):
            ClipSet.open(f"s3://{name}/s")
        failures[key] = FileNotFoundError
    caplog.clear()
    clips = ClipSet.open(f"s3://{name}/s")
    assert [source.text for source in clips.sources] == ["text 0", None, "text 2", "text 3"]
    assert [source.phones for source in clips.sources] == [("a", "b"), ("a", "b"), None, ("a", "b")]
    assert caplog.text.count("no such object") == 2


def test_a_list_that_is_replaced_while_it_is_read_is_none(bucket, requests, monkeypatch):
    client, name = bucket
    monkeypatch.setattr(paths, "_READ_AHEAD", 1 << 18)
    # more than is read at once, of one length and of rows that differ
    lists = [
        "path,text\n" + "".join(f"{number:06d}.wav,{word * 20}\n" for number in range(5000))
        for word in ("one ", "two ")
    ]
    put(client, name, "a.csv", lists[0].encode())
    read = []

    def replace(operation, key, part):
        if operation == "get_object":
            read.append(part)
            if len(read) == 2:
                put(client, name, key, lists[1].encode())

    requests[1].append(replace)
    with pytest.raises(UsageError, match="changed while it was read"):
        ClipSet.open(f"s3://{name}/a.csv")
    assert {source.text[:3] for source in ClipSet.open(f"s3://{name}/a.csv").sources} == {"two"}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(403, "the object store refuses access"), (None, "does not answer in time")],
)
def test_a_store_that_refuses_or_does_not_answer_is_named(status, sentence, at, monkeypatch):
    import s3fs

    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if status is None:
                released.wait(20)
                return
            body = f"<Error><Code>AccessDenied</Code><Message>{SECRET}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_):
            pass

    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    # a busy machine may take long to refuse
    limit_s = 0.3 if status is None else 30
    limits = {"connect_timeout": 30, "read_timeout": limit_s, "retries": {"max_attempts": 0}}
    monkeypatch.setattr(objects, "_S3_LIMITS", limits)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        at(f"http://127.0.0.1:{http.server_port}")
        with pytest.raises(UsageError, match=sentence) as caught:
            ClipSet.open("s3://bucket/set")
        released.set()
        http.shutdown()
    assert SECRET not in str(caught.value)


def test_missing_credentials_and_packages_are_named(at, monkeypatch, tmp_path):
    at("http://127.0.0.1:9")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no credentials for the object store"):
        ClipSet.open("s3://bucket/set")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UsageError, match=r"pip install 'cdslm-eval\[gs\]'"):
        ClipSet.open("gs://bucket/set.tar")


@pytest.mark.parametrize(
    "address",
    [
        f"s3://AKIA:{SECRET}@bucket/a",
        f"s3://bucket/a?X-Amz-Signature={SECRET}",
        f"https://u:{SECRET}@host/a?k={SECRET}",
        f"s3://AKIA:wJalr/{SECRET}@bucket/a",
        f"s3://AKIA:wJ?{SECRET}@bucket/a",
        f"hf://user:{SECRET}@datasets/owner/set/a",
        f"hf://{SECRET}@datasets/owner/set/a",
        f"s3://bucket?X-Amz-Signature={SECRET}/",
        f"https://host?sig={SECRET}/",
        f"https://u:pa/{SECRET}@host/a",
        f"https://u:{SECRET}/a",
    ],
)
def test_an_address_with_a_credential_is_refused_without_printing_it(address, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"path\n{address}\n")
    (tmp_path / "wav.scp").write_text(f"key {address}\n")
    for opened in (address, manifest, tmp_path / "wav.scp"):
        with pytest.raises(UsageError) as caught:
            ClipSet.open(opened)
        assert SECRET not in str(caught.value)
        assert "AKIA" not in str(caught.value)
    for sound in ("hf://datasets/owner/set@main/a.wav", "s3://bucket/a@b:c.wav", "hf://owner/model@v1/a.wav"):
        assert check_address(sound) == sound


def test_reading_ahead_keeps_the_order_and_a_bound_of_memory(monkeypatch):
    size, started, held = 8 << 20, [], []
    monkeypatch.setattr(
        prefetch,
        "_fetched",
        lambda address: started.append(1) or prefetch.Fetched(Stamp("s3", size, 0, 0, 1), bytes(size)),
    )
    addresses = [Address(f"s3://b/{number}") for number in range(40)]
    with prefetch.Prefetch(addresses) as ahead:
        for taken, address in enumerate(addresses):
            assert ahead.take(address).stamp.size == size
            held.append((len(started) - taken) * size)
    assert len(started) == 40
    assert max(held) <= prefetch._AHEAD_BYTES + objects.THREADS * objects.WHOLE_BYTES
    with prefetch.Prefetch([Address("/a.wav"), Address("s3://b/1")]) as ahead:
        assert ahead.take(Address("/a.wav")) is None
        monkeypatch.undo()


def test_a_failure_to_read_ahead_is_that_of_its_clip(monkeypatch):
    def fail(address):
        raise objects.RemoteError("no such object")

    monkeypatch.setattr(prefetch, "_fetched", fail)
    with prefetch.Prefetch([Address("s3://b/1")]) as ahead, pytest.raises(AudioError, match="no such object"):
        ahead.take(Address("s3://b/1"))


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
