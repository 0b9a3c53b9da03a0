"""Clips are encoded and written beside the generator, and none that was generated is lost."""

from __future__ import annotations

import itertools
import json
import threading

import numpy as np
import pytest

from cdslm_eval import api
from cdslm_eval.core.audio import Clip, content_digest, flac_bytes
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.clip_parts import ClipPart, PartialGenerator
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
    started = threading.Event()

    def slowly(clip):
        threads.add(threading.get_ident())
        # the first is not written before the last one is generated
        if clip.number == 0:
            assert started.wait(10)
        return encoded(clip)

    monkeypatch.setattr(GeneratedClip, "encoded", slowly)
    added, add = [], clip_writing.ClipWriter.add

    def counted(writer, clip):
        add(writer, clip)
        added.append(clip.number)
        if len(added) == Interrupted.after:
            started.set()

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


class InParts(Interrupted, PartialGenerator):
    """Yields clips in unequal parts, two clips in turn; of one clip a part is too loud for a file."""

    name = "in-parts"
    after, loud = None, None

    def clip_parts(self, prompts, numbers, seconds, seed):
        clips = list(self.clip_range(prompts, numbers, seconds, seed))
        cuts = [0, 100, 101, 650, 800]
        for first, stop in itertools.pairwise(cuts):
            for number, clip in zip(numbers, clips, strict=True):
                samples = clip.samples[first:stop] * (100 if number == self.loud and first == 101 else 1)
                part = Clip(key=clip.key, samples=samples, rate_hz=8000, digest="")
                yield ClipPart(number, part, stop == 800)


class Loud(InParts):
    """Its second clip has a part of another scale."""

    name = "loud"
    loud = 1


def test_a_clip_in_parts_is_the_file_of_the_whole(tmp_path):
    api.generate(InParts, tmp_path / "parts", count=3, seconds=0.1)
    api.generate(Interrupted, tmp_path / "whole", count=3, seconds=0.1)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == names
    for number in range(3):
        content = (tmp_path / "parts" / f"{number:05d}.flac").read_bytes()
        assert content == (tmp_path / "whole" / f"{number:05d}.flac").read_bytes()
        assert content == flac_bytes(np.full(800, 0.1, np.float32) * np.float32(number + 1), 8000)
    assert (tmp_path / "parts" / "manifest.jsonl").read_bytes() == (tmp_path / "whole" / "manifest.jsonl").read_bytes()


def test_a_part_that_no_file_holds_fails_its_clip_and_leaves_nothing_that_is_read_as_one(tmp_path):
    folder = tmp_path / "clips"
    with pytest.raises(EvalError, match="clip '1' of the generator: samples of up to 20, where full scale is 1"):
        api.generate(Loud, folder, count=3, seconds=0.1)
    assert "00001.flac" not in {path.name for path in folder.iterdir()}
    assert not list(folder.glob("*.part"))
    # what a kill leaves of a file is no clip, and gone when the folder is complete
    (folder / "00002.flac.part").write_bytes(b"fLaC")
    (folder / "00007.flac.part").write_bytes(b"fLaC")
    Loud.loud = None
    try:
        api.generate(Loud, folder, count=3, seconds=0.1)
    finally:
        Loud.loud = 1
    assert sorted(path.name for path in folder.glob("*.flac*")) == ["00000.flac", "00001.flac", "00002.flac"]
