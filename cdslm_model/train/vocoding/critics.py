"""What a vocoder is trained against: distances of spectra, and critics that tell recorded from generated samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["Critics", "critic_loss", "deceiving_loss", "feature_distance", "spectral_distance"]

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = (512, 1024, 2048)
_SLOPE = 0.1
_LEAST = 1e-5
"""Magnitude below which spectra count as equal: 100 dB under full scale."""

Judged = list[list[Tensor]]
"""For each critic the outputs of its layers; the last is its judgement."""


def spectral_distance(generated: Tensor, recorded: Tensor) -> Tensor:
    """Return the multi-resolution distance of spectra, a scalar: convergence plus mean absolute log ratio.

    Args:
        generated: Samples `[batch, samples]`.
        recorded: Samples of the same shape.

    Source:
        Yamamoto, Song and Kim 2020, "Parallel WaveGAN", equations 4 to 7.
    """
    total = generated.new_zeros(())
    for fft in RESOLUTIONS:
        mine, true = _magnitudes(generated, fft), _magnitudes(recorded, fft)
        convergence = (true - mine).norm() / true.norm().clamp(min=_LEAST)
        total = total + convergence + (mine.clamp(min=_LEAST).log() - true.clamp(min=_LEAST).log()).abs().mean()
    return total / len(RESOLUTIONS)


class Critics(nn.Module):
    """Critics over samples folded at several periods, and over spectra of several resolutions.

    Args:
        width: Channels of the first layer; later ones have up to 32 times as many.

    Source:
        Kong, Kim and Bae 2020, "HiFi-GAN", section 2.3; Jang et al. 2021, "UnivNet", section 2.2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        folded = [_PeriodCritic(period, width) for period in PERIODS]
        self.critics = nn.ModuleList([*folded, *(_SpectralCritic(fft, width) for fft in RESOLUTIONS)])

    def forward(self, samples: Tensor) -> Judged:
        """Return each critic's layers for samples `[batch, samples]`."""
        return [critic(samples) for critic in self.critics]


def critic_loss(recorded: Judged, generated: Judged) -> Tensor:
    """Return the hinge loss of the critics, a mean over them; 2 for critics that judge everything as 0."""
    terms = [
        (1.0 - true[-1]).relu().mean() + (1.0 + made[-1]).relu().mean()
        for true, made in zip(recorded, generated, strict=True)
    ]
    return torch.stack(terms).mean()


def deceiving_loss(generated: Judged) -> Tensor:
    """Return the hinge loss of the vocoder: 0 where every critic takes its samples for recorded ones."""
    return torch.stack([(1.0 - made[-1]).relu().mean() for made in generated]).mean()


def feature_distance(recorded: Judged, generated: Judged) -> Tensor:
    """Return the mean absolute distance of the layers of all critics, without their judgements."""
    terms = [
        (own.detach() - made).abs().mean()
        for truth, copy in zip(recorded, generated, strict=True)
        for own, made in zip(truth[:-1], copy[:-1], strict=True)
    ]
    return torch.stack(terms).mean()


def _magnitudes(samples: Tensor, fft: int) -> Tensor:
    window = torch.hann_window(fft, device=samples.device)
    spectrum = torch.stft(samples.float(), fft, fft // 4, window=window, pad_mode="constant", return_complex=True)
    # at 0 the gradient of a magnitude is not a number
    return (spectrum.real.square() + spectrum.imag.square() + 1e-12).sqrt()


class _PeriodCritic(nn.Module):
    """Two-dimensional convolutions over samples that are folded at a period."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        strides = (3, 3, 3, 3, 1)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(inside, outside, (5, 1), (stride, 1), (2, 0)))
            for inside, outside, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.judge = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """Return the outputs of all layers."""
        missing = -samples.shape[-1] % self.period
        values = functional.pad(samples, (0, missing)).reshape(len(samples), 1, -1, self.period)
        return _layers(values, self.layers, self.judge)


class _SpectralCritic(nn.Module):
    """Two-dimensional convolutions over the magnitudes of one resolution."""

    def __init__(self, fft: int, width: int) -> None:
        super().__init__()
        self.fft = fft
        shapes = (((3, 9), (1, 1)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 3), (1, 1)))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(width if number else 1, width, size, stride, (size[0] // 2, size[1] // 2)))
            for number, (size, stride) in enumerate(shapes)
        )
        self.judge = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """Return the outputs of all layers."""
        return _layers(_magnitudes(samples, self.fft).mT[:, None], self.layers, self.judge)


def _layers(values: Tensor, layers: Sequence[nn.Module] | nn.ModuleList, judge: nn.Module) -> list[Tensor]:
    outputs = []
    for layer in layers:
        values = functional.leaky_relu(layer(values), _SLOPE)
        outputs.append(values)
    return [*outputs, judge(values)]
