"""Shared model loading: the one way in which a plugin finds, verifies, loads and batches for its models.

No module here imports torch or transformers before a function needs it.
"""

from __future__ import annotations

from cdslm_eval.plugin.models.batching import length_batches, padded_batch, unusable_reason
from cdslm_eval.plugin.models.files import (
    PICKLED,
    SAFE,
    Checkpoint,
    RequiredFiles,
    check_sha256,
    distribution_file,
    find_checkpoint,
    is_cached,
    read_json,
    sha256_of,
)
from cdslm_eval.plugin.models.pretrained import (
    Pretrained,
    PretrainedOptions,
    device_of,
    find_pretrained,
    precision_of,
    quiet,
)
from cdslm_eval.plugin.models.voice import (
    SILERO_INSTALL,
    SILERO_SHA256,
    VOICE_FRAME,
    onnx_session,
    pause_cuts,
    silero_path,
    speech_probabilities,
)
from cdslm_eval.plugin.models.windows import Frames, join_windows, window_starts

__all__ = [
    "PICKLED",
    "SAFE",
    "SILERO_INSTALL",
    "SILERO_SHA256",
    "VOICE_FRAME",
    "Checkpoint",
    "Frames",
    "Pretrained",
    "PretrainedOptions",
    "RequiredFiles",
    "check_sha256",
    "device_of",
    "distribution_file",
    "find_checkpoint",
    "find_pretrained",
    "is_cached",
    "join_windows",
    "length_batches",
    "onnx_session",
    "padded_batch",
    "pause_cuts",
    "precision_of",
    "quiet",
    "read_json",
    "sha256_of",
    "silero_path",
    "speech_probabilities",
    "unusable_reason",
    "window_starts",
]
