"""Faults of an object store are named and counted, and no credential is printed."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from object_sets import SECRET, audio, put, tar_of

from cdslm_eval import ClipSet, score
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote import objects, paths
from cdslm_eval.core.remote.addresses import check_address
from cdslm_eval.run.clip_ranges import InProcess

pytest.importorskip("s3fs")


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
