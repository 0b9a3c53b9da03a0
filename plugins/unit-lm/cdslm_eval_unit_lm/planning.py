"""What a training command would cost, from its settings alone: nothing is clustered or trained."""

from __future__ import annotations

from typing import Any

import torch

from cdslm_eval_unit_lm.corpus import stretches
from cdslm_eval_unit_lm.language import build, forward_flops, lm_config
from cdslm_eval_unit_lm.settings import Settings
from cdslm_model import Job, MelSpec, Shards, result_counts

__all__ = ["BACKWARD", "data_use", "per_step", "planned"]

BACKWARD = 2
"""Cost of the backward pass in forward passes."""
_BYTES_A_PARAMETER = 12
"""Of one checkpoint: weights and AdamW's two moments, float32; 4 more with an average of the weights."""
_KEPT = 2


def per_step(settings: Settings, config: dict[str, Any], length: int, parameters: int) -> dict[str, float]:
    """Return steps (1), tokens, exact training FLOPs and 6ND of one step.

    Args:
        settings: Of the run.
        config: Of `lm_config`.
        length: Tokens of a window.
        parameters: Of the language model.
    """
    tokens = settings.batch_size * length
    return {
        "steps": 1.0,
        "tokens": float(tokens),
        "flops": float((1 + BACKWARD) * settings.batch_size * forward_flops(config, length)),
        "six_nd": 6.0 * parameters * tokens,
    }


def data_use(steps: int, tokens: float, usable: int) -> dict[str, float]:
    """Return the epochs of a run and its distinct tokens.

    Args:
        steps: Training steps.
        tokens: Of a step.
        usable: Tokens in stretches as long as a window.
    """
    epochs = steps * tokens / usable
    return {"epochs": epochs, "unique_tokens": steps * tokens / max(1.0, epochs)}


def planned(job: Job[Settings]) -> dict[str, Any]:
    """Return N, D, C, 6ND, steps and epochs of a job, and its bytes on disk; epochs where its speech is prepared.

    Where units come from an encoder, or a run of one unit is one token, tokens a second are known after clustering
    only: then N alone is known, and C where the job names it.
    """
    settings = job.settings
    is_known = settings.encoder is None and not settings.run_length
    length = max(2, round(settings.seconds * MelSpec().frame_rate / settings.stride))
    config = lm_config(settings.family, settings.size, settings.units, length)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in build(config).parameters())
    facts: dict[str, Any] = {"parameters": parameters, "epochs": None, "rate_hz": MelSpec().rate_hz}
    if not is_known:
        flops = [amount.amount for amount in job.lengths if amount.unit == "flops"]
        return {**facts, "flops": max(flops) if flops else None}
    costs = per_step(settings, config, length, parameters)
    steps = job.lengths[0].steps(costs)
    kept = min(_KEPT, max(1, -(-steps // settings.save_every)))
    return {
        **facts,
        **result_counts(parameters, steps, costs),
        **(data_use(steps, costs["tokens"], usable) if (usable := _usable(job, length)) else {}),
        "speech_hours": steps * settings.batch_size * settings.seconds / 3600,
        "bytes": kept * (_BYTES_A_PARAMETER + (4 if settings.ema else 0)) * parameters,
        # with its keys and values kept, generating a window costs a forward pass over it
        "evaluation_flops": float(forward_flops(config, length)),
        "evaluation_seconds": settings.continuation_seconds,
    }


def _usable(job: Job[Settings], length: int) -> int:
    """Return the units in stretches that hold a window; 0 where nothing is prepared yet."""
    if not job.data.is_dir():
        return 0
    clips = Shards(job.data).clips
    _, lengths = stretches(
        clips.frames // job.settings.stride, clips.speakers, join_speakers=job.settings.join_speakers
    )
    return int(lengths[lengths >= length].sum())
