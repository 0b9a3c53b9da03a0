"""Recorded speech as samples in one file on disk, from which excerpts are read without decoding again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cdslm_model.data.prepare import Recording
from cdslm_model.errors import DataError
from cdslm_model.files import no_room, read_json, sync, write_json, written_whole

__all__ = ["Excerpts", "Waveforms", "gather"]

_FULL_SCALE = 32767
_FACTS, _SAMPLES = "waveforms.json", "waveforms.i16"

Floats = npt.NDArray[np.float32]


class Waveforms:
    """Clips of one folder that `gather` wrote, as int16 on disk.

    Args:
        folder: Of the file and its list of clips.

    Attributes:
        folder: Where they are.
        rate_hz: Sampling rate.
        content: Digest of each clip's decoded content.
        seconds: Total duration.

    Raises:
        DataError: The file is missing or shorter than its list states.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = read_json(folder / _FACTS, DataError)
        path = folder / _SAMPLES
        try:
            clips: list[dict[str, Any]] = facts["clips"]
            self.rate_hz = int(facts["rate_hz"])
            self.content = {str(clip["digest"]) for clip in clips}
            lengths = np.array([clip["samples"] for clip in clips], np.int64)
            self._stored: npt.NDArray[np.int16] = np.memmap(path, "<i2", "r")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise DataError(f"{path}: missing or damaged ({error}); remove {folder} and repeat the command") from error
        self._ends = np.cumsum(lengths)
        if len(self._stored) != self._ends[-1]:
            raise DataError(
                f"{path}: holds {len(self._stored)} samples, its list {self._ends[-1]}; remove {folder} and repeat "
                "the command"
            )
        self.seconds = float(self._ends[-1]) / self.rate_hz

    def read(self, start: int, stop: int) -> Floats:
        """Return the samples start..stop of all clips in a row, float32 in -1..1."""
        return self._stored[start:stop].astype(np.float32) / np.float32(_FULL_SCALE)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Samples of each clip."""
        return np.diff(self._ends, prepend=0)


class Excerpts(Sequence[Floats]):
    """All excerpts of one length, each within a clip; item n is float32 `[samples]` in -1..1.

    Args:
        waveforms: The clips.
        samples: Length of an excerpt; shorter clips have none.

    Raises:
        DataError: Every clip is shorter.
    """

    def __init__(self, waveforms: Waveforms, samples: int) -> None:
        self._waveforms, self.samples = waveforms, samples
        lengths = waveforms.lengths
        self._before = np.cumsum(lengths) - lengths
        self._ends = np.cumsum(np.maximum(0, lengths - samples + 1))
        if not self._ends[-1]:
            raise DataError(
                f"{waveforms.folder}: no clip has {samples / waveforms.rate_hz:g} s, the length of an excerpt; use "
                "longer clips or fewer --excerpt-frames"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        clip = int(np.searchsorted(self._ends, number, side="right"))
        start = int(self._before[clip]) + number - (int(self._ends[clip - 1]) if clip else 0)
        return self._waveforms.read(start, start + self.samples)


def gather(
    recordings: Sequence[Recording],
    folder: Path,
    rate_hz: int,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Waveforms, dict[str, str]]:
    """Decode recordings into a folder; a folder that holds exactly these is opened as it is.

    Args:
        recordings: Any set of clips.
        folder: Of the file; 173 MB an hour at 24 kHz.
        rate_hz: Sampling rate of the file.
        jobs: Threads that decode.
        progress: Called with recordings done and in all.

    Returns:
        The waveforms, and name -> reason of each recording that cannot be used.

    Raises:
        DataError: No recording can be used, the folder holds others, or the disk is full.
    """
    stamps = [[recording.name, recording.stamp] for recording in recordings]
    if (folder / _FACTS).is_file():
        facts = read_json(folder / _FACTS, DataError)
        if facts.get("recordings") != stamps or facts.get("rate_hz") != rate_hz:
            raise DataError(
                f"{folder}: holds the samples of other recordings than the command names, or they changed since; name "
                "another folder with --out"
            )
        return Waveforms(folder), dict(facts["left_out"])
    clips: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}

    def write(half: Path) -> None:
        """Write the samples of all recordings one after the other."""
        with half.open("wb") as file:
            for done, (recording, digest, samples) in enumerate(_decoded(recordings, rate_hz, jobs), 1):
                if samples is None:
                    left_out[recording.name] = digest
                else:
                    file.write(samples.tobytes())
                    clips.append({"name": recording.name, "digest": digest, "samples": len(samples)})
                if progress:
                    progress(done, len(recordings))

    try:
        folder.mkdir(parents=True, exist_ok=True)
        written_whole(folder / _SAMPLES, write)
        if not clips:
            name, why = next(iter(left_out.items()), ("", "there is none"))
            raise DataError(f"no recording can be used; the first: {name}: {why}")
        # last: samples without their list do not count
        write_json(folder / _FACTS, {"rate_hz": rate_hz, "clips": clips, "left_out": left_out, "recordings": stamps})
    except OSError as error:
        if not no_room(error):
            raise DataError(f"{folder}: cannot be written to: {error.strerror}") from error
        raise DataError(f"{folder}: no space for the samples; free some space and repeat the command") from error
    sync(folder)
    return Waveforms(folder), left_out


def _decoded(
    recordings: Sequence[Recording], rate_hz: int, jobs: int
) -> Iterator[tuple[Recording, str, npt.NDArray[np.int16] | None]]:
    """Yield recordings in order with digest and samples, or with the reason why there are none."""

    def decode(recording: Recording) -> tuple[str, npt.NDArray[np.int16] | None]:
        pieces: list[npt.NDArray[np.int16]] = []

        def add(samples: Floats) -> None:
            # a resampled peak may exceed full scale
            pieces.append(np.rint(np.clip(samples, -1, 1) * _FULL_SCALE).astype("<i2"))

        try:
            facts = recording.decode(rate_hz, add)
        except DataError as error:
            return str(error), None
        whole = np.concatenate(pieces) if pieces else np.zeros(0, "<i2")
        return (facts.digest, whole) if len(whole) else ("no samples in it", None)

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        # a few at a time: decoded recordings wait in memory for those before them
        for start in range(0, len(recordings), 2 * max(1, jobs)):
            few = recordings[start : start + 2 * max(1, jobs)]
            for recording, (digest, samples) in zip(few, pool.map(decode, few), strict=True):
                yield recording, digest, samples
