"""What a training command would cost, from its settings alone: nothing is trained or allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cdslm_model.data.mel import MelSpec
from cdslm_model.data.windows import Shards, read_spec
from cdslm_model.net import flops
from cdslm_model.train.jobs import Job, result_counts
from cdslm_model.train.settings import Settings

__all__ = ["per_step", "planned"]

_BYTES_A_PARAMETER = 16
"""Of one checkpoint: weights, their average and AdamW's two moments, float32."""
_KEPT = 2
"""Checkpoints that a run leaves: the last one and the one before it."""


def per_step(settings: Settings) -> dict[str, float]:
    """Return steps (1), exact training FLOPs, tokens and 6ND of one step."""
    config = settings.config
    shape = (config.context_frames, config.continuation_frames)
    return {
        "steps": 1.0,
        "flops": settings.batch_size * float(flops.training(config, *shape).total),
        "tokens": settings.batch_size * float(flops.tokens(config, *shape)["network"]),
        "six_nd": settings.batch_size * float(flops.six_nd(config, *shape)),
    }


def planned(job: Job[Settings]) -> dict[str, Any]:
    """Return N, D, C, 6ND and steps of a job's longest run, its epochs and its bytes on disk.

    Args:
        job: Settings, lengths and the folder of prepared speech. Where that is not there yet, epochs are None.

    Returns:
        "parameters", "tokens", "flops", "six_nd" and "steps" as `result.json` has them; "epochs", the frames drawn over
        the frames in stretches as long as a window; "bytes" of the checkpoints that stay; "rate_hz" of what the model
        will generate.
    """
    settings, config = job.settings, job.settings.config
    costs = per_step(settings)
    steps = max(length.steps(costs) for length in job.lengths)
    kept = min(_KEPT, max(1, math.ceil(steps / settings.save_every)))
    frames = _usable_frames(job.data, config.context_frames + config.continuation_frames, settings.join_speakers)
    drawn = steps * settings.batch_size * (config.context_frames + config.continuation_frames)
    spec = MelSpec() if frames is None else read_spec(job.data)
    return {
        **result_counts(config.parameters(), steps, costs),
        "epochs": drawn / frames if frames else None,
        "bytes": kept * _BYTES_A_PARAMETER * config.parameters(),
        "rate_hz": spec.rate_hz,
    }


def _usable_frames(folder: Path, window: int, join_speakers: bool) -> int | None:
    """Return the frames in stretches that hold a window; None where nothing is prepared yet."""
    if not folder.is_dir():
        return None
    stretches = Shards(folder).stretches(join_speakers)
    lengths = stretches[:, 1] - stretches[:, 0]
    return int(lengths[lengths >= window].sum())
