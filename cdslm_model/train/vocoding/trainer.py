"""Training steps of a vocoder and its critics, on one device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdslm_model import checkpoint
from cdslm_model.data.mel import LogMel, MelSpec, Normalizer
from cdslm_model.data.waveforms import Excerpts
from cdslm_model.devices import precision
from cdslm_model.errors import CheckpointError, NotANumberError
from cdslm_model.net.istft import IstftNetwork
from cdslm_model.seeding import random_source
from cdslm_model.train.schedule import WarmupStableDecay
from cdslm_model.train.vocoding.critics import (
    Critics,
    critic_loss,
    deceiving_loss,
    feature_distance,
    spectral_distance,
)
from cdslm_model.train.vocoding.settings import VocoderSettings

__all__ = ["VocoderTrainer", "stacked"]

_LEAST = -5.0
"""log10 mel magnitude below which errors do not count, 100 dB under full scale: nobody hears them."""
_RANGE = 3.0
"""Decades under an excerpt's loudest band within which the validation compares: 60 dB, as `roundtrip` does."""
_BETAS = (0.8, 0.9)


def stacked(excerpts: Excerpts, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
    """Return the excerpts of some numbers, float32 `[numbers, samples]`."""
    return torch.from_numpy(np.stack([excerpts[int(number)] for number in numbers]))


class VocoderTrainer:
    """A vocoder, its critics and their optimizers.

    Args:
        settings: Of the run.
        device: Where it trains.
        spec: The log-mels.
        normalizer: Scales them; stored with the vocoder.
        excerpts: Training speech.
        valid: Held-out samples, `[excerpts, samples]`, none of them digital silence.
    """

    def __init__(
        self,
        settings: VocoderSettings,
        device: torch.device,
        spec: MelSpec,
        normalizer: Normalizer,
        excerpts: Excerpts,
        valid: Tensor,
    ) -> None:
        self.settings, self.device, self.normalizer = settings, device, normalizer
        self._excerpts, self._valid = excerpts, valid
        with torch.random.fork_rng(devices=[]):
            # on the CPU: a seed gives the same weights on any device
            torch.manual_seed(settings.seed)
            self.network, self.critics = IstftNetwork(settings.config), Critics(settings.critic_width)
        self.log_mel = LogMel(spec).to(device)
        self._models: dict[str, nn.Module] = {"weights": self.network.to(device), "critics": self.critics.to(device)}
        self._optimizers = {
            name: torch.optim.AdamW(model.parameters(), settings.lr, _BETAS, weight_decay=settings.weight_decay)
            for name, model in self._models.items()
        }
        self.step = 0

    def advance(self, schedule: WarmupStableDecay, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding losses, gradient norm and learning rate of each.

        Raises:
            NotANumberError: A loss or a gradient is not finite.
        """
        while self.step < until:
            lr = self.settings.lr * schedule.share(self.step)
            for optimizer in self._optimizers.values():
                optimizer.param_groups[0]["lr"] = lr
            recorded = self._batch(self.step).to(self.device)
            with self._precision():
                generated = self.resynthesise(recorded)
            values = {}
            if self.step >= self.settings.critics_from:
                values["critic_loss"] = self._teach_critics(recorded, generated.detach())
            values |= self._teach_vocoder(recorded, generated)
            self.step += 1
            yield {**values, "lr": lr}

    def resynthesise(self, samples: Tensor) -> Tensor:
        """Return the vocoder's samples for the log-mels of samples `[batch, samples]`; whole hops only."""
        made: Tensor = self.network(self.normalizer.normalize(self.log_mel(samples)))
        return made

    def _batch(self, step: int) -> Tensor:
        # by the step alone: a resumed run draws what it would have drawn
        source = random_source(self.settings.seed, "excerpts", step)
        return stacked(self._excerpts, source.integers(len(self._excerpts), size=self.settings.batch_size))

    def _teach_critics(self, recorded: Tensor, generated: Tensor) -> float:
        with self._precision():
            loss = critic_loss(self.critics(recorded), self.critics(generated))
        self._apply("critics", loss)
        return float(loss.detach())

    def _teach_vocoder(self, recorded: Tensor, generated: Tensor) -> dict[str, float]:
        settings = self.settings
        difference = self.log_mel(generated).clamp(min=_LEAST) - self.log_mel(recorded).clamp(min=_LEAST)
        mel = difference.abs().mean() * math.log(10)
        loss = settings.mel_weight * mel + settings.spectral_weight * spectral_distance(generated, recorded)
        if self.step >= settings.critics_from:
            self.critics.requires_grad_(False)
            with self._precision():
                judged, true = self.critics(generated), self.critics(recorded)
                loss = loss + deceiving_loss(judged) + settings.feature_weight * feature_distance(true, judged)
            self.critics.requires_grad_(True)
        norm = self._apply("weights", loss)
        return {"loss": float(loss.detach()), "mel_loss": float(mel.detach()), "grad_norm": norm}

    def _apply(self, name: str, loss: Tensor) -> float:
        """Take one optimizer step; return the norm of the gradient."""
        optimizer, model = self._optimizers[name], self._models[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), self.settings.clip_norm))
        if not math.isfinite(norm) or not math.isfinite(float(loss.detach())):
            raise NotANumberError(f"step {self.step + 1}: the loss of the {name} is not a number")
        optimizer.step()
        return norm

    def validate(self) -> dict[str, float | None]:
        """Return the mean absolute error of log-mels in dB on held-out excerpts, and its standard error."""
        errors = []
        with torch.no_grad():
            for piece in torch.split(self._valid, self.settings.batch_size):
                recorded = piece.to(self.device)
                with self._precision():
                    made = self.resynthesise(recorded)
                first, second = self.log_mel(recorded), self.log_mel(made.float())
                # digital silence has no log-mel to miss by some dB
                audible = (first > first.amax(dim=(1, 2), keepdim=True) - _RANGE) & (first > self.log_mel.spec.silence)
                error = torch.where(audible, 20 * (second - first).abs(), 0.0).sum(dim=(1, 2))
                errors.append(error / audible.sum(dim=(1, 2)))
        values = torch.cat(errors).double().cpu()
        spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
        return {"val_loss": float(values.mean()), "val_loss_se": spread}

    def save(self, folder: Path, facts: Mapping[str, Any], protected: frozenset[int]) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: It cannot be written.
        """
        checkpoint.save_checkpoint(folder, self.step, self._parts(), facts, protected=protected)

    def settle(self) -> None:
        """Return at once: `save` returns when its checkpoint is complete."""

    def _parts(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, model in self._models.items():
            state = self._optimizers[name].state
            named = dict(model.named_parameters())
            yield name, {key: parameter.detach().cpu().contiguous() for key, parameter in named.items()}
            moments = {
                f"{key}/{moment}": value.cpu().contiguous()
                for key, parameter in named.items()
                for moment, value in state[parameter].items()
            }
            if moments:
                yield f"{name}-optimizer", moments

    def restore(self, last: checkpoint.Checkpoint) -> None:
        """Load a checkpoint.

        Raises:
            CheckpointError: It is damaged, or of another network.
        """
        for name, model in self._models.items():
            named = dict(model.named_parameters())
            stored = last.tensors(name)
            if {key: value.shape for key, value in stored.items()} != {k: p.shape for k, p in named.items()}:
                raise CheckpointError(f"{last.folder}: {name} of another network")
            with torch.no_grad():
                for key, value in stored.items():
                    named[key].copy_(value)
            # the critics have no moments before their first step
            if f"{name}-optimizer.safetensors" not in last.facts["files"]:
                continue
            for key, value in last.tensors(f"{name}-optimizer").items():
                parameter, _, moment = key.rpartition("/")
                moved = value if moment == "step" else value.to(self.device)
                self._optimizers[name].state[named[parameter]][moment] = moved
        self.step = last.step

    def any(self, flag: bool) -> bool:
        """Return the flag: a vocoder trains in one process."""
        return flag

    def _precision(self) -> torch.autocast:
        half = precision(self.settings.precision, self.device) == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)
