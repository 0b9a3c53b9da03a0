"""Trains the network on augmented batches of similar length, until its phone errors stop falling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from cdslm_eval.core.errors import AudioError, EvalError
from cdslm_eval.core.sources import decode
from cdslm_eval.plugin.models import device_of
from cdslm_eval_phones.level import levelled
from cdslm_eval_phones.per import PhoneErrors, phone_errors
from cdslm_eval_phones.train.augment import augment
from cdslm_eval_phones.train.labels import Labelled
from cdslm_eval_phones.train.model import WINDOW, PhoneNet

__all__ = ["TrainOptions", "TrainReport", "train"]

RATE_HZ = 16_000
_LONGEST_S = 20.0
_WARM_UP = 0.1
_VALID_CLIPS = 300
_BATCH_S = 40.0


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train.

    Attributes:
        width, blocks: Size of the network; see `PhoneNet`.
        epochs: Passes over the clips; the learning rate falls to 0 over them.
        cpu_minutes: Processor minutes after which training ends, the learning rate falling to 0 by then; 0 is no limit.
        patience: Epochs without fewer phone errors on the held-out clips after which training ends.
        learning_rate: Its peak.
        seed: Randomness of weights, order and augmentation.
        device: "auto", "cpu", "cuda" or "cuda:N".
        augmented: Whether clips pass through random channels.
    """

    width: int = 240
    blocks: int = 12
    epochs: int = 40
    cpu_minutes: float = 0.0
    patience: int = 6
    learning_rate: float = 2e-3
    seed: int = 0
    device: str = "auto"
    augmented: bool = True


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What training did.

    Attributes:
        net: The network of the best epoch, on the CPU, in evaluation mode.
        per: Its phone error rate on the held-out clips.
        epochs: Passes that started.
        audio_s: Seconds of audio that it saw.
        cpu_s: Processor seconds that it took.
        stopped: "epochs", "minutes" or "no fewer errors".
    """

    net: PhoneNet
    per: float
    epochs: int
    audio_s: float
    cpu_s: float
    stopped: str


def train(
    clips: Sequence[Labelled],
    valid: Sequence[Labelled],
    symbols: Sequence[str],
    options: TrainOptions,
    log: Callable[[str], None],
) -> TrainReport:
    """Train on labelled clips, and keep the network that made the fewest errors on others.

    Args:
        clips: To train on; those over 20 s and unreadable ones are left out.
        valid: To measure errors on.
        symbols: The vocabulary, the blank first; labels outside of it are dropped.
        options: How.
        log: Receives a line per epoch.

    Raises:
        EvalError: No clip is left to train on or to measure errors on, or the loss became NaN.
    """
    torch.manual_seed(options.seed)
    device = torch.device(device_of(options.device))
    net = PhoneNet(len(symbols), options.width, options.blocks).to(device)
    decay = [parameter for parameter in net.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in net.parameters() if parameter.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    batches = _Batches(clips, symbols, options)
    if batches.left_out:
        log(f"{batches.left_out} of {len(clips)} clips are left out: unreadable, under 25 ms or over {_LONGEST_S:g} s")
    clock = _Clock(options, batches.per_epoch)
    best, best_state, best_epoch, audio_s, epoch = math.inf, deepcopy(net.state_dict()), 0, 0.0, 0
    stopped = "epochs"
    for epoch in range(1, options.epochs + 1):
        net.train()
        losses = []
        for batch in batches.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * clock.rate()
            loss = _step(net, optimizer, batch, device)
            if not math.isfinite(loss):
                raise EvalError(f"training: the loss is {loss} in epoch {epoch}; Use: a lower --learning-rate")
            losses.append(loss)
            audio_s += batch.seconds
            clock.steps += 1
            if clock.is_over():
                break
        per = _error_rate(net, valid, symbols, device)
        log(f"epoch {epoch}: loss {np.mean(losses):.3f}, PER {per:.3f}, {clock.cpu_s() / 60:.1f} CPU minutes")
        if per < best or best_epoch == 0:
            best, best_state, best_epoch = per, deepcopy(net.state_dict()), epoch
        if clock.is_over():
            stopped = "minutes"
            break
        if epoch - best_epoch >= options.patience:
            stopped = "no fewer errors"
            break
    net.load_state_dict(best_state)
    return TrainReport(net.cpu().eval(), best, epoch, audio_s, clock.cpu_s(), stopped)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Padded clips with their labels in one row.

    Attributes:
        samples: `[batch, samples]`.
        lengths: Of the clips, in samples, `[batch]`.
        labels: Symbols of all clips in order, `[sum of counts]`.
        counts: Labels of each clip, `[batch]`.
    """

    samples: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    counts: torch.Tensor

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / RATE_HZ


class _Clock:
    """The learning rate over training: a warm-up, then a cosine to 0 at the end of the epochs or minutes."""

    def __init__(self, options: TrainOptions, per_epoch: int) -> None:
        self._total = options.epochs * per_epoch
        self._limit_s = options.cpu_minutes * 60 or math.inf
        self._start = time.process_time()
        self.steps = 0

    def cpu_s(self) -> float:
        return time.process_time() - self._start

    def is_over(self) -> bool:
        return self.cpu_s() >= self._limit_s

    def rate(self) -> float:
        done = min(1.0, max(self.steps / self._total, self.cpu_s() / self._limit_s))
        return max(min(done / _WARM_UP, 1.0) if done < _WARM_UP else 0.5 * (1 + math.cos(math.pi * done)), 0.01)


class _Batches:
    """Batches of similar length, in another order and through other channels in each epoch, prepared one ahead."""

    def __init__(self, clips: Sequence[Labelled], symbols: Sequence[str], options: TrainOptions) -> None:
        index = {symbol: number for number, symbol in enumerate(symbols)}
        self._options = options
        self._waves: list[Any] = []
        self._labels: list[list[int]] = []
        for entry in clips:
            labels = [index[phone] for phone in entry.phones if phone in index]
            wave = _wave(entry)
            if wave is not None and labels and WINDOW <= len(wave) <= _LONGEST_S * RATE_HZ:
                self._waves.append(wave)
                self._labels.append(labels)
        if not self._waves:
            raise EvalError("training: no readable clip of 25 ms to 20 s has phones")
        self.left_out = len(clips) - len(self._waves)
        self._order = np.argsort([len(wave) for wave in self._waves], kind="stable")
        self.per_epoch = len(self._groups())

    def _groups(self) -> list[list[int]]:
        """Return the numbers of the clips of each batch: at most `_BATCH_S` of audio, padding included."""
        groups: list[list[int]] = [[]]
        for number in self._order:
            length = len(self._waves[number])
            if groups[-1] and (len(groups[-1]) + 1) * length > _BATCH_S * RATE_HZ:
                groups.append([])
            groups[-1].append(int(number))
        return groups

    def epoch(self, epoch: int) -> Iterator[_Batch]:
        """Yield the batches of one epoch."""
        rng = np.random.default_rng([self._options.seed, epoch])
        groups = self._groups()
        order = rng.permutation(len(groups))
        seeds = rng.integers(0, 2**31, len(groups))
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(self._batch, groups[order[0]], seeds[0])
            for number in range(len(order)):
                batch = pending.result()
                if number + 1 < len(order):
                    pending = pool.submit(self._batch, groups[order[number + 1]], seeds[number + 1])
                yield batch

    def _batch(self, numbers: Sequence[int], seed: int) -> _Batch:
        rng = np.random.default_rng(seed)
        waves = []
        for number in numbers:
            wave = self._waves[number].astype(np.float32) / 32768
            changed = augment(wave, RATE_HZ, rng) if self._options.augmented else wave
            waves.append(levelled(changed if len(changed) >= WINDOW else wave))
        lengths = [len(wave) for wave in waves]
        samples = np.zeros((len(waves), max(lengths)), np.float32)
        for row, wave in zip(samples, waves, strict=True):
            row[: len(wave)] = wave
        labels = [self._labels[number] for number in numbers]
        return _Batch(
            torch.from_numpy(samples),
            torch.tensor(lengths),
            torch.tensor([label for row in labels for label in row]),
            torch.tensor([len(row) for row in labels]),
        )


def _wave(entry: Labelled) -> Any:
    """Return a clip at 16 kHz as int16, which halves the memory of a corpus; None where it is unreadable."""
    try:
        samples = decode(entry.source).at_rate(RATE_HZ).samples
    except AudioError:
        return None
    if not np.isfinite(samples).all():
        return None
    return (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)


def _step(net: PhoneNet, optimizer: Any, batch: _Batch, device: torch.device) -> float:
    lengths = batch.lengths.to(device)
    scores = net(batch.samples.to(device), lengths).transpose(0, 1)
    frames = net.frames(lengths).clamp(max=len(scores))
    # a clip with more labels than frames has no path; it teaches nothing instead of infinity
    loss = F.ctc_loss(scores, batch.labels.to(device), frames, batch.counts.to(device), zero_infinity=True)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def _error_rate(net: PhoneNet, valid: Sequence[Labelled], symbols: Sequence[str], device: torch.device) -> float:
    """Return the phone error rate of the best paths, on evenly spaced clips where there are many."""
    net.eval()
    errors = PhoneErrors()
    count = min(len(valid), _VALID_CLIPS)
    for entry in (valid[number * len(valid) // count] for number in range(count)):
        wave = _wave(entry)
        if wave is None or not WINDOW <= len(wave) <= _LONGEST_S * RATE_HZ:
            continue
        samples = torch.from_numpy(levelled(wave.astype(np.float32) / 32768))[None].to(device)
        path = net(samples)[0].argmax(-1).cpu().numpy()
        changes = np.concatenate([[True], path[1:] != path[:-1]])
        errors += phone_errors(entry.phones, [symbols[index] for index in path[changes] if index])
    if not errors.phones:
        # without a rate every epoch would be as good as the first, which would then be kept
        raise EvalError("training: no readable clip of 25 ms to 20 s is left to stop by")
    return errors.rate
