"""The metric `aesthetics`: 10 s windows, length-weighted mean, de-normalised scores of four axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from cdslm_eval import Better, Mean, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.citation import Citation
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped, located
from cdslm_eval.plugin.models import PretrainedOptions, device_of, is_cached, precision_of
from cdslm_eval_aesthetics.weights import Weights, find_weights

__all__ = ["Aesthetics", "AestheticsOptions"]

RATE_HZ = 16_000
WINDOW = 10 * RATE_HZ
DEFAULT_MODEL = "facebook/audiobox-aesthetics"


class AestheticsOptions(PretrainedOptions):
    """Options of `aesthetics`.

    Attributes:
        model: Name on the Hugging Face hub, a folder with config.json and model.safetensors, or a .pt file.
    """

    model: str = located(DEFAULT_MODEL)


class Aesthetics(Metric):
    """Audiobox Aesthetics: content enjoyment (CE) and usefulness (CU), production complexity (PC) and quality (PQ).

    A clip is cut into windows of 10 s from its start, the last one padded with zeros; its score is the mean of their
    scores, weighted by their length.

    Source: Tjandra et al. (2025), "Meta Audiobox Aesthetics: Unified Automatic Quality Assessment for Speech, Music,
    and Sound" (arXiv 2502.05139); weights by Meta, CC BY 4.0.
    """

    name = "aesthetics"
    limits = "whether the words make sense: its axes judge music and sounds alike"
    version = "1"
    citation = (
        Citation(
            key="tjandra2025aesthetics",
            title="Meta Audiobox Aesthetics: Unified Automatic Quality Assessment for Speech, Music, and Sound",
            authors=("Tjandra, Andros", "others"),
            year=2025,
            arxiv="2502.05139",
        ),
    )
    unit = "score 1-10"
    better: ClassVar[Better] = "higher"
    weights_licence = "CC-BY-4.0"
    attribution = "Audiobox Aesthetics, Meta (Tjandra et al. 2025, arXiv 2502.05139)"
    requires: ClassVar[Mapping[str, str]] = {
        "torch": "torch>=2.5",
        "safetensors": "safetensors>=0.5",
        "huggingface_hub": "huggingface_hub>=0.25",
        "audiobox_aesthetics": "audiobox_aesthetics>=0.0.4",
    }
    needs = frozenset({"audio"})
    rate_hz = RATE_HZ
    min_seconds = 0.1
    accepts_silence = False
    batch_clips = 16
    positional = "model"
    Options = AestheticsOptions
    statistics: ClassVar[Mapping[str, Statistic]] = {
        "aesthetics_ce": Mean("ce"),
        "aesthetics_cu": Mean("cu"),
        "aesthetics_pc": Mean("pc", better="neither"),
        "aesthetics_pq": Mean("pq"),
    }

    @classmethod
    def missing(cls) -> str | None:
        """Return the pip line that installs the network without what it does not use."""
        if find_spec("audiobox_aesthetics") is None:
            # its own requirements bring torchaudio, whose default build replaces torch
            return f"needs pip install --no-deps {cls.requires['audiobox_aesthetics']!r}"
        return super().missing()

    @classmethod
    def fetches(cls) -> str | None:
        """Return the weights, unless they lie in the hub's cache."""
        return None if is_cached(DEFAULT_MODEL, "model.safetensors") else f"{DEFAULT_MODEL} (about 0.4 GB)"

    @cached_property
    def _weights(self) -> Weights:
        return find_weights(self.options.model, self.options.revision, self.options.sha256)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the weights, the version of the network, and the precision."""
        return {
            **self._weights.facts(),
            "audiobox_aesthetics": version("audiobox_aesthetics"),
            "precision": precision_of(self.options.precision),
        }

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network.

        Raises:
            EvalError: Files are missing, are not what they should be, or hold code.
        """
        import torch

        from cdslm_eval_aesthetics.network import Network

        precision = getattr(torch, precision_of(self.options.precision))
        self._network: Any = Network(self._weights.load(), device_of(device), precision)
        try:
            yield
        finally:
            del self._network

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the four scores of each clip; windows of all clips share batches by length."""
        usable = [len(clip.samples) > 0 and bool(np.isfinite(clip.samples).all()) for clip in clips]
        windows = [_windows(clip.samples) if fit else [] for clip, fit in zip(clips, usable, strict=True)]
        scores = iter(self._network.scores([window for parts in windows for window in parts]))
        for clip, parts in zip(clips, windows, strict=True):
            if not parts:
                yield Failed("samples that are not finite") if len(clip.samples) else Skipped("no samples")
                continue
            own = np.array([next(scores) for _ in parts])
            mean = np.average(own, axis=0, weights=[len(window) for window in parts])
            yield dict(zip(("ce", "cu", "pc", "pq"), map(float, mean), strict=True))


def _windows(samples: Samples) -> list[Samples]:
    return [samples[start : start + WINDOW] for start in range(0, len(samples), WINDOW)]
