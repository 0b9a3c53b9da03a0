"""What a training command would cost, from its settings alone: nothing is trained or allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cdslm_model.data.mel import MelSpec
from cdslm_model.data.mixture import windows_of
from cdslm_model.data.windows import Shards, Windows
from cdslm_model.net import flops
from cdslm_model.train.guessing import guess_bytes
from cdslm_model.train.jobs import Job, result_counts
from cdslm_model.train.lengths import length_pairs
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.settings import Settings

__all__ = ["data_use", "per_step", "planned", "schedules", "step_tokens", "training_steps"]

_BYTES_A_PARAMETER = 16
"""Of one checkpoint: weights, their average and AdamW's two moments, float32."""
_KEPT = 2
"""Checkpoints that a run leaves: the last one and the one before it."""


def per_step(settings: Settings) -> dict[str, float]:
    """Return steps (1), exact training FLOPs, tokens and 6ND of one step, the mean one where lengths are drawn."""
    config, pairs = settings.config, length_pairs(settings)
    each = settings.batch_size / len(pairs)
    return {
        "steps": 1.0,
        "flops": each * float(sum(flops.training(config, *pair).total for pair in pairs)),
        "tokens": step_tokens(settings)["network"],
        "six_nd": each * float(sum(flops.six_nd(config, *pair) for pair in pairs)),
    }


def step_tokens(settings: Settings) -> dict[str, float]:
    """Return the tokens of one step by each convention of `flops.tokens`, of the mean one where lengths are drawn."""
    counts = [flops.tokens(settings.config, *pair) for pair in length_pairs(settings)]
    return {name: settings.batch_size * sum(own[name] for own in counts) / len(counts) for name in counts[0]}


def schedules(job: Job[Settings]) -> list[WarmupStableDecay]:
    """Return the learning-rate schedule of each length of a job, the shortest first."""
    costs = per_step(job.settings)
    # lengths that round to the same number of steps are one run
    counts = sorted({length.steps(costs) for length in job.lengths})
    settings = job.settings
    return [WarmupStableDecay.plan(count, settings.warmup_steps, settings.decay_share) for count in counts]


def training_steps(runs: Sequence[WarmupStableDecay]) -> int:
    """Return the steps of a main run, the last one, and of what its branches do not share with it."""
    *branches, main = runs
    shared = [branch.decay_start if branch.shares(main) else 0 for branch in branches]
    return main.steps + sum(branch.steps - start for branch, start in zip(branches, shared, strict=True))


def data_use(settings: Settings, steps: int, windows: Windows) -> dict[str, float]:
    """Return the epochs of a run and its distinct tokens.

    Where lengths are drawn, a shorter step leaves out frames of the windows that it draws: epochs count whole windows,
    so that the network gets fewer frames than they state, and tokens are those that it gets.

    Args:
        settings: Of the run.
        steps: Training steps.
        windows: Training speech.

    Returns:
        "epochs": frames drawn over the frames in stretches as long as a window, of the source that is drawn most
        often; "unique_tokens": the run's tokens, at most one epoch's of each source.
    """
    parts = [
        (draws * part.frames, part.usable_frames) for part, draws in windows.sources_of(steps * settings.batch_size)
    ]
    distinct = sum(min(drawn, usable) for drawn, usable in parts) / sum(drawn for drawn, _ in parts)
    return {
        "epochs": max(drawn / usable for drawn, usable in parts),
        "unique_tokens": steps * per_step(settings)["tokens"] * distinct,
    }


def planned(job: Job[Settings]) -> dict[str, Any]:
    """Return N, D, C, 6ND and steps of a job's longest run, its epochs and its bytes on disk.

    Args:
        job: Settings, lengths and the folder of prepared speech. Where that is not there yet, epochs are None.

    Returns:
        "parameters", "tokens", "flops", "six_nd" and "steps" as `result.json` has them; "epochs" and "unique_tokens" as
        of `data_use`; "speech_hours", those that are drawn, as whole windows; "training_flops" of the
        longest run and its branches together; "bytes" of the checkpoints that stay; of generation "rate_hz", and the
        "evaluation_flops" of the network over one window and the "evaluation_seconds" that such a window generates;
        "branches", all of this for each length of the job, each with "training_flops" and "bytes" of all up to it.

    Raises:
        DataError: No clip of the speech, or of a source of the mix, is as long as a window; or there is no such source.
    """
    settings, config = job.settings, job.settings.config
    costs, runs = per_step(settings), schedules(job)
    shape = (config.context_frames, config.continuation_frames)
    windows = None
    if job.data.is_dir():
        windows = windows_of(Shards(job.data), *shape, settings.join_speakers, settings.mix)
    spec = MelSpec() if windows is None else windows.shards.spec
    generation = {
        "rate_hz": spec.rate_hz,
        "evaluation_flops": float(flops.forward(config, *shape).total),
        "evaluation_seconds": config.continuation_frames / spec.frame_rate,
    }
    checkpoint_bytes = _BYTES_A_PARAMETER * config.parameters() + guess_bytes(settings)
    branches = [
        {
            **result_counts(config.parameters(), last.steps, costs),
            **(data_use(settings, last.steps, windows) if windows else {"epochs": None}),
            "speech_hours": last.steps * settings.batch_size * sum(shape) / spec.frame_rate / 3600,
            "training_flops": training_steps(so_far) * costs["flops"],
            "bytes": _checkpoints(so_far, settings.save_every) * checkpoint_bytes,
            **generation,
        }
        for so_far, last in ((runs[:count], runs[count - 1]) for count in range(1, len(runs) + 1))
    ]
    return {**branches[-1], "branches": branches}


def _checkpoints(runs: Sequence[WarmupStableDecay], save_every: int) -> int:
    """Return the checkpoints that a main run and its branches leave."""
    # of each branch the checkpoint where it leaves the main run stays too
    return sum(min(_KEPT, max(1, math.ceil(plan.steps / save_every))) for plan in runs) + len(runs) - 1
