"""One training command of a vocoder: from recordings to checkpoints and a result, resumable at any moment."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cdslm_model.checkpoint import FOLDER, Checkpoint, last_checkpoint
from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.data.prepare import Recording
from cdslm_model.data.waveforms import Excerpts, Waveforms, gather
from cdslm_model.devices import matrix_rate, pick_device, precision
from cdslm_model.errors import DataError, ModelError
from cdslm_model.files import locked, write_json
from cdslm_model.train.jobs import RESULT, check_length, check_settings, finished_result
from cdslm_model.train.journal import Journal
from cdslm_model.train.loop import run
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.stopping import noted_signals
from cdslm_model.train.vocoding.settings import VocoderJob
from cdslm_model.train.vocoding.trainer import VocoderTrainer, stacked

__all__ = ["KIND", "train_vocoder"]

KIND = "vocoder"
_VALID_S = 2.0
_NORMALIZED = 512
"""Excerpts whose log-mels give mean and deviation of each band."""
_CONVENTIONS = {
    "parameters": "of the vocoder, without the critics",
    "tokens": "frames of the excerpts",
    "flops": "convolutions and projections of the vocoder (3 x forward), without critics and spectra",
    "val_loss": "mean absolute error of the log-mels of held-out excerpts after the round trip, dB, within 60 dB of "
    "each excerpt's loudest band",
}


def train_vocoder(job: VocoderJob) -> dict[str, Any]:
    """Train or resume a vocoder, and return its `result.json`.

    Raises:
        ModelError: A problem with the settings, the recordings, the disk or the loss.
        Interrupted: A signal arrived; a checkpoint is written.
    """
    settings = job.settings
    settings.check()
    schedule = WarmupStableDecay.plan(job.steps, settings.warmup_steps, settings.decay_share)
    with locked(job.out, "trainer"):
        last = last_checkpoint(job.out)
        if last is not None:
            _check_same(job, last, schedule)
            finished = finished_result(job.out, schedule.steps)
            if finished is not None:
                return finished
        trainer, facts = _set_up(job, schedule, last)
        with noted_signals() as signals:
            left = trainer.step < schedule.steps
            validation = _train(job, trainer, schedule, facts, signals) if left else trainer.validate()
        result = {
            "parameters": facts["parameters"],
            **{name: schedule.steps * value for name, value in facts["per_step"].items()},
            "steps": schedule.steps,
            **validation,
            "conventions": _CONVENTIONS,
            "checkpoint": f"{FOLDER}/step-{schedule.steps:09d}",
        }
        write_json(job.out / RESULT, result)
        return result


def _set_up(
    job: VocoderJob, schedule: WarmupStableDecay, last: Checkpoint | None
) -> tuple[VocoderTrainer, dict[str, Any]]:
    """Return the trainer, at the last checkpoint where there is one, and the facts of every checkpoint."""
    settings, spec = job.settings, MelSpec()
    if (settings.config.mels, settings.config.fft, settings.config.hop) != (spec.mels, spec.window, spec.hop):
        raise ModelError(f"the vocoder is made for log-mels of {spec}: mels, window and hop are theirs")
    train, valid = _decoded(job, "train", job.train, spec), _decoded(job, "valid", job.valid, spec)
    if both := train.content & valid.content:
        raise DataError(f"{len(both)} recordings are in the training and the held-out speech; keep them apart")
    excerpts = Excerpts(train, settings.excerpt_frames * spec.hop)
    held_out = _spread(Excerpts(valid, round(_VALID_S * spec.frame_rate) * spec.hop), settings.valid_windows)
    held_out = held_out[held_out.abs().amax(dim=1) > 0]
    if not len(held_out):
        raise DataError(f"{valid.folder}: all excerpts of the held-out speech are digital silence; use other speech")
    normalizer = _normalizer(excerpts, spec) if last is None else Normalizer.from_dict(last.facts["normalizer"])
    trainer = VocoderTrainer(settings, pick_device(job.device), spec, normalizer, excerpts, held_out)
    if last is not None:
        trainer.restore(last)
    frames = settings.batch_size * settings.excerpt_frames
    facts = {
        "kind": KIND,
        "settings": settings.as_dict(),
        "mel_spec": dataclasses.asdict(spec),
        "normalizer": normalizer.as_dict(),
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "per_step": {"tokens": frames, "flops": 3 * settings.config.flops(frames)},
        "schedule": dataclasses.asdict(schedule),
        "conventions": _CONVENTIONS,
        "data": _recordings(job),
        "hours": train.seconds / 3600,
    }
    return trainer, facts


def _decoded(job: VocoderJob, split: str, recordings: Sequence[Recording], spec: MelSpec) -> Waveforms:
    progress = job.decoding(split) if job.decoding else None
    folder = job.out / f"samples-{split}"
    waveforms, left_out = gather(recordings, folder, spec.rate_hz, jobs=job.jobs, progress=progress)
    if left_out and not job.quiet:
        name, why = next(iter(left_out.items()))
        print(f"{split}: {len(left_out)} recordings left out; the first: {name}: {why}", file=sys.stderr)
    return waveforms


def _spread(excerpts: Excerpts, count: int) -> Tensor:
    """Return excerpts at equal distances, the same in every run on this speech."""
    return stacked(excerpts, np.unique(np.linspace(0, len(excerpts) - 1, count).astype(np.int64)))


def _normalizer(excerpts: Excerpts, spec: MelSpec) -> Normalizer:
    log_mel = LogMel(spec)
    with torch.no_grad():
        return Normalizer.fit(log_mel(piece) for piece in torch.split(_spread(excerpts, _NORMALIZED), 16))


def _train(
    job: VocoderJob,
    trainer: VocoderTrainer,
    schedule: WarmupStableDecay,
    facts: dict[str, Any],
    signals: list[int],
) -> dict[str, float | None]:
    """Train up to the last step, with a log."""
    per_step, steps = facts["per_step"], schedule.steps
    peak = matrix_rate(trainer.device, precision(job.settings.precision, trainer.device))
    journal = Journal(job.out, trainer.step, steps, per_step["flops"], per_step["tokens"], peak, job.quiet)
    journal.message(
        f"{job.out}: a vocoder of {facts['parameters'] / 1e6:.2f} M parameters, step {trainer.step} of {steps}, "
        f"{facts['hours']:.2f} h of speech; critics from step {job.settings.critics_from}"
    )
    try:
        return run(trainer, job.settings, job.out, schedule, steps, journal, facts, signals)
    finally:
        journal.close()


def _recordings(job: VocoderJob) -> dict[str, str]:
    """Return the identity of the recordings of each split: their names, sizes and times."""
    splits = {"train": job.train, "valid": job.valid}
    texts = {split: json.dumps([[item.name, item.stamp] for item in items]) for split, items in splits.items()}
    return {split: hashlib.sha256(text.encode()).hexdigest() for split, text in texts.items()}


def _check_same(job: VocoderJob, last: Checkpoint, schedule: WarmupStableDecay) -> None:
    """Raise where the folder holds a run of another kind, or of other settings or length."""
    if last.facts.get("kind") != KIND:
        raise ModelError(f"{job.out}: holds a run of another kind; name another folder")
    check_settings(job.out, last, job.settings)
    if last.facts["data"] != _recordings(job):
        raise ModelError(f"{job.out}: was trained on other recordings, or they changed since; name another folder")
    check_length(job.out, last, schedule)
