"""Clips are encoded and written beside the generator, and none that was generated is lost."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from cdslm_eval import api
from cdslm_eval.core.audio import Clip, content_digest
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import GeneratorInfo, RangeGenerator
from cdslm_eval.run import clip_writing
from cdslm_eval.run.clip_ranges import GeneratedClip


class Interrupted(RangeGenerator):
    """Yields some clips, then is interrupted."""

    name = "interrupted"
    version = "1"
    after, bad = 5, None

    def info(self):
        return GeneratorInfo(rate_hz=8000)

    def clip_range(self, prompts, numbers, seconds, seed):
        for number in numbers:
            if number == self.after:
                raise KeyboardInterrupt
            samples = np.full(800, 0.1, np.float32) * np.float32(number + 1)
            if number == self.bad:
                samples[0] = np.nan
            yield Clip(key=str(number), samples=samples, rate_hz=8000, digest=content_digest(samples, 8000))


class Broken(Interrupted):
    """Its second clip is no sound."""

    name = "broken"
    after, bad = None, 1


def test_an_interruption_waits_for_what_was_generated(tmp_path, monkeypatch):
    threads, encoded = set(), GeneratedClip.encoded
    begun = threading.Event()

    def slowly(clip):
        threads.add(threading.get_ident())
        # the first is not written before the last one is generated
        if clip.number == 0:
            assert begun.wait(10)
        return encoded(clip)

    monkeypatch.setattr(GeneratedClip, "encoded", slowly)
    added, add = [], clip_writing.ClipWriter.add

    def counted(writer, clip):
        add(writer, clip)
        added.append(clip.number)
        if len(added) == Interrupted.after:
            begun.set()

    monkeypatch.setattr(clip_writing.ClipWriter, "add", counted)
    with pytest.raises(KeyboardInterrupt):
        api.generate(Interrupted, tmp_path / "clips", count=9, seconds=0.1)
    assert threading.get_ident() not in threads
    lines = (tmp_path / "clips" / "manifest.part.jsonl").read_text().splitlines()[1:]
    assert [json.loads(line)["path"] for line in lines] == [f"{number:05d}.flac" for number in range(5)]


def test_a_clip_that_cannot_be_encoded_is_reported_and_the_others_are_kept(tmp_path):
    with pytest.raises(EvalError, match="clip '1' of the generator: samples that are not finite"):
        api.generate(Broken, tmp_path / "clips", count=3, seconds=0.1)
    assert (tmp_path / "clips" / "00000.flac").is_file()
