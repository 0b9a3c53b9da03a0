"""`distillmos`: predicted quality without a reference, by the network inside the `distillmos` wheel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cdslm_eval import Mean, Statistic
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Metric, Row, Skipped
from cdslm_eval.plugin.models import device_of, distribution_file, unusable_reason
from cdslm_eval_perceptual.papers import DISTILLMOS

if TYPE_CHECKING:
    import torch

__all__ = ["DistillMosMetric", "weights_path"]

_SHA256 = "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"
_INSTALL = "pip install --no-deps distillmos==0.9.1"
_BATCH_SEGMENTS = 8


class DistillMosMetric(Metric):
    """Distill-MOS: predicted mean opinion score, 1 to 5, 5 the best.

    A clip goes through in segments of 7.68 s, at most 1 s apart, and has their mean; a shorter clip ends in zeros, as
    in the published code. Level does not matter.

    Source: Stahl and Gamper (2025), "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech
    Quality Assessment", ICASSP.
    """

    name = "distillmos"
    limits = "whether the words make sense, and what is at fault: it is one number"
    version = "1"
    citation = (DISTILLMOS,)
    unit = "MOS"
    better = "higher"
    weights_licence = "MIT"
    attribution = "Distill-MOS, Microsoft"
    rate_hz = 16_000
    min_seconds = 0.25
    accepts_silence = False
    batch_clips = 8
    requires: ClassVar[Mapping[str, str]] = {"torch": "cdslm-eval-perceptual[distillmos]"}
    statistics: ClassVar[dict[str, Statistic]] = {"distillmos": Mean("mos")}

    @classmethod
    def missing(cls) -> str | None:
        """Return the install command that leaves out what the network does not use."""
        if find_spec("distillmos") is None:
            # its own requirements bring torchaudio
            return f"needs {_INSTALL}"
        return super().missing()

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digest of the weights and the engine's version."""
        return {"distill_mos_v7.pt": _SHA256, "torch": version("torch")}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the network.

        Raises:
            EvalError: distillmos is not installed, or its weights are other ones.
        """
        import torch

        from cdslm_eval_perceptual.distillmos_network import DistillMos

        path = weights_path()
        network = DistillMos()
        try:
            network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        except (RuntimeError, KeyError) as error:
            raise EvalError(f"{path}: its tensors do not fit: {str(error).splitlines()[-1].strip()}") from error
        self._device = device_of(device)
        self._network = network.to(self._device).eval()
        try:
            yield
        finally:
            del self._network, self._device

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the score of each clip; segments of a batch go through the network together."""
        import torch

        from cdslm_eval_perceptual.distillmos_network import segments

        reasons = [unusable_reason(clip, self.min_seconds) for clip in clips]
        parts = [
            segments(torch.from_numpy(np.ascontiguousarray(clip.samples)))
            for clip, reason in zip(clips, reasons, strict=True)
            if not reason
        ]
        means = iter(self._means(parts) if parts else ())
        for reason in reasons:
            if reason:
                yield Skipped(reason)
                continue
            score = next(means)
            if np.isfinite(score):
                yield {"mos": score}
            else:
                yield Failed("the network gives no finite score; are the samples in -1..1?")

    def _means(self, parts: Sequence[torch.Tensor]) -> list[float]:
        """Return the mean score of each clip's segments, `[segments, samples]`."""
        import torch

        joined = torch.cat(list(parts))
        with torch.inference_mode():
            scores = np.concatenate(
                [
                    self._network(joined[start : start + _BATCH_SEGMENTS].to(self._device)).cpu().numpy()
                    for start in range(0, len(joined), _BATCH_SEGMENTS)
                ]
            )
        ends = np.cumsum([len(part) for part in parts])
        return [float(group.mean()) for group in np.split(scores, ends[:-1])]


def weights_path() -> Path:
    """Return the verified path of the weights; the package's code, which needs torchaudio, is not imported."""
    return distribution_file("distillmos==0.9.1", "distillmos/weights/distill_mos_v7.pt", _SHA256, install=_INSTALL)
