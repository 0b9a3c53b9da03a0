"""Measure how much of its context a model uses: at pure noise, at the join, and in the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdslm_model.data.windows import Shards, Windows
from cdslm_model.errors import ModelError
from cdslm_model.noise import clip_noise
from cdslm_model.sample.continuation import Continuer

__all__ = ["FRAMES", "probe", "ridge_prediction", "text"]

FRAMES = (0, 1, 4, 8, 20)
"""Frames of the continuation at which explained variance is reported."""
_RIDGE_CONTEXT_FRAMES = 16
_RIDGE_WINDOWS_PER_PROBE = 32
_RIDGE_PENALTY = 0.07
"""Penalty of the ridge regression, a window, on normalised values."""
_DECILES = 10
_PER_PASS = 16


def probe(run: Path | str, train: Path, valid: Path, windows: int = 128, device: str = "auto") -> dict[str, Any]:
    """Return how well a model uses its context, next to a ridge regression from the same context.

    Args:
        run: A run of `cdslm train`, or a checkpoint in it.
        train: Prepared speech on which the ridge regression is fitted.
        valid: Held-out prepared speech on which both are measured.
        windows: Held-out windows.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        "explained_variance" and "ridge" by frame: share of the variance over clips of frame f that x0 at time 1 (or the
            regression) explains; "guess": that of the model's own first guess, where it has one; "over_ridge": the
            first less the second, with "over_ridge_se", the standard error over windows; "other_context_gain" and
            "reversed_context_gain": mean rise of the loss with another clip's or the time-reversed context over the
            loss, with "_se"; "join_jump": rms step from the last context frame to the first generated one over that of
            real speech; "noise_deciles": mean unweighted loss in each tenth of [0, 1], with standard errors (None where
            a tenth has fewer than two windows).

    Raises:
        ModelError: The model has no context, or the speech does not fit.
    """
    if windows < 2:
        raise ModelError(f"a probe of {windows} windows; at least 2 are needed")
    model = Continuer(run, device=device)
    config = model.config
    if not config.context_frames:
        raise ModelError(f"{run}: was trained without a context; there is nothing to probe")
    shape = (config.context_frames, config.continuation_frames, True)
    frames = [frame for frame in FRAMES if frame < config.continuation_frames]
    context, clean = _windows(Windows(Shards(valid), *shape), model, windows)
    # 16 frames of 80 bands are 1280 regressors: the windows of a probe are too few to fit them
    fitted = _windows(Windows(Shards(train), *shape), model, _RIDGE_WINDOWS_PER_PROBE * windows)
    ridge = ridge_prediction(fitted, context, frames)
    noise = clip_noise(0, [f"probe {number}" for number in range(windows)], *clean.shape[1:])
    end = torch.full((windows,), model.process.last_time, dtype=torch.float64)
    # x_t is all noise there: what x0 explains can come from the context only
    x0, _ = model.process.denoised(noise, _predicted(model, context, noise, end), end)
    real = clean[:, frames]
    guess = None if model.guess is None else model.guess(context, clean.shape[1])
    return {
        "frames": frames,
        "windows": windows,
        "explained_variance": _explained(x0[:, frames], real),
        "ridge": _explained(ridge, real),
        **({} if guess is None else {"guess": _explained(guess.mean[:, frames], real)}),
        **_over_ridge(x0[:, frames], ridge, real),
        **_losses(model, context, clean, noise),
        **_join(model, context, clean, noise),
    }


def ridge_prediction(fitted: tuple[Tensor, Tensor], context: Tensor, frames: list[int]) -> Tensor:
    """Return the frames that a ridge regression predicts from the end of each context, `[windows, frames, mels]`.

    Args:
        fitted: Contexts and continuations to fit on, `[windows, frames, mels]` each.
        context: Contexts to predict from.
        frames: Frames of the continuation.
    """
    contexts, continuations = fitted
    x = contexts[:, -_RIDGE_CONTEXT_FRAMES:].flatten(1).double()
    y = continuations[:, frames].flatten(1).double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    penalty = _RIDGE_PENALTY * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
    predicted = (context[:, -_RIDGE_CONTEXT_FRAMES:].flatten(1).double() - x_mean) @ weights + y_mean
    reshaped: Tensor = predicted.view(len(context), len(frames), -1)
    return reshaped


def _windows(windows: Windows, model: Continuer, count: int) -> tuple[Tensor, Tensor]:
    """Return normalised contexts and continuations of windows spread evenly over the data."""
    spread = [windows.window((index + 0.5) / count) for index in range(count)]
    context, clean = (model.normalizer.normalize(torch.stack(part)) for part in zip(*spread, strict=True))
    return context, clean


def _predicted(model: Continuer, context: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
    passes = (slice(start, start + _PER_PASS) for start in range(0, len(time), _PER_PASS))
    return torch.cat([model.predict(context[rows], noisy[rows], time[rows]) for rows in passes])


def _explained(predicted: Tensor, real: Tensor) -> list[float]:
    """Return the share of the variance over windows that a prediction explains, for each frame."""
    errors = (predicted.double() - real).square().sum((0, 2))
    spread = (real.double() - real.double().mean(0)).square().sum((0, 2))
    return (1.0 - errors / spread).tolist()


def _over_ridge(predicted: Tensor, ridge: Tensor, real: Tensor) -> dict[str, list[float | None]]:
    """Return how much more of the variance a prediction explains than a regression, with standard errors, by frame."""
    spread = (real.double() - real.double().mean(0)).square().sum((0, 2)) / len(real)
    errors = ((guess.double() - real).square().sum(2) / spread for guess in (ridge, predicted))
    # paired: a window that is hard is hard for both
    means, standard_errors = zip(*map(_mean_and_error, (next(errors) - next(errors)).unbind(1)), strict=True)
    return {"over_ridge": list(means), "over_ridge_se": list(standard_errors)}


def _losses(model: Continuer, context: Tensor, clean: Tensor, noise: Tensor) -> dict[str, Any]:
    count, process = len(clean), model.process
    # Stratified, in an order that has nothing to do with that of the windows
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    time = (order.double() + 0.5) / count
    noisy, target = process.noised(clean, noise, time), process.predicted(clean, noise, time)

    def errors(contexts: Tensor) -> Tensor:
        """Return the mean squared error of each window."""
        return (_predicted(model, contexts, noisy, time) - target).square().mean((1, 2)).double()

    own = errors(context)
    weight = process.weight(time)
    loss = (weight * own).mean()
    gains: dict[str, Any] = {}
    # both stand-ins are real speech: silence would measure how a model takes an input it never saw
    for name, other in (("other_context", context.roll(1, 0)), ("reversed_context", context.flip(1))):
        # paired: noise and times of a window are common to both errors and cancel in the difference
        mean, error = _mean_and_error(weight * (errors(other) - own) / loss)
        gains |= {f"{name}_gain": mean, f"{name}_gain_se": error}
    deciles = [_mean_and_error(own[(time * _DECILES).long() == tenth]) for tenth in range(_DECILES)]
    return {
        **gains,
        "noise_deciles": [mean for mean, _ in deciles],
        "noise_deciles_se": [error for _, error in deciles],
    }


def _join(model: Continuer, context: Tensor, clean: Tensor, noise: Tensor) -> dict[str, float]:
    few = slice(0, min(32, len(clean)))
    generated = model.sample(context[few], noise[few])

    def step(after: Tensor, before: Tensor) -> float:
        """Return the rms difference of two frames."""
        return float((after - before).square().mean().sqrt())

    jump, real = step(generated[:, 0], context[few, -1]), step(clean[few, 0], context[few, -1])
    return {"join_jump": jump / real, "join_jump_deviations": jump, "real_jump_deviations": real}


def _mean_and_error(values: Tensor) -> tuple[float | None, float | None]:
    """Return the mean and its standard error, None where there are too few values."""
    if not len(values):
        return None, None
    return float(values.mean()), float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None


def text(result: Mapping[str, Any]) -> str:
    """Return a probe as lines for a terminal."""
    rows = [f"{'frame':>12}  " + "  ".join(f"{frame:>6}" for frame in result["frames"])]
    rows += [
        f"{name.split('_')[0]:>12}  " + "  ".join(f"{value:6.3f}" for value in result[name])
        for name in ("explained_variance", "ridge", "guess")
        if name in result
    ]
    rows += [
        f"{title:>12}  " + "  ".join(f"{value:{form}}" for value in result[name])
        for title, name, form in (("difference", "over_ridge", "+6.3f"), ("std. error", "over_ridge_se", "6.3f"))
    ]
    rows += [
        f"loss with {name.replace('_', ' ')}: {result[f'{name}_gain']:+.2%} +- {result[f'{name}_gain_se']:.2%}"
        for name in ("other_context", "reversed_context")
    ]
    rows.append(f"join jump: {result['join_jump']:.2f} times that of real speech")
    return "\n".join(rows)
