"""Metrics that misbehave, importable by worker processes."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from cdslm_eval import EvalError, Mean, Metric, PairwiseDistance, Recognizer, Transcriber


class _Plain(Metric):
    version = "1"
    statistics: ClassVar = {"x": Mean("x")}

    def measure(self, clips):
        for clip in clips:
            yield {"x": self.one(clip)}

    def one(self, clip):
        return float(np.sum(clip.samples, dtype=np.float64))


class Batched(_Plain):
    """Likes four clips at once."""

    name = "sums"
    batch_clips = 4


class OneByOne(_Plain):
    """The same, one by one."""

    name = "sums"


class Hangs(_Plain):
    """Never comes back from one clip."""

    name = "hangs"
    batch_clips = 5

    def one(self, clip):
        if clip.key == "c02":
            time.sleep(600)
        return super().one(clip)


class Dies(_Plain):
    """Takes its process down at one clip."""

    name = "dies"
    batch_clips = 5

    def one(self, clip):
        if clip.key == "c02":
            os._exit(7)
        return super().one(clip)


class Raises(_Plain):
    """Raises at one clip, only after the whole batch was looked at."""

    name = "raises"
    batch_clips = 3

    def measure(self, clips):
        rows = [{"x": self.one(clip)} for clip in clips]
        if any(clip.key == "c02" for clip in clips):
            raise ValueError("not this one")
        yield from rows


class Nan(_Plain):
    """Gives NaN."""

    name = "nan"

    def one(self, clip):
        return float("nan")


class Lacks(_Plain):
    """Gives a row without its column."""

    name = "lacks"

    def measure(self, clips):
        for _ in clips:
            yield {"y": 1.0}


class CannotOpen(_Plain):
    """Has no weights."""

    name = "cannot_open"

    @contextmanager
    def open(self, device):
        raise EvalError("weights.bin is missing; download it")
        yield


class Weighted(_Plain):
    """Has weights where it is made, and nowhere else."""

    name = "weighted"

    def __init__(self, options=None):
        super().__init__(options)
        self._made_in = os.getpid()

    def fingerprint(self):
        if os.getpid() != self._made_in:
            raise EvalError(f"process {os.getpid()} has no weights")
        return {"weights": "0123"}


class Choosy(_Plain):
    """Wants a quarter of a second of sound."""

    name = "choosy"
    min_seconds = 0.25
    accepts_silence = False


class NeedsText(_Plain):
    """Wants text."""

    name = "needs_text"
    needs = frozenset({"audio", "text"})


class Slow(_Plain):
    """Takes a while for each clip."""

    name = "slow"

    def one(self, clip):
        time.sleep(0.1)
        return super().one(clip)


class _Flaky:
    """Fails where FLAKY names it: at opening ("open"), as a model on a full GPU, or at the second clip ("clip")."""

    @contextmanager
    def open(self, device):
        if _fails(self, "open"):
            raise RuntimeError("CUDA out of memory")
        yield


def _fails(measurer, where):
    return f"{measurer.name}:{where}" in os.environ.get("FLAKY", "").split()


class Flaky(_Flaky, Recognizer):
    """Reports the letters of the key."""

    name = "flaky"
    inventory = "letters"

    def recognize(self, clips):
        for clip in clips:
            if clip.key.endswith("01") and _fails(self, "clip"):
                raise RuntimeError("CUDA out of memory")
            yield list(clip.key)


class FlakyReader(Flaky):
    """Reports the letters of the transcript."""

    name = "reader"
    needs = frozenset({"transcript"})


class FlakyTranscriber(_Flaky, Transcriber):
    """Writes the key."""

    name = "writer"

    def transcribe(self, clips):
        for clip in clips:
            if clip.key.endswith("01") and _fails(self, "clip"):
                raise RuntimeError("CUDA out of memory")
            yield clip.key


class FlakyEncoder(_Flaky, Metric):
    """Embeds a clip by its first samples."""

    name = "encoder"
    version = "1"
    statistics: ClassVar = {"spread": PairwiseDistance("embedding")}

    def measure(self, clips):
        for clip in clips:
            if clip.key.endswith("01") and _fails(self, "clip"):
                raise RuntimeError("CUDA out of memory")
            yield {"embedding": np.asarray(clip.samples[:4], np.float32)}


class OnDevice(Recognizer):
    """Reports the letters of the key; dies at one clip and raises at another.

    On the devices "fake:N", each of which fits N + 1 clips, it waits at first for its other device and for
    `BesideDevices`, and notes its batch sizes in the folder DEVICES.
    """

    name = "on_device"
    inventory = "letters"
    batch_clips = 4

    @contextmanager
    def open(self, device):
        self.fits, self.folder = 4, None
        if device.startswith("fake:"):
            self.fits, self.folder = int(device[-1]) + 1, Path(os.environ["DEVICES"])
            (self.folder / f"opened-{device}").touch()
        yield

    def recognize(self, clips):
        if self.folder:
            _wait_for(self.folder / "opened-fake:0", self.folder / "opened-fake:1", self.folder / "beside")
            with (self.folder / f"sizes-{self.fits}-{os.getpid()}").open("a") as file:
                file.write(f"{len(clips)} ")
        if len(clips) > self.fits:
            raise RuntimeError("CUDA out of memory")
        for clip in clips:
            if clip.key == "c02":
                os._exit(7)
            if clip.key == "c03":
                raise ValueError("not this one")
            yield list(clip.key)


def _wait_for(*paths):
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in paths):
        if time.monotonic() > deadline:
            raise TimeoutError(f"none of {paths} came")
        time.sleep(0.02)


class BesideDevices(_Plain):
    """Needs no device; it notes when it has measured the last clip."""

    name = "beside"

    def one(self, clip):
        if clip.key == "c39":
            Path(os.environ["DEVICES"], "beside").touch()
        return super().one(clip)


class CountsPhones(_Plain):
    """Counts phones."""

    name = "counts_phones"
    needs = frozenset({"audio", "phones"})

    def one(self, clip):
        return float(len(clip.phones))


class CountsWords(_Plain):
    """Counts letters of transcripts."""

    name = "counts_words"
    needs = frozenset({"audio", "transcript"})

    def one(self, clip):
        return float(len(clip.transcript))


class Chatty(_Plain):
    """Prints while it measures, from Python and from below it."""

    name = "chatty"

    def one(self, clip):
        print("a plugin's print")
        os.write(1, b"a library's printf\n")
        return super().one(clip)
