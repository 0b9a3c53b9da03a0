"""NISQA v2.0: overall quality and four dimensions of it, without a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from cdslm_eval import Mean, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Metric, Options, Row, Skipped, located
from cdslm_eval.plugin.models import unusable_reason
from cdslm_eval_perceptual import nisqa_weights
from cdslm_eval_perceptual.papers import NISQA

__all__ = ["NisqaMetric", "NisqaOptions"]

_COLUMNS = ("mos", "noisiness", "discontinuity", "coloration", "loudness")


class NisqaOptions(Options):
    """Options of `nisqa`.

    Attributes:
        weights: The file `nisqa.tar`; by default `$CDSLM_EVAL_NISQA`, a cache, or a download (1 MB).
        sha256: Digest that it must have; weights of your own need their own here.
    """

    weights: str | None = located(None)
    sha256: str = nisqa_weights.SHA256


class NisqaMetric(Metric):
    """NISQA v2.0: predicted quality, noisiness, discontinuity, coloration and loudness, each 1 to 5, 5 the best.

    A clip is read at its own rate, as the authors have it: a clip of 16 kHz is judged as the narrower band that it is.

    Source: G. Mittag et al., Interspeech 2021.
    """

    name = "nisqa"
    limits = "whether the words make sense; it learned the faults of calls, not those of generated speech"
    version = "1"
    citation = (NISQA,)
    unit = "MOS"
    better = "higher"
    weights_licence = nisqa_weights.LICENCE
    min_seconds = 0.15
    accepts_silence = False
    batch_clips = 8
    positional = "weights"
    requires: ClassVar[Mapping[str, str]] = {"torch": "cdslm-eval-perceptual[nisqa]"}
    statistics: ClassVar[dict[str, Statistic]] = {f"nisqa_{name}": Mean(name) for name in _COLUMNS}
    Options = NisqaOptions

    @classmethod
    def fetches(cls) -> str | None:
        """Return what a first use would download."""
        return None if nisqa_weights.cached() else "nisqa.tar (1 MB)"

    @cached_property
    def _weights(self) -> Path | str:
        """Return where the weights lie, or why they cannot be had; looked up once, and carried to the workers."""
        try:
            return nisqa_weights.located(self.options.weights, self.options.sha256)
        except EvalError as error:
            return str(error)

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the weights."""
        # without weights `open` gives every clip the reason, and other metrics go on
        return {"weights": self.options.sha256 if isinstance(self._weights, Path) else "missing"}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the weights.

        Raises:
            EvalError: They cannot be had, or are not those of NISQA.
        """
        import torch

        from cdslm_eval_perceptual.nisqa_network import Nisqa, architecture_problem

        if isinstance(self._weights, str):
            raise EvalError(self._weights)
        self._args, tensors = nisqa_weights.load(self._weights)
        if odd := architecture_problem(self._args):
            raise EvalError(f"{self._weights}: another network than NISQA v2.0 with dimensions ({odd})")
        network = Nisqa(self._args)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise EvalError(
                f"{self._weights}: its tensors do not fit: {str(error).splitlines()[-1].strip()}"
            ) from error
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device)
        self._network = network.to(self._device).eval()
        try:
            yield
        finally:
            del self._network

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the five scores of each clip; the clips of a batch go through the network together."""
        import torch

        from cdslm_eval_perceptual.nisqa_front import segments, too_far

        reasons = [
            unusable_reason(clip, self.min_seconds) or too_far(clip.samples, clip.rate_hz, self._args) for clip in clips
        ]
        with np.errstate(over="ignore", invalid="ignore"):
            fit = [
                torch.from_numpy(segments(clip.samples, clip.rate_hz, self._args)).to(self._device)
                for clip, reason in zip(clips, reasons, strict=True)
                if not reason
            ]
        with torch.inference_mode():
            predictions = iter(self._network(fit).cpu().numpy().astype(np.float64) if fit else ())
        for reason in reasons:
            if reason:
                yield Skipped(reason)
                continue
            scores = next(predictions)
            if np.isfinite(scores).all():
                yield dict(zip(_COLUMNS, map(float, scores), strict=True))
            else:
                yield Failed("the network gives no finite score; are the samples in -1..1?")
