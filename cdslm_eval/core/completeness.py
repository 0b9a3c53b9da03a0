"""Compares the length that a sound file declares with what is there: a cut file is no short clip."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

__all__ = ["truncation"]

_TOLERANCE_S = 0.01
"""Shortest missing end that counts: some writers count a pad byte or a last block that they do not write."""
_STREAMED = 0x7FFF0000
"""Sizes from here on stand for "not known", as programs write them that cannot go back to the header."""
_OGG_TAIL = 1 << 17  # no Ogg page is longer than 65,307 bytes
_MAX_CHUNKS = 1000


def truncation(path: Path | str, opened: BinaryIO | None = None) -> str:
    """Return how a file ends before its header says, or "" where it is whole or declares no length.

    Read are the sizes of the data chunk of RIFF WAV, Wave64 and AU files and of the sound chunk of AIFF files, the
    end-of-stream mark of the last Ogg page (Vorbis, Opus, FLAC in Ogg), and the byte count of the Xing, Info or VBRI
    frame of MP3 files. No audio is decoded. Sizes that stand for "not known" (0, 0xFFFFFFFF and the like, RF64) are no
    declaration.

    Args:
        path: The file.
        opened: What is read in its place, and left at its beginning: a part of `path`, or an object.

    Source: RIFF (Microsoft, 1991), AIFF (Apple, 1989), Sony Wave64, Sun/NeXT AU, RFC 3533 (Ogg), RFC 7845 (Opus), the
    Xing VBR header.
    """
    try:
        # as bytes: a name need not be UTF-8
        with open(os.fsencode(path), "rb") if opened is None else nullcontext(opened) as file:  # noqa: PTH123
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            for magic, read in _READERS.items():
                if head.startswith(magic):
                    return read(file, size)
    except (OSError, ValueError, struct.error, ZeroDivisionError, OverflowError):
        return ""  # whether it can be read at all is the decoder's question
    finally:
        if opened is not None:
            opened.seek(0)
    return ""


def _sentence(there: float, declared: float, seconds_per_unit: float) -> str:
    if (declared - there) * seconds_per_unit <= _TOLERANCE_S:
        return ""
    return (
        f"ends before its header says: {max(0.0, there) * seconds_per_unit:.2f} of {declared * seconds_per_unit:.2f} s"
    )


def _riff(file: BinaryIO, size: int) -> str:
    bytes_a_second, offset = 0, 12
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            bytes_a_second = struct.unpack("<8xI", file.read(12))[0]
        if name == b"data":
            known = 0 < length < _STREAMED
            return _sentence(size - offset - 8, length, 1 / bytes_a_second) if known else ""
        offset += 8 + length + length % 2
    return ""


def _aiff(file: BinaryIO, size: int) -> str:
    bytes_a_second, offset = 0.0, 12
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        name, length = struct.unpack(">4sI", file.read(8))
        if name == b"COMM":
            channels, _frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", file.read(18))
            # the rate is an 80-bit float: an exponent with an offset of 16383, and a mantissa of 64 bits
            bytes_a_second = channels * ((bits + 7) // 8) * mantissa / 2.0 ** (63 - (exponent & 0x7FFF) + 16383)
        if name == b"SSND":
            return _sentence(size - offset - 16, length - 8, 1 / bytes_a_second) if 8 < length < _STREAMED else ""
        offset += 8 + length + length % 2
    return ""


def _wave64(file: BinaryIO, size: int) -> str:
    bytes_a_second, offset = 0, 40
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        name, length = struct.unpack("<4s12xQ", file.read(24))
        if name == b"fmt ":
            bytes_a_second = struct.unpack("<8xI", file.read(12))[0]
        if name == b"data":
            known = 24 < length < 1 << 62
            return _sentence(size - offset - 24, length - 24, 1 / bytes_a_second) if known else ""
        offset += (length + 7) // 8 * 8
        if length < 24:
            return ""
    return ""


def _au(file: BinaryIO, size: int) -> str:
    file.seek(0)
    order = ">" if file.read(4) == b".snd" else "<"
    start, length, encoding, rate_hz, channels = struct.unpack(f"{order}5I", file.read(20))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(encoding)
    if width is None or not 0 < length < _STREAMED:
        return ""
    return _sentence(size - start, length, 1 / (width * channels * rate_hz))


def _ogg(file: BinaryIO, size: int) -> str:
    file.seek(max(0, size - _OGG_TAIL))
    tail = file.read()
    offset, end, ended = tail.rfind(b"OggS"), len(tail), False
    while offset >= 0:
        page = tail[offset : offset + 27 + 255]
        if len(page) >= 27 and page[4] == 0:
            segments = page[26]
            body = sum(page[27 : 27 + segments])
            whole = len(page) >= 27 + segments and offset + 27 + segments + body <= end
            # the mark of the last page counts only where the page is there to its end
            ended = whole and bool(page[5] & 4)
            break
        offset = tail.rfind(b"OggS", 0, offset)
    if offset < 0 or ended:
        return ""
    return "ends before its last Ogg page, which marks the end of the stream"


def _mp3(file: BinaryIO, size: int) -> str:
    file.seek(0)
    start = 0
    head = file.read(10)
    if head.startswith(b"ID3"):
        a, b, c, d = head[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 16 else 0)
    file.seek(start)
    frame = file.read(200)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return ""
    version, rate_index, mono = frame[1] >> 3 & 3, frame[2] >> 2 & 3, frame[3] >> 6 == 3
    if version == 1 or rate_index == 3:
        return ""
    rate_hz = (44100, 48000, 32000)[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    samples_a_frame = 1152 if version == 3 else 576
    offset = 4 + ({True: 17, False: 32} if version == 3 else {True: 9, False: 17})[mono]
    if frame[offset : offset + 4] in (b"Xing", b"Info"):
        flags = struct.unpack(">I", frame[offset + 4 : offset + 8])[0]
        if flags & 3 != 3:
            return ""
        frames, length = struct.unpack(">2I", frame[offset + 8 : offset + 16])
    elif frame[36:40] == b"VBRI":
        length, frames = struct.unpack(">2I", frame[46:54])
    else:
        return ""
    if not 0 < length < _STREAMED or not frames > 0:
        return ""
    return _sentence(size - start, length, frames * samples_a_frame / rate_hz / length)


_READERS: dict[bytes, Callable[[BinaryIO, int], str]] = {
    b"RIFF": _riff,
    b"FORM": _aiff,
    b"riff": _wave64,
    b".snd": _au,
    b"dns.": _au,
    b"OggS": _ogg,
    b"ID3": _mp3,
    b"\xff": _mp3,
}
