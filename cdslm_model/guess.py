"""A first guess of a continuation: a ridge regression from the last frames of its context, which the network corrects.

Speech changes slowly. A network that starts from nothing spends most of a short training on learning to copy the end of
its context, and stays behind a regression that does so at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cdslm_model.checkpoint import Checkpoint
from cdslm_model.diffusion import Guess
from cdslm_model.errors import CheckpointError

__all__ = ["CONTEXT_FRAMES", "RANK", "FirstGuess", "Moments"]

CONTEXT_FRAMES = 4
"""Last frames of a context that are read; 8 and 16 predict no better."""
RANK = 64
"""Of the regression from all bands of all frames read to all bands of all frames predicted."""
_PENALTIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Of the ridge, a window, on normalised values; each frame has its own."""
_LEAST_SPREAD = 0.05
"""What the regression leaves at least: a band that never moves cannot be scaled to deviation 1."""
_HELD_OUT = 8
"""One window in so many decides the penalties; the regression is then fitted on all."""


@dataclass(frozen=True, slots=True)
class FirstGuess:
    """The first frames of a continuation as a linear function of the last ones of its context, normalised.

    Beyond the frames that it was fitted on, the last of them falls by e over as many frames.

    Attributes:
        inputs: `[context frames * mels, rank]`.
        outputs: `[rank, frames * mels]`.
        offset: Guess for a context of zeros, `[frames, mels]`.
        spread: Deviation that the regression leaves, in 0..1, `[frames, mels]`.
    """

    inputs: Tensor
    outputs: Tensor
    offset: Tensor
    spread: Tensor

    @classmethod
    def stored(cls, saved: Checkpoint) -> FirstGuess | None:
        """Return the first guess of a checkpoint; None where its model was trained without one.

        Raises:
            CheckpointError: It is damaged, or lacks the guess that its model was trained with.
        """
        if not saved.has("guess"):
            settings = saved.facts.get("settings", {})
            if settings.get("guess_frames") and settings["config"]["context_frames"]:
                # without it the network would read and predict something else, and sound plausible
                raise CheckpointError(f"{saved.folder}: lacks the first guess that its model was trained with")
            return None
        tensors = saved.tensors("guess")
        try:
            guess = cls(**tensors)
            frames, mels = guess.offset.shape
            rank = guess.inputs.shape[1]
            fits = guess.outputs.shape == (rank, frames * mels) and not guess.inputs.shape[0] % mels
            fits = fits and guess.spread.shape == (frames, mels)
        except (TypeError, ValueError, IndexError, ZeroDivisionError):
            fits = False
        if not fits:
            shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
            raise CheckpointError(f"{saved.folder}: its first guess does not fit together: {shapes}")
        return guess

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name."""
        return {"inputs": self.inputs, "outputs": self.outputs, "offset": self.offset, "spread": self.spread}

    def to(self, device: torch.device) -> FirstGuess:
        """Return it on a device."""
        return FirstGuess(*(tensor.to(device) for tensor in self.tensors().values()))

    def __call__(self, context: Tensor, frames: int) -> Guess | None:
        """Return the guess of x0, float32; None after a context of no frames.

        Args:
            context: Normalised, `[batch, context frames, mels]`. Of one that is shorter than what is read, the first
                frame stands for those before it.
            frames: Of the continuation.
        """
        if not context.shape[1]:
            return None
        own, mels = self.offset.shape
        past = len(self.inputs) // mels
        last = context[:, -past:].float()
        if missing := past - last.shape[1]:
            last = torch.cat((last[:, :1].expand(-1, missing, -1), last), 1)
        # in float32 whatever the network computes in: it is a thousandth of its products
        with torch.autocast(context.device.type, enabled=False):
            product = last.flatten(1) @ self.inputs @ self.outputs
        near = product.view(-1, own, mels) + self.offset
        if frames <= own:
            return Guess(near[:, :frames], self.spread[:frames])
        decay = torch.exp(-torch.arange(1, frames - own + 1, device=context.device) / own)
        # what is explained of the variance falls with the square of the guess
        spread = torch.sqrt(1.0 - (1.0 - self.spread[-1:] ** 2) * decay[:, None] ** 2)
        return Guess(torch.cat((near, near[:, -1:] * decay[:, None]), 1), torch.cat((self.spread, spread)))


class Moments:
    """Sums over windows that a first guess is fitted from; memory does not grow with them.

    Args:
        frames: First frames of a continuation that are guessed.
    """

    def __init__(self, frames: int) -> None:
        self.windows = 0
        self._frames, self._mels = frames, 0
        self._parts = [_Sums(), _Sums()]

    def add(self, contexts: Tensor, continuations: Tensor) -> None:
        """Add windows: normalised `[windows, frames, mels]` each, of which the frames around the join are used."""
        self._mels = contexts.shape[2]
        x = contexts[:, -CONTEXT_FRAMES:].flatten(1).double()
        y = continuations[:, : self._frames].flatten(1).double()
        held_out = torch.arange(self.windows, self.windows + len(x)) % _HELD_OUT == _HELD_OUT - 1
        for part, rows in zip(self._parts, (~held_out, held_out), strict=True):
            part.add(x[rows], y[rows])
        self.windows += len(x)

    def fit(self) -> FirstGuess:
        """Return the ridge regression of all windows, of limited rank.

        Each frame has the penalty that predicts it best in the windows held out; with none of them the largest.
        """
        penalties = self._penalties()
        whole = self._parts[0].with_(self._parts[1])
        ridge = _Ridge(whole)
        per_frame = ridge.covariance.view(-1, self._frames, self._mels).unbind(1)
        weights = torch.cat(
            [ridge.weights(own, penalty) for own, penalty in zip(per_frame, penalties, strict=True)], dim=1
        )
        # the directions in which predictions vary most: the best regression of a rank, by squared error
        scaled = ridge.values.clamp(min=0).sqrt()[:, None] * (ridge.vectors.T @ weights)
        directions = torch.linalg.svd(scaled, full_matrices=False)[2][:RANK]
        # a direction has no sign of its own, and the decomposition returns now one and now the other
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        directions = directions * largest.sign()
        inputs, outputs = weights @ directions.T, directions
        offset = whole.y_mean - (whole.x_mean @ inputs) @ outputs
        left = whole.squared_errors(inputs @ outputs, whole) / whole.count
        spread = left.clamp(min=_LEAST_SPREAD**2, max=1.0).sqrt()
        shape = self._frames, self._mels
        return FirstGuess(inputs.float(), outputs.float(), offset.view(shape).float(), spread.view(shape).float())

    def _penalties(self) -> list[float]:
        """Return the penalty of each frame."""
        fitted, held_out = self._parts
        if not held_out.count:
            return [_PENALTIES[-1]] * self._frames
        ridge = _Ridge(fitted)
        errors = [
            held_out.squared_errors(ridge.weights(ridge.covariance, penalty), fitted).view(self._frames, -1).sum(1)
            for penalty in _PENALTIES
        ]
        return [_PENALTIES[best] for best in torch.stack(errors).argmin(0).tolist()]


class _Sums:
    """Means and summed products about zero of regressors x and targets y."""

    def __init__(self, count: int = 0, *sums: Tensor) -> None:
        self.count, self._sums = count, sums

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows."""
        new = x.sum(0), y.sum(0), x.T @ x, x.T @ y, y.square().sum(0)
        self._sums = tuple(old + own for old, own in zip(self._sums, new, strict=True)) if self._sums else new
        self.count += len(x)

    def with_(self, other: _Sums) -> _Sums:
        """Return the sums over the rows of both."""
        if not other.count:
            return self
        both = (own + others for own, others in zip(self._sums, other._sums, strict=True))
        return _Sums(self.count + other.count, *both)

    @property
    def x_mean(self) -> Tensor:
        """Mean of the regressors."""
        return self._sums[0] / self.count

    @property
    def y_mean(self) -> Tensor:
        """Mean of the targets."""
        return self._sums[1] / self.count

    def centred(self, about: _Sums) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums of x x', x y' and y^2 about the means of `about`."""
        x_sum, y_sum, xx, xy, yy = self._sums
        x, y, n = about.x_mean, about.y_mean, self.count
        return (
            xx - torch.outer(x, x_sum) - torch.outer(x_sum, x) + n * torch.outer(x, x),
            xy - torch.outer(x, y_sum) - torch.outer(x_sum, y) + n * torch.outer(x, y),
            yy - 2 * y * y_sum + n * y.square(),
        )

    def squared_errors(self, weights: Tensor, fitted: _Sums) -> Tensor:
        """Return the summed squared error of each target under weights fitted elsewhere."""
        xx, xy, yy = self.centred(fitted)
        return yy - 2 * (weights * xy).sum(0) + (weights * (xx @ weights)).sum(0)


class _Ridge:
    """Ridge regressions with different penalties from one decomposition.

    Attributes:
        values, vectors: Of the centred products of the regressors.
        covariance: Centred products of regressors and targets.
    """

    def __init__(self, sums: _Sums) -> None:
        self._count = sums.count
        xx, self.covariance, _ = sums.centred(sums)
        self.values, self.vectors = torch.linalg.eigh(xx)

    def weights(self, covariance: Tensor, penalty: float) -> Tensor:
        """Return the weights `[regressors, targets]` for some of the targets' products."""
        shrunk = (self.vectors.T @ covariance) / (self.values.clamp(min=0) + penalty * self._count)[:, None]
        weights: Tensor = self.vectors @ shrunk
        return weights
