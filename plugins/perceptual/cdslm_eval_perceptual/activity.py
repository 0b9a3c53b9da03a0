"""`activity`: where a clip holds speech, by the Silero voice activity detector inside the `silero-vad` wheel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from cdslm_eval import Mean, RatioOfSums, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.contract import Failed, Metric, Options, Row, Skipped
from cdslm_eval.plugin.models import (
    SILERO_INSTALL,
    SILERO_SHA256,
    VOICE_FRAME,
    onnx_session,
    silero_path,
    speech_probabilities,
    unusable_reason,
)
from cdslm_eval_perceptual.papers import SILERO

__all__ = ["Activity", "ActivityOptions", "segments"]

RATE_HZ = 16_000
_RELEASE = 0.15  # speech ends this far under the threshold that starts it, as in the published detector


class ActivityOptions(Options):
    """Options of `activity`.

    Attributes:
        threshold: Probability at which speech starts, 0.15..1; it ends 0.15 lower.
        min_speech_s: Shorter stretches of speech are silence, in seconds.
        min_pause_s: Shorter silences between speech are no pauses, in seconds.
    """

    threshold: float = Field(0.5, gt=0.15, lt=1)
    min_speech_s: float = Field(0.25, ge=0)
    min_pause_s: float = Field(0.2, ge=0)


class Activity(Metric):
    """Speech share, pauses per minute, pause length and longest silence by Silero VAD.

    A pause is a silence between two stretches of speech; silence at the ends of a clip is none, and counts for
    `longest_silence`. Pause lengths are those of clips with a pause. Frames are 32 ms, which is the resolution of each
    value.

    Source: Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", version 6.2.3.
    """

    name = "activity"
    limits = "whether what lies between the pauses can be understood"
    version = "1"
    citation: ClassVar[tuple[Citation, ...]] = (SILERO,)
    weights_licence = "MIT"
    attribution = "Silero VAD, Silero Team"
    requires: ClassVar[Mapping[str, str]] = {"onnxruntime": "onnxruntime>=1.17"}
    needs = frozenset({"audio"})
    rate_hz = RATE_HZ
    min_seconds = 0.25
    batch_clips = 4
    cpu_only = True
    Options: ClassVar[type[BaseModel]] = ActivityOptions
    statistics: ClassVar[dict[str, Statistic]] = {
        "speech_share": RatioOfSums("speech_s", "seconds", unit="fraction"),
        "pauses_per_minute": RatioOfSums("pauses", "minutes", unit="1/min"),
        "pause_median": Mean("pause_median_s", unit="s"),
        "pause_p90": Mean("pause_p90_s", unit="s"),
        "longest_silence": Mean("longest_silence_s", unit="s"),
    }

    @classmethod
    def missing(cls) -> str | None:
        """Return the install command that leaves out what the network does not use."""
        if find_spec("silero_vad") is None:
            # its own requirements bring torch
            return f"needs {SILERO_INSTALL}"
        return super().missing()

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the network and the version of onnxruntime."""
        return {"silero_vad.onnx": SILERO_SHA256, "onnxruntime": version("onnxruntime")}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network; it runs on the CPU, one thread per worker process.

        Raises:
            EvalError: silero-vad is not installed, or its network is another one.
        """
        del device
        self._session: Any = onnx_session(str(silero_path()))
        try:
            yield
        finally:
            del self._session

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield seconds of speech and the lengths of the pauses of each clip."""
        for clip in clips:
            if reason := unusable_reason(clip, self.min_seconds, accepts_silence=True):
                yield Skipped(reason)
            else:
                yield self._row(clip)

    def _row(self, clip: Clip) -> Row | Failed:
        probabilities = speech_probabilities(self._session, clip.samples)
        if not np.isfinite(probabilities).all():
            return Failed("the network gives no finite probability; are the samples in -1..1?")
        speech = segments(probabilities, self.options)
        # the last frame is padded; the clip ends where its samples do
        bounds = [
            (start * VOICE_FRAME / RATE_HZ, min(end * VOICE_FRAME / RATE_HZ, clip.seconds)) for start, end in speech
        ]
        edges = [0.0, *(edge for bound in bounds for edge in bound), clip.seconds]
        silences = [end - start for start, end in zip(edges[::2], edges[1::2], strict=True)]
        pauses = silences[1:-1]
        return {
            "seconds": clip.seconds,
            "minutes": clip.seconds / 60,
            "speech_s": sum(end - start for start, end in bounds),
            "pauses": len(pauses),
            "pause_median_s": float(np.median(pauses)) if pauses else None,
            "pause_p90_s": float(np.quantile(pauses, 0.9)) if pauses else None,
            "longest_silence_s": max(silences),
        }


def segments(probabilities: npt.NDArray[np.float64], options: ActivityOptions) -> list[tuple[int, int]]:
    """Return the first and the end frame of each stretch of speech.

    Args:
        probabilities: Probability of speech, `[frames]`.
        options: Thresholds and shortest lengths.

    Example:
        >>> segments(np.repeat([0.1, 0.9, 0.4, 0.2, 0.9, 0.1], 10), ActivityOptions())
        [(10, 30), (40, 50)]
    """
    runs: list[tuple[int, int]] = []
    active, start = False, 0
    for index, probability in enumerate([*probabilities, 0.0]):
        if not active and probability >= options.threshold:
            active, start = True, index
        elif active and probability < options.threshold - _RELEASE:
            active = False
            runs.append((start, index))
    second = RATE_HZ / VOICE_FRAME
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < options.min_pause_s * second:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [(start, end) for start, end in joined if end - start >= options.min_speech_s * second]
