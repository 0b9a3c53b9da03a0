"""The network as samplers call it: in one precision, with what all steps share computed once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cdslm_model.diffusion import Guess, Process
from cdslm_model.guess import FirstGuess
from cdslm_model.net.layout import Dense
from cdslm_model.net.mmdit import MMDiT
from cdslm_model.sample.compiling import CompiledStep, Step
from cdslm_model.sample.sampling import Predict

__all__ = ["Denoiser"]

_TIMES_PER_PASS = 64


class Denoiser:
    """Predictions of a network under conditions, float32 whatever the network's precision.

    Args:
        model: The network, which is moved and rounded.
        process: Its diffusion process.
        device: Where it runs.
        dtype: Of its weights and of what it computes.
        guess: Of x0 from the context, which the network corrects.
        compiles: Whether torch compiles its steps.
    """

    def __init__(
        self,
        model: MMDiT,
        process: Process,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        guess: FirstGuess | None = None,
        compiles: bool = False,
    ) -> None:
        self._model = model.to(device, dtype).eval()
        self._process, self._device, self._dtype = process, device, dtype
        self._guess = None if guess is None else guess.to(device)
        self._compiled = CompiledStep(self._model.step) if compiles else None
        # time -> one row of `MMDiT.modulations`
        self._modulations: dict[float, Tensor] = {}

    def tabulate(self, times: Sequence[float]) -> None:
        """Compute the modulations of times at once: each pass reads a third of all weights."""
        new = sorted(set(times) - set(self._modulations))
        for start in range(0, len(new), _TIMES_PER_PASS):
            some = new[start : start + _TIMES_PER_PASS]
            rows = self._model.modulations(torch.tensor(some, dtype=torch.float32, device=self._device))
            self._modulations.update(zip(some, rows, strict=True))

    def __call__(self, conditions: tuple[Tensor, ...]) -> Predict:
        """Return the prediction under normalised conditions `[batch, frames_i, features]`, the first the context."""
        step: Step = self._compiled or self._model.step
        layout: Dense | None = None
        prepared: list[Tensor] = []
        guess: Guess | None = None

        def predict(x: Tensor, time: Tensor) -> Tensor:
            """Return the prediction for x_t, all clips at one time."""
            nonlocal layout, prepared, guess
            if layout is None:
                layout = self._model.layout([*(own.shape[1] for own in conditions), x.shape[1]], self._device)
                prepared = self._model.prepared([own.to(self._dtype) for own in conditions], layout)
                guess = self._guessed(conditions[0], x.shape[1])
            at = float(time)
            self.tabulate([at])
            read = self._process.network_input(x, guess, time)
            output = step(prepared, read.to(self._dtype), self._modulations[at], layout).float()
            return self._process.from_network(output, x, guess, time)

        return predict

    def predict(self, streams: tuple[Tensor, ...], time: Tensor) -> Tensor:
        """Return the prediction for streams, x_t the last, each clip at its own time `[batch]`."""
        *conditions, x = streams
        guess = self._guessed(conditions[0], x.shape[1])
        read = self._process.network_input(x, guess, time)
        output = self._model([own.to(self._dtype) for own in (*conditions, read)], time.float()).float()
        return self._process.from_network(output, x, guess, time)

    def _guessed(self, context: Tensor, frames: int) -> Guess | None:
        """Return the first guess of x0 after a context; None where there is none."""
        return None if self._guess is None else self._guess(context, frames)

    def batch(self, rows: int, *frames: int, copies: int = 1) -> int:
        """Return how many clips to compute at once: some more than `rows` where that saves compiling them.

        Args:
            rows: Clips.
            frames: Of each condition, and of what is generated.
            copies: How often each clip is in a step.
        """
        if self._compiled is None:
            return rows
        config = self._model.config
        return self._compiled.batch(rows, *map(config.tokens, frames[:-1]), frames[-1], copies=copies)
