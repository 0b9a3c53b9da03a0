"""An S3 server of the test's own process, and the requests that reach it."""

from __future__ import annotations

import pytest
from object_sets import SECRET

from cdslm_eval.core.remote import objects


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
