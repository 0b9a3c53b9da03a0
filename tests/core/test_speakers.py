"""Speakers from the names of clips."""

from __future__ import annotations

import pytest

from cdslm_eval.core.clips import ClipSet, Source
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.speakers import speakers_from


def clips(*paths, name="real"):
    return ClipSet(name, [Source(key=path, path=path) for path in paths])


def speakers(clip_set):
    return [source.speaker for source in clip_set.sources]


def test_a_pattern_reads_the_speaker_of_each_name():
    real = clips("x/84-121-0003.flac", "x/84-122-0001.flac", "y/174-5-0000.flac")
    assert speakers(speakers_from([real], "spk-chapter-utt")[0]) == ["84", "84", "174"]
    assert speakers(speakers_from([clips("a/utt7_p225_mic1.wav")], "utt_speaker_mic")[0]) == ["p225"]


def test_the_folder_may_be_the_speaker():
    assert speakers(speakers_from([clips("d/anna/1.wav", "d/ben/1.wav")], "folder")[0]) == ["anna", "ben"]


def test_a_set_of_other_names_keeps_its_speakers_and_a_mixed_one_is_refused():
    real, generated = clips("84-121-0003.flac"), clips("sample3.wav", name="system")
    assert speakers(speakers_from([real, generated], "spk-chapter-utt")[1]) == [None]
    with pytest.raises(UsageError, match=r"'b\.wav' does not fit"):
        speakers_from([clips("84-121-0003.flac", "b.wav")], "spk-chapter-utt")


@pytest.mark.parametrize("spec", ["chapter-utt", "spk-spk", "", "spk" * 100])
def test_a_pattern_names_the_speaker_once(spec):
    with pytest.raises(UsageError, match="name the speaker once"):
        speakers_from([clips("84-121-0003.flac")], spec)


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(UsageError, match="fits no clip"):
        speakers_from([clips("a.wav")], "spk-chapter-utt")
