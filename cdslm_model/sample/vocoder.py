"""Log-mels back to samples: Griffin-Lim, or any vocoder that an installed distribution brings and that says its spec.

A distribution brings one by an entry point in the group `cdslm_model.vocoders` whose object is called with the wanted
spec and the text after the colon of `name:argument`, and returns a `Vocoder`.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from cdslm_model.data.mel import LogMel, MelSpec, mel_filters
from cdslm_model.errors import ModelError

__all__ = ["DEFAULT", "GROUP", "GriffinLim", "Vocoder", "find", "griffin_lim", "roundtrip"]

GROUP = "cdslm_model.vocoders"
DEFAULT = "griffin-lim"
_LOUDEST = 3.0
"""log10 mel magnitude far above that of any sound in -1..1; what lies above is a model that has burst."""
_HEARD = 3.0
"""Decades under the loudest frame within which `roundtrip` compares: 60 dB."""


class Vocoder(Protocol):
    """What turns log-mels of one spec into samples."""

    @property
    def spec(self) -> MelSpec:
        """The log-mels it is made for."""

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return samples `[batch, frames * hop]` of `[batch, frames, mels]`; a clip must not depend on its batch."""


class GriffinLim:
    """Magnitudes by non-negative least squares, phases by the fast Griffin-Lim algorithm from a fixed start.

    Args:
        spec: The log-mels.
        iterations: Rounds of the phase search.
        momentum: Acceleration, 0..1.

    Source:
        Perraudin et al. 2013, "A fast Griffin-Lim algorithm".
    """

    def __init__(self, spec: MelSpec, *, iterations: int = 48, momentum: float = 0.99) -> None:
        self._spec = spec
        self._iterations, self._momentum = iterations, momentum
        self._filters = mel_filters(spec)
        self._window = torch.hann_window(spec.window)

    @property
    def spec(self) -> MelSpec:
        """The log-mels."""
        return self._spec

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return samples `[batch, frames * hop]` of `[batch, frames, mels]`, on its device."""
        if not log_mel.shape[1]:
            return log_mel.new_empty(len(log_mel), 0)
        window = self._window.to(log_mel.device)
        magnitudes = self._magnitudes(log_mel.float()).mT
        # drawn frame by frame and shared by the batch: a clip does not depend on its neighbours or its tail
        source = torch.Generator().manual_seed(0)
        angles = 2 * math.pi * torch.rand(magnitudes.shape[-1], magnitudes.shape[-2], generator=source).T
        phase = torch.polar(torch.ones_like(angles), angles).to(log_mel.device)
        before = torch.zeros_like(phase)
        for _ in range(self._iterations):
            again = self._stft(self._istft(magnitudes * phase, window), window)
            moved = again - before * (self._momentum / (1 + self._momentum))
            phase, before = moved / moved.abs().clamp_(min=1e-16), again
        return self._istft(magnitudes * phase, window)

    def _magnitudes(self, log_mel: Tensor) -> Tensor:
        """Return spectral magnitudes `[batch, frames, bins]` whose mels are those given."""
        filters = self._filters.to(log_mel.device)
        mel = torch.pow(10.0, log_mel.clamp(self._spec.silence, _LOUDEST))
        magnitudes: Tensor = (mel @ torch.linalg.pinv(filters)).clamp_(min=1e-8)
        wanted = mel @ filters.T
        for _ in range(30):
            # Lee & Seung 2001: a multiplicative step of non-negative least squares never raises the error
            magnitudes = magnitudes * wanted / (magnitudes @ filters @ filters.T).clamp_(min=1e-12)
        return magnitudes

    def _stft(self, samples: Tensor, window: Tensor) -> Tensor:
        spec = self._spec
        spectrum = torch.stft(
            samples, spec.fft, spec.hop, spec.window, window, pad_mode="constant", return_complex=True
        )
        kept: Tensor = spectrum[..., : spec.frames(samples.shape[-1])]
        return kept

    def _istft(self, spectrum: Tensor, window: Tensor) -> Tensor:
        spec = self._spec
        frames = spectrum.shape[-1]
        padded = functional.pad(spectrum, (0, 1))
        samples: Tensor = torch.istft(padded, spec.fft, spec.hop, spec.window, window, length=spec.samples(frames))
        return samples


def griffin_lim(spec: MelSpec, argument: str) -> Vocoder:
    """Return Griffin-Lim for any spec; the entry point of `griffin-lim` and `griffin-lim:ITERATIONS`.

    Raises:
        ModelError: The argument is no number of iterations.
    """
    if not argument:
        return GriffinLim(spec)
    if not argument.isdecimal() or int(argument) < 1:
        raise ModelError(f"griffin-lim:{argument}: give a number of iterations, such as griffin-lim:60")
    return GriffinLim(spec, iterations=int(argument))


def find(name: str, spec: MelSpec) -> Vocoder:
    """Return a vocoder for log-mels of a spec.

    Args:
        name: "griffin-lim", or `name` or `name:argument` of an entry point of the group `cdslm_model.vocoders`.
        spec: What the log-mels are.

    Raises:
        ModelError: Nobody or more than one brings it, it cannot be loaded, or it was made for other log-mels.
    """
    name, _, argument = name.partition(":")
    point = _point(name)
    try:
        build: Callable[[MelSpec, str], Vocoder] = point.load()
        vocoder = build(spec, argument)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the vocoder {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if vocoder.spec.digest != spec.digest:
        raise ModelError(
            f"the vocoder {name!r} was made for {vocoder.spec}, and these log-mels are {spec}; use another vocoder, "
            "or a model of the same log-mels"
        )
    return vocoder


def _point(name: str) -> EntryPoint:
    """Return the entry point of a vocoder."""
    points = list(entry_points(group=GROUP))
    found = [point for point in points if point.name == name]
    owners = sorted(f"{point.dist.name if point.dist else '?'}" for point in found)
    if len(set(owners)) > 1:
        raise ModelError(f"the vocoder {name!r} is brought by {' and by '.join(owners)}; uninstall one of them")
    if found:
        return found[0]
    known = sorted({point.name for point in points})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known) or 'none'}."
    raise ModelError(f"There is no vocoder {name!r}.{hint}")


def roundtrip(samples: Tensor, vocoder: Vocoder) -> dict[str, float]:
    """Return what is lost from samples to log-mels and back.

    Args:
        samples: `[batch, samples]` at the rate of the vocoder's spec.
        vocoder: What is measured.

    Returns:
        "log_mel_rmse_db" and "log_mel_bias_db": error of the log-mels of what comes back, over what lies within 60 dB
        of the loudest, NaN where there is none; "spectral_convergence": distance of the mel magnitudes over their
        norm; "real_time_factor": seconds of work per second of speech.

    Raises:
        ModelError: There is less than one frame.
    """
    spec = vocoder.spec
    log_mel = LogMel(spec).to(samples.device)
    first = log_mel(samples)
    if not first.numel():
        raise ModelError(f"a round trip needs at least one frame, {spec.hop / spec.rate_hz:g} s of speech")
    start = time.perf_counter()
    back = vocoder(first)
    took = time.perf_counter() - start
    second = log_mel(back)
    heard = (first > first.amax(dim=(1, 2), keepdim=True) - _HEARD) & (first > spec.silence)
    error = 20 * (second - first)[heard]
    mel, again = 10.0**first, 10.0**second
    return {
        "log_mel_rmse_db": float(error.square().mean().sqrt()),
        "log_mel_bias_db": float(error.mean()),
        "spectral_convergence": float((again - mel).norm() / mel.norm()),
        "real_time_factor": took / (back.numel() / spec.rate_hz),
    }
