"""From a checkpoint and prompts to the units that follow."""

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
from cdslm_eval_unit_lm.language import build, filled
from cdslm_eval_unit_lm.units import Ints, runs
from cdslm_eval_unit_lm.voice import Voice, find
from cdslm_model.errors import ModelError
from cdslm_model.sample.sampling import random_source

__all__ = ["Manner", "Speaker"]


@dataclass(frozen=True, slots=True)
class Manner:
    """How units are drawn.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest.
        top_k: Only so many of the likeliest count; 0 is all.
        seed: The same seed gives the same clips.
    """

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0


class Speaker:
    """A trained unit language model that continues speech.

    Args:
        path: A run of `unit-lm train` or `unit-lm import`, or a checkpoint in it.
        device: "auto", "cpu", "cuda" or "cuda:N".
        vocoder: Name of the vocoder; None takes the one that the run names.

    Raises:
        ModelError: The checkpoint cannot be used, or the vocoder wants other log-mels.
    """

    def __init__(self, path: Path | str, device: str = "auto", vocoder: str | None = None) -> None:
        found = find(path)
        self.voice = Voice(found, device, vocoder)
        lm = found.facts["lm"]
        self._offset, self._opening, self._window = lm["offset"], lm["opening"], lm["window"]
        self._known = slice(self._offset, self._offset + len(self.voice.units.centroids))
        self._rate = float(found.facts["tokens_per_second"])
        self._model: Any = filled(build(lm["config"]), found.tensors("weights")).to(self.voice.device).eval()

    def context(self, clip: Clip, *, end: bool) -> Ints:
        """Return the tokens of a clip that are heard: the last, or the first, of the trained context."""
        settings, units = self.voice.settings, self.voice.hear(clip)
        tokens = runs(units)[0] if settings.run_length else units
        wanted = min(round(settings.context_seconds * self._rate), self._window - 1)
        return (tokens[max(0, len(tokens) - wanted) :] if end else tokens[:wanted]) if wanted else tokens[:0]

    @torch.inference_mode()
    def continuations(self, contexts: Sequence[Ints], clips: Sequence[int], frames: int, manner: Manner) -> list[Ints]:
        """Return the units that follow each context, as they last, enough for so many mel frames.

        Args:
            contexts: Tokens to continue; may be empty.
            clips: What each continuation's draws belong to.
            frames: Mel frames to fill.
            manner: How.
        """
        units = self.voice.units
        wanted = int(np.ceil(frames * units.rate_hz / units.frame_rate))
        made: list[Ints] = [np.zeros(0, np.int64)] * len(contexts)
        for length in sorted({len(context) for context in contexts}):
            places = [place for place, context in enumerate(contexts) if len(context) == length]
            sources = [random_source(manner.seed, "units", clips[place]) for place in places]
            together = self._together(np.stack([contexts[place] for place in places]), sources, wanted, manner)
            for place, one in zip(places, together, strict=True):
                made[place] = one
        return made

    def _together(self, past: Ints, sources: list[np.random.Generator], wanted: int, manner: Manner) -> list[Ints]:
        """Return at least `wanted` units after each row of tokens; when the window is full, its second half goes on."""
        said: list[list[int]] = [[] for _ in sources]
        cache: Any = None
        seen = 0
        history = past
        feed = self._ids(past, opened=True)
        while min(map(len, said)) < wanted:
            if seen + feed.shape[1] > self._window:
                cache, seen = None, 0
                feed = self._ids(history[:, -(self._window // 2) :], opened=False)
            answer = self._model(feed, past_key_values=cache, use_cache=True)
            cache, seen = answer.past_key_values, seen + feed.shape[1]
            logits = (
                answer.logits[:, -1, self._offset : self._offset + len(self.voice.units.mels)].double().cpu().numpy()
            )
            draws = np.stack([source.random(2) for source in sources])
            tokens = np.array([_drawn(row, draw[0], manner) for row, draw in zip(logits, draws, strict=True)])
            for row, token, draw in zip(said, tokens, draws, strict=True):
                lasts = self.voice.units.lasting(int(token), draw[1]) if self.voice.settings.run_length else 1
                row.extend([int(token)] * lasts)
            history = np.concatenate([history, tokens[:, None]], axis=1)
            feed = self._ids(tokens[:, None], opened=False)
        return [np.array(row[:wanted]) for row in said]

    def _ids(self, tokens: Ints, *, opened: bool) -> Tensor:
        """Return the language model's own ids of units, after the token that opens a window where it has one."""
        ids: Tensor = torch.from_numpy(np.ascontiguousarray(tokens)) + self._offset
        if opened and self._opening is not None:
            ids = torch.cat([torch.full((len(ids), 1), self._opening), ids], dim=1)
        if not ids.shape[1]:
            raise ModelError("this model has no token that opens a text: it can only continue a prompt")
        return ids.to(self.voice.device)


def _drawn(logits: npt.NDArray[np.float64], draw: float, manner: Manner) -> int:
    """Return the unit that a uniform draw picks."""
    if manner.temperature == 0:
        return int(logits.argmax())
    scaled = logits / manner.temperature
    if 0 < manner.top_k < len(scaled):
        scaled = np.where(scaled >= np.partition(scaled, -manner.top_k)[-manner.top_k], scaled, -np.inf)
    shares = np.exp(scaled - scaled.max()).cumsum()
    return int(np.searchsorted(shares, draw * shares[-1], "right"))
