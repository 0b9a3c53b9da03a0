"""Files of generated clips: under a temporary name until they are complete, so that none is ever part of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.admission import Levels, fault
from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import EvalError
from cdslm_eval.run.clip_ranges import GeneratedPart, clip_record

__all__ = ["PART_SUFFIX", "PartialClip", "write_whole"]

PART_SUFFIX = ".part"
"""Of a file that is not complete: no suffix of audio, so that no folder of clips is read with it."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there completely or not at all.

    Raises:
        EvalError: It cannot be written.
    """
    temporary = path.with_name(path.name + PART_SUFFIX)
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise EvalError(f"{path}: cannot be written: {error.strerror}") from error


class PartialClip:
    """The file of a clip that is written part by part, byte for byte as `flac_bytes` encodes the whole.

    Args:
        path: Of the complete file.
        first: The first part, which is not written by this.

    Raises:
        EvalError: The file cannot be written.
    """

    def __init__(self, path: Path, first: GeneratedPart) -> None:
        import soundfile as sf

        self._path, self._temporary = path, path.with_name(path.name + PART_SUFFIX)
        self._rate_hz = first.clip.rate_hz
        self._record = clip_record(first.clip, first.prompt)
        self._count = 0
        try:
            self._file: Any = sf.SoundFile(self._temporary, "w", self._rate_hz, 1, "PCM_16", format="FLAC")
        except (sf.LibsndfileError, OSError) as error:
            raise EvalError(f"{path}: cannot be written: {error}") from error
        if first.prompt is not None:
            self._write(first.prompt.samples)

    def add(self, part: GeneratedPart) -> None:
        """Append the samples of a part.

        Raises:
            EvalError: They are none that FLAC can hold, or cannot be written.
        """
        if reason := fault(Levels.of(part.clip.samples).peak):
            raise EvalError(f"clip {part.clip.key!r} of the generator: {reason}")
        if part.clip.rate_hz != self._rate_hz:
            raise EvalError(
                f"clip {part.clip.key!r} of the generator: parts at {self._rate_hz} and {part.clip.rate_hz} Hz"
            )
        self._write(part.clip.samples)

    def complete(self) -> dict[str, Any]:
        """Close the file, give it its name and return the clip's line of the manifest, without the path.

        Raises:
            EvalError: The file does not hold all samples.
        """
        import soundfile as sf

        try:
            self._file.close()
            # libsndfile does not report everything that a full disk leaves out
            if sf.info(self._temporary).frames != self._count:
                raise EvalError(
                    f"{self._path}: cannot be written: samples are missing from the file; is the disk full?"
                )
            self._temporary.replace(self._path)
        except (sf.LibsndfileError, OSError) as error:
            raise EvalError(f"{self._path}: cannot be written: {error}") from error
        return self._record

    def discard(self) -> None:
        """Close and remove the file: its clip is not complete."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, samples: Samples) -> None:
        try:
            self._file.write(np.clip(samples, -1.0, 1.0))
        # soundfile asserts that all samples were written
        except (AssertionError, RuntimeError, OSError) as error:
            raise EvalError(f"{self._path}: cannot be written: {error or 'is the disk full?'}") from error
        self._count += len(samples)
