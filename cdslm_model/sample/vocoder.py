"""Vocoders, from log-mels to samples: Griffin-Lim, or any vocoder of an installed distribution.

A distribution provides one by an entry point in the group `cdslm_model.vocoders` whose object is called with the
spec and the text after the colon of `name:argument`, and returns a `Vocoder`. An object with weights has a method
`digest(argument)` too, which returns their identity without loading them, and where they may change with time a method
`fixed(argument)`, which returns the argument that stands for the present ones. A vocoder with a method `stream()`,
which returns a `SampleStream`, decodes long clips while they are generated; without it, at their end.
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
from cdslm_model.sample.pieces import SampleStream

__all__ = [
    "DEFAULT",
    "GROUP",
    "GriffinLim",
    "Vocoder",
    "find_vocoder",
    "fixed_vocoder",
    "griffin_lim",
    "roundtrip",
    "vocoder_digest",
]

GROUP = "cdslm_model.vocoders"
DEFAULT = "griffin-lim"
_LOUDEST = 3.0
"""log10 mel magnitude far above that of any sound in -1..1; a model that diverged lies above."""
_PIECE_FRAMES = 2400
"""Frames, 30 s, whose phases are searched at once: spectra of a whole hour would take 8 GB."""
_PAST_FRAMES, _AHEAD_FRAMES = 16, 8
"""Of a piece's neighbours: the samples before it are known, so that phases continue; those after it are cut off."""
_RANGE = 3.0
"""Decades under the loudest frame within which `roundtrip` compares: 60 dB."""


class Vocoder(Protocol):
    """Turns log-mels of one spec into samples."""

    @property
    def spec(self) -> MelSpec:
        """Mel spec of its input."""

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
        self._inverse = torch.linalg.pinv(self._filters)
        self._window = torch.hann_window(spec.window)

    @property
    def spec(self) -> MelSpec:
        """The log-mels."""
        return self._spec

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Return samples `[batch, frames * hop]` of `[batch, frames, mels]`, on its device."""
        return self.stream().push(log_mel, last=True)

    def stream(self) -> SampleStream:
        """Return what decodes log-mels that arrive in parts, to the same samples."""
        return SampleStream(self._piece, self._spec.hop, _PIECE_FRAMES, _PAST_FRAMES, _AHEAD_FRAMES)

    def _piece(self, log_mel: Tensor, lead: int, length: int, known: Tensor) -> Tensor:
        hop = self._spec.hop
        return self._search(log_mel.float(), known)[:, lead * hop : (lead + length) * hop]

    def _search(self, log_mel: Tensor, known: Tensor) -> Tensor:
        """Return samples of one piece, which begins with known ones."""
        window = self._window.to(log_mel.device)
        magnitudes = self._magnitudes(log_mel).mT
        # drawn frame by frame and shared by the batch: a clip does not depend on its neighbours or its tail
        source = torch.Generator().manual_seed(0)
        angles = 2 * math.pi * torch.rand(magnitudes.shape[-1], magnitudes.shape[-2], generator=source).T
        phase = torch.polar(torch.ones_like(angles), angles).to(log_mel.device)
        before = torch.zeros_like(phase)
        for _ in range(self._iterations):
            projected = self._stft(self._begun(self._istft(magnitudes * phase, window), known), window)
            moved = projected - before * (self._momentum / (1 + self._momentum))
            phase, before = moved / moved.abs().clamp_(min=1e-16), projected
        return self._begun(self._istft(magnitudes * phase, window), known)

    @staticmethod
    def _begun(samples: Tensor, known: Tensor) -> Tensor:
        """Return samples whose first ones are replaced by known ones."""
        return torch.cat((known, samples[:, known.shape[1] :]), 1) if known.shape[1] else samples

    def _magnitudes(self, log_mel: Tensor) -> Tensor:
        """Return spectral magnitudes `[batch, frames, bins]` with the given mels."""
        filters = self._filters.to(log_mel.device)
        # the log-mels of a model that diverged would overflow the power
        mel = torch.pow(10.0, log_mel.clamp(self._spec.silence, _LOUDEST))
        magnitudes: Tensor = (mel @ self._inverse.to(log_mel.device)).clamp_(min=1e-8)
        target = mel @ filters.T
        for _ in range(30):
            # Lee & Seung 2001: a multiplicative step of non-negative least squares never raises the error
            magnitudes = magnitudes * target / (magnitudes @ filters @ filters.T).clamp_(min=1e-12)
        return magnitudes

    def _stft(self, samples: Tensor, window: Tensor) -> Tensor:
        spec = self._spec
        spectrum = torch.stft(
            samples, spec.fft, spec.hop, spec.window, window, pad_mode="constant", return_complex=True
        )
        whole: Tensor = spectrum[..., : spec.frames(samples.shape[-1])]
        return whole

    def _istft(self, spectrum: Tensor, window: Tensor) -> Tensor:
        spec = self._spec
        frames = spectrum.shape[-1]
        # a centred transform has one frame more than hops, and log-mels are without it
        padded = functional.pad(spectrum, (0, 1))
        samples: Tensor = torch.istft(padded, spec.fft, spec.hop, spec.window, window, length=spec.samples(frames))
        return samples


def griffin_lim(spec: MelSpec, argument: str) -> Vocoder:
    """Return Griffin-Lim for any spec; the entry point of `griffin-lim` and `griffin-lim:ITERATIONS`.

    Raises:
        ModelError: The argument is not a number of iterations.
    """
    if not argument:
        return GriffinLim(spec)
    if not argument.isdecimal() or int(argument) < 1:
        raise ModelError(f"griffin-lim:{argument}: use a number of iterations, such as griffin-lim:60")
    return GriffinLim(spec, iterations=int(argument))


def find_vocoder(name: str, spec: MelSpec) -> Vocoder:
    """Return a vocoder for log-mels of a spec.

    Args:
        name: "griffin-lim", or `name` or `name:argument` of an entry point of the group `cdslm_model.vocoders`.
        spec: Of the log-mels.

    Raises:
        ModelError: No or more than one distribution provides it, it cannot be loaded, or it needs other log-mels.
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


def vocoder_digest(name: str) -> str | None:
    """Return the identity of a vocoder's weights, None for one without weights.

    Raises:
        ModelError: There is no such vocoder, or its weights cannot be found.
    """
    name, _, argument = name.partition(":")
    digest: Callable[[str], str] | None = getattr(_point(name).load(), "digest", None)
    return digest(argument) if digest else None


def fixed_vocoder(name: str) -> str:
    """Return the name of a vocoder with its present weights: of a run that is still trained, its last checkpoint.

    Raises:
        ModelError: There is no such vocoder, or its weights cannot be found.
    """
    kind, _, argument = name.partition(":")
    fixed: Callable[[str], str] | None = getattr(_point(kind).load(), "fixed", None)
    return f"{kind}:{fixed(argument)}" if fixed else name


def _point(name: str) -> EntryPoint:
    """Return the entry point of a vocoder."""
    points = list(entry_points(group=GROUP))
    matches = [point for point in points if point.name == name]
    owners = sorted(f"{point.dist.name if point.dist else '?'}" for point in matches)
    if len(set(owners)) > 1:
        raise ModelError(f"the vocoder {name!r} is provided by {' and by '.join(owners)}; uninstall one of them")
    if matches:
        return matches[0]
    known = sorted({point.name for point in points})
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known) or 'none'}."
    raise ModelError(f"There is no vocoder {name!r}.{hint}")


def roundtrip(samples: Tensor, vocoder: Vocoder) -> dict[str, float]:
    """Return the loss from samples to log-mels and back.

    Args:
        samples: `[batch, samples]` at the rate of the vocoder's spec.
        vocoder: Measured.

    Returns:
        "log_mel_rmse_db" and "log_mel_bias_db": error of the log-mels after the round trip, within 60 dB of the
        loudest, NaN where there is none; "spectral_convergence": distance of the mel magnitudes over their
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
    audible = (first > first.amax(dim=(1, 2), keepdim=True) - _RANGE) & (first > spec.silence)
    error = 20 * (second - first)[audible]
    mel, again = 10.0**first, 10.0**second
    return {
        "log_mel_rmse_db": float(error.square().mean().sqrt()),
        "log_mel_bias_db": float(error.mean()),
        "spectral_convergence": float((again - mel).norm() / mel.norm()),
        "real_time_factor": took / (back.numel() / spec.rate_hz),
    }
