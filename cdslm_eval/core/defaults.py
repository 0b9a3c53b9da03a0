"""Defaults that commands, suites and Python share, each declared here and nowhere else."""

from __future__ import annotations

import os

__all__ = [
    "CLIP_COUNT",
    "CLIP_SECONDS",
    "FAIL_BUDGET",
    "METRICS",
    "RECOGNIZER",
    "RECOGNIZERS",
    "TIME_LIMIT_S",
    "TRANSCRIBER",
    "default_jobs",
]

RECOGNIZER = "auto"
"""The recognizer that turns clips into phones: the first of `RECOGNIZERS` that can be used here."""
RECOGNIZERS = ("phone-ctc", "pocketsphinx")
"""Recognizers in order of preference; the last is in every install."""
TRANSCRIBER = "whisper"
"""The transcriber that turns clips into words, where a metric reads them."""
METRICS = ("pjsd", "signal")
"""The metrics of a score or comparison that names none."""
CLIP_COUNT = 100
"""Clips that a generator writes."""
CLIP_SECONDS = 10.0
"""Their length in seconds."""
TIME_LIMIT_S = 120.0
"""Seconds that one clip may take under one metric."""
FAIL_BUDGET = 0.05
"""Share of clips that may fail before a command exits with 1."""


def default_jobs() -> int:
    """Return how many worker processes a run starts: one per processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
