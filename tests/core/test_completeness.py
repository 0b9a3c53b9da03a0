"""Files that end before their header says: every container that declares a length, cut and whole, and unknown sizes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile as sf

from cdslm_eval.core.audio import read_audio
from cdslm_eval.core.completeness import truncation
from cdslm_eval.core.errors import AudioError

SECONDS, RATE_HZ = 2.0, 16000
DECLARING = {
    "wav": ("WAV", "PCM_16"), "float.wav": ("WAV", "FLOAT"), "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "extensible.wav": ("WAVEX", "PCM_24"), "w64": ("W64", "PCM_16"), "au": ("AU", "PCM_16"), "ulaw.au": ("AU", "ULAW"),
    "aiff": ("AIFF", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


@pytest.fixture
def written(tmp_path):
    """Return a function that writes noise in a container."""

    def write(name, container, subtype, seconds=SECONDS, channels=1):
        samples = 0.1 * np.random.default_rng(0).standard_normal((int(seconds * RATE_HZ), channels))
        path = tmp_path / f"a.{name}"
        sf.write(path, samples, RATE_HZ, format=container, subtype=subtype)
        return path

    return write


@pytest.mark.parametrize("name", DECLARING)
def test_a_cut_file_is_refused_and_a_whole_one_is_not(written, name):
    path = written(name, *DECLARING[name])
    assert truncation(path) == ""
    assert len(read_audio(path).samples) >= SECONDS * RATE_HZ
    whole = path.read_bytes()
    path.write_bytes(whole[: int(0.6 * len(whole))])
    with pytest.raises(AudioError, match=r"ends before its (header says: 1.2. of 2... s|last Ogg page)"):
        read_audio(path)
    cut = read_audio(path, allow_truncated=True)
    assert 0.3 * SECONDS < len(cut.samples) / RATE_HZ < 0.7 * SECONDS
    assert cut.truncated == truncation(path) != ""


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_sizes_that_stand_for_unknown_are_legal(written, length):
    path = written("wav", "WAV", "PCM_16")
    data = bytearray(path.read_bytes())
    offset = data.index(b"data")
    data[offset + 4 : offset + 8] = struct.pack("<I", length)
    path.write_bytes(data)
    assert truncation(path) == ""
    au = written("au", "AU", "PCM_16")
    data = bytearray(au.read_bytes())
    data[8:12] = struct.pack(">I", 0xFFFFFFFF)
    au.write_bytes(data[:-100])
    assert truncation(au) == ""


def test_chunks_before_the_data_and_tags_after_it_do_not_count(written):
    path = written("wav", "WAV", "PCM_16")
    data = path.read_bytes()
    head, body = data[:12], data[12:]
    path.write_bytes(head + b"LIST" + struct.pack("<I", 7) + b"x" * 8 + body + b"id3 junk after the data")
    assert truncation(path) == ""
    path.write_bytes((head + b"LIST" + struct.pack("<I", 7) + b"x" * 8 + body)[:-8000])
    assert truncation(path) == "ends before its header says: 1.75 of 2.00 s"
    mp3 = written("mp3", "MP3", "MPEG_LAYER_III")
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 72]) + bytes(200)  # sizes of tags have 7 bits a byte: 200
    mp3.write_bytes(tag + mp3.read_bytes() + b"TAG" + bytes(125))
    assert truncation(mp3) == ""
    mp3.write_bytes(mp3.read_bytes()[:-6000])
    assert "ends before its header says" in truncation(mp3)


def test_headers_that_are_nonsense_are_left_to_the_decoder(tmp_path):
    rng = np.random.default_rng(1)
    for magic in (b"RIFF", b"FORM", b"riff", b".snd", b"dns.", b"OggS", b"ID3", b"\xff\xfb"):
        for size in (0, 3, 20, 64, 300):
            path = tmp_path / "x"
            path.write_bytes(magic + rng.integers(0, 256, size, dtype=np.uint8).tobytes())
            assert isinstance(truncation(path), str)
            with pytest.raises(AudioError):
                read_audio(path)
    assert truncation(tmp_path / "absent") == ""
    assert truncation(tmp_path) == ""
