"""Continuations of prompts by a unit language model, as units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cdslm_eval.core.audio import Clip
from cdslm_eval_unit_lm.codec import UnitCodec, find_unit_checkpoint, weights_file
from cdslm_eval_unit_lm.language import build, load_weights
from cdslm_eval_unit_lm.units import Ints, runs
from cdslm_model import ModelError, random_source

__all__ = ["SamplingConfig", "UnitContinuer"]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """Temperature, top k and seed.

    Attributes:
        temperature: Divisor of the logits; 0 takes the most probable unit.
        top_k: Number of most probable units that are sampled from; 0 is all.
        seed: The same seed gives the same clips.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0


class UnitContinuer:
    """A trained unit language model that continues speech.

    Args:
        path: A run of `unit-lm train` or `unit-lm import`, or a checkpoint in it.
        sampling: Temperature, top k and seed.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the run's own.

    Raises:
        ModelError: The checkpoint cannot be used, or the vocoder needs other log-mels.
    """

    def __init__(
        self,
        path: Path | str,
        sampling: SamplingConfig = SamplingConfig(),
        device: str = "auto",
        vocoder: str | None = None,
    ) -> None:
        saved = find_unit_checkpoint(path)
        self.sampling, self.codec = sampling, UnitCodec(saved, device, vocoder)
        lm = saved.facts["lm"]
        self._offset, self._opening, self._window = lm["offset"], lm["opening"], lm["window"]
        self._known = slice(self._offset, self._offset + len(self.codec.units.centroids))
        self._rate = float(saved.facts["tokens_per_second"])
        self._model: Any = (
            load_weights(build(lm["config"]), saved.tensors(weights_file(saved))).to(self.codec.device).eval()
        )

    def context(self, clip: Clip, *, end: bool) -> Ints:
        """Return the context tokens of a clip: its last, or its first, up to the trained length."""
        settings, units = self.codec.settings, self.codec.encode(clip)
        tokens = runs(units)[0] if settings.run_length else units
        length = min(round(settings.context_seconds * self._rate), self._window - 1)
        return tokens[max(0, len(tokens) - length) :] if end else tokens[:length]

    @torch.inference_mode()
    def continuations(self, contexts: Sequence[Ints], clips: Sequence[int], frames: int) -> list[Ints]:
        """Return the units that follow each context, runs expanded, for a number of mel frames.

        Args:
            contexts: Tokens to continue; may be empty.
            clips: Key of each continuation's random numbers.
            frames: Mel frames to fill.
        """
        units = self.codec.units
        count = int(np.ceil(frames * units.rate_hz / units.frame_rate))
        continuations: list[Ints] = [np.zeros(0, np.int64)] * len(contexts)
        # by length: padding would shift the positions of shorter contexts
        for length in sorted({len(context) for context in contexts}):
            rows = [row for row, context in enumerate(contexts) if len(context) == length]
            sources = [random_source(self.sampling.seed, "units", clips[row]) for row in rows]
            batch = self._decode(np.stack([contexts[row] for row in rows]), sources, count)
            for row, generated in zip(rows, batch, strict=True):
                continuations[row] = generated
        return continuations

    @torch.inference_mode()
    def log_probabilities(self, tokens: Ints) -> npt.NDArray[np.float64]:
        """Return ln p of each token given those before it, float64 `[tokens]`, among units as they are drawn.

        NaN for the first where the model has no opening token. Beyond the window, half of it remains as the past.
        """
        known = np.full(len(tokens), np.nan)
        done = 0
        while done < len(tokens):
            first = max(0, done - self._window // 2)
            opened = done == 0 and self._opening is not None
            piece = tokens[first : first + self._window - opened]
            logits = self._model(self._ids(piece[None], opened=done == 0)).logits[0, :, self._known]
            logs = torch.log_softmax(logits.double(), dim=-1).cpu().numpy()
            targets = np.arange(len(logs)) + first + 1 - opened
            rows = np.flatnonzero((targets >= done) & (targets < len(tokens)))
            if not len(rows):  # a lone first token that nothing precedes
                break
            known[targets[rows]] = logs[rows, tokens[targets[rows]]]
            done = int(targets[rows[-1]]) + 1
        return known

    def score(self, clip: Clip, context_s: float) -> tuple[float, int]:
        """Return ln p of the units of a clip after its context, and how many tokens that are.

        Where runs are one token, the lengths of runs are scored by their table, half a count added to each.

        Raises:
            ModelError: The clip is no longer than its context.
        """
        units = self.codec.encode(clip)
        context = round(context_s * self.codec.units.rate_hz)
        tokens, starts, extra = units, np.arange(len(units)), np.zeros(len(units))
        if self.codec.settings.run_length:
            tokens, lengths = runs(units)
            starts = np.cumsum(lengths) - lengths
            counts = self.codec.units.durations[tokens].astype(np.float64) + 0.5
            rows = np.minimum(lengths, counts.shape[1]) - 1
            extra = np.log(counts[np.arange(len(tokens)), rows] / counts.sum(axis=1))
        logs = self.log_probabilities(tokens) + extra
        scored = (starts >= context) & np.isfinite(logs)
        if not scored.any():
            raise ModelError(f"{clip.key}: no unit after its context of {context_s:g} s; use longer clips")
        return float(logs[scored].sum()), int(scored.sum())

    def _decode(self, past: Ints, sources: list[np.random.Generator], count: int) -> list[Ints]:
        """Return `count` units after each row of tokens; a full window restarts from its second half."""
        generated: list[list[int]] = [[] for _ in sources]
        cache: Any = None
        seen = 0
        history = past
        feed = self._ids(past, opened=True)
        while min(map(len, generated)) < count:
            # positions beyond the window were never trained; half of it remains as the past
            if seen + feed.shape[1] > self._window:
                cache, seen = None, 0
                feed = self._ids(history[:, -(self._window // 2) :], opened=False)
            output = self._model(feed, past_key_values=cache, use_cache=True)
            cache, seen = output.past_key_values, seen + feed.shape[1]
            logits = (
                output.logits[:, -1, self._offset : self._offset + len(self.codec.units.mels)].double().cpu().numpy()
            )
            # two numbers a step even where one is unused: a clip draws alike with and without run lengths
            draws = np.stack([source.random(2) for source in sources])
            tokens = np.array([_draw(row, draw[0], self.sampling) for row, draw in zip(logits, draws, strict=True)])
            for row, token, draw in zip(generated, tokens, draws, strict=True):
                repeats = self.codec.units.draw_run(int(token), draw[1]) if self.codec.settings.run_length else 1
                row.extend([int(token)] * repeats)
            history = np.concatenate([history, tokens[:, None]], axis=1)
            feed = self._ids(tokens[:, None], opened=False)
        return [np.array(row[:count]) for row in generated]

    def _ids(self, tokens: Ints, *, opened: bool) -> Tensor:
        """Return the language model's own ids of units, after the opening token where the model has one."""
        ids: Tensor = torch.from_numpy(np.ascontiguousarray(tokens)) + self._offset
        if opened and self._opening is not None:
            ids = torch.cat([torch.full((len(ids), 1), self._opening), ids], dim=1)
        if not ids.shape[1]:
            raise ModelError("this model has no opening token and can only continue a prompt; name prompts")
        return ids.to(self.codec.device)


def _draw(logits: npt.NDArray[np.float64], draw: float, sampling: SamplingConfig) -> int:
    """Return the unit of a uniform draw."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits / sampling.temperature
    if 0 < sampling.top_k < len(scaled):
        scaled = np.where(scaled >= np.partition(scaled, -sampling.top_k)[-sampling.top_k], scaled, -np.inf)
    shares = np.exp(scaled - scaled.max()).cumsum()
    return int(np.searchsorted(shares, draw * shares[-1], "right"))
