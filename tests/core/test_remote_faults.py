"""Objects that are streamed to a decoder: a request that fails, or another recording meanwhile, is no shorter clip."""

from __future__ import annotations

import datetime as dt
import hashlib
import io

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval import ClipSet, score
from cdslm_eval.core.audio import read_blocks
from cdslm_eval.core.channels import read_channels
from cdslm_eval.core.errors import AudioError
from cdslm_eval.core.remote import objects
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span
from cdslm_eval.core.windows import header_seconds
from cdslm_eval.run.clip_ranges import InProcess

s3fs = pytest.importorskip("s3fs")
PATH = "s3://bucket/long.wav"
RATE_HZ, SECONDS = 16000, 34.0


class Bucket:
    """Answers what s3fs asks of S3 from memory: each of many ranges is to fail once, which a server takes long for.

    Attributes:
        content: Of the one object.
        ranges: First bytes of the ranges that were read.
        before: Called with the first byte of a range before it is read; raises where it is to fail.
    """

    def __init__(self, content):
        self.content, self.ranges, self.before = content, [], lambda start: None

    async def answer(self, operation, *_, **options):
        start, end = 0, 0
        if operation == "get_object":
            start, end = map(int, options["Range"].removeprefix("bytes=").split("-"))
            self.before(start)
            self.ranges.append(start)
        return {
            "ETag": hashlib.md5(self.content[:100]).hexdigest(),
            "LastModified": dt.datetime(2026, 1, 1),
            "ContentLength": len(self.content),  # of the whole: asked for with "head_object" alone
            "ContentRange": f"bytes {start}-{end}/{len(self.content)}",
            "Body": Body(self.content, start, end),
        }


class Body:
    """The body of an answer."""

    def __init__(self, content, start, end):
        self.content = content[start : end + 1]

    async def read(self):
        return self.content

    def close(self):
        pass


def recording(seed, seconds):
    """Return a WAV of eight channels of 32 bits: of many bytes and few seconds, all of one length of one size."""
    file = io.BytesIO()
    samples = np.random.default_rng(seed).integers(-1 << 26, 1 << 26, (int(seconds * RATE_HZ), 8), dtype=np.int32)
    sf.write(file, samples, RATE_HZ, format="WAV", subtype="PCM_32")
    return file.getvalue()


@pytest.fixture(scope="module")
def long():
    """Return a recording that is over 16 MiB, so that it is streamed."""
    content = recording(1, SECONDS)
    assert len(content) > objects.WHOLE_BYTES
    return content


@pytest.fixture
def bucket(long, monkeypatch):
    bucket = Bucket(long)

    async def call(_, operation, *facts, **options):
        return await bucket.answer(operation, *facts, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    objects._store.cache_clear()
    yield bucket
    objects._store.cache_clear()


def fail_at(first):
    def before(start):
        if start == first:
            raise ConnectionError("of the library")

    return before


def n_samples(path=PATH):
    return sum(len(block.samples) for block in read_blocks(path))


def test_whichever_range_fails_the_recording_is_never_a_shorter_one(bucket):
    assert n_samples() == int(SECONDS * RATE_HZ)
    ranges = sorted(set(bucket.ranges))
    assert len(ranges) > 30
    for first in ranges:
        bucket.before = fail_at(first)
        with pytest.raises(AudioError, match="cannot be reached"):
            n_samples()
        if first in ranges[::8]:
            with pytest.raises(AudioError, match="cannot be reached"):
                read_channels(Source("long", PATH))
    # of the header alone, the first range is read
    bucket.before = fail_at(0)
    with pytest.raises(AudioError, match="cannot be reached"):
        header_seconds(Source("long", PATH))


def test_nothing_of_an_outage_is_stored(bucket, tmp_path):
    (tmp_path / "a.csv").write_text(f"path\n{PATH}\n")
    n_samples()
    ranges = sorted(set(bucket.ranges))

    def duration():
        options = {"metrics": "signal", "executor": InProcess(), "store": tmp_path / "s.cdslm"}
        result = score(ClipSet.open(tmp_path / "a.csv"), **options)
        return next(estimate for estimate in result.estimates if estimate.name == "duration")

    # a piece of 65536 samples, of 2 MiB, ends where the first of these begins: there the decoder sees the end
    for first in ranges[4:6]:
        bucket.before = fail_at(first)
        assert (duration().n_scored, duration().n_failed) == (0, 1)
    bucket.before = lambda start: None
    assert (duration().n_scored, duration().value) == (1, SECONDS)


def test_another_recording_of_the_same_size_meanwhile_is_not_joined_to_the_first(bucket, long):
    other = recording(2, SECONDS)
    assert len(other) == len(long)
    n_samples()
    for first in sorted(set(bucket.ranges))[1::8]:
        bucket.content = long

        def replace(start, first=first):
            if start == first:
                bucket.content = other

        bucket.before = replace
        for read in (n_samples, lambda: read_channels(Source("long", PATH))):
            bucket.content = long
            with pytest.raises(AudioError, match="changed while it was read"):
                read()
    bucket.before = lambda start: None
    assert n_samples() == int(SECONDS * RATE_HZ)


def test_channels_of_a_span_past_the_end_are_refused_as_the_clip_is(tmp_path):
    path = str(tmp_path / "two.wav")
    sf.write(path, np.full((RATE_HZ, 2), 0.1), RATE_HZ)
    channels, rate_hz = read_channels(Source("k", path, Span.between(0.25, 1.005)))
    assert [len(channel) / rate_hz for channel in channels] == [0.75, 0.75]
    for span, reason in (
        (Span.between(0.25, 9.0), "ends at 9 s, but its recording at 1.00 s"),
        (Span.between(1.5, 9.0), r"starts at 1\.5 s, but its recording ends at 1\.00 s"),
    ):
        with pytest.raises(AudioError, match=reason):
            read_channels(Source("k", path, span))
        with pytest.raises(AudioError, match=reason):
            list(read_blocks(path, span=span))
