"""DNSMOS: predicted listeners' scores of the speech, the background and the whole, without a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from cdslm_eval import Mean, Statistic
from cdslm_eval.core.audio import Clip, Samples
from cdslm_eval.core.errors import EvalError
from cdslm_eval.plugin.contract import Failed, Metric, Options, Row, Skipped
from cdslm_eval.plugin.models import onnx_session, unusable_reason
from cdslm_eval_perceptual import speechmos_files
from cdslm_eval_perceptual.papers import DNSMOS, DNSMOS_P835
from cdslm_eval_perceptual.windows import RATE_HZ, scored_windows

__all__ = ["Dnsmos", "DnsmosOptions"]

# Coefficients, highest power first, of the published maps from the network's outputs to MOS.
_PLAIN = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
_PERSONALISED = {
    "sig": (-0.01019296, 0.02751166, 1.19576786, -0.24348726),
    "bak": (-0.04976499, 0.44276479, -0.1644611, 0.96883132),
    "ovrl": (-0.00533021, 0.005101, 1.18058466, -0.11236046),
}


class DnsmosOptions(Options):
    """Options of `dnsmos`.

    Attributes:
        personalised: Score with the variant that also counts an interfering talker as background.
        all_windows: Score windows that the published code loses to rounding (those at 7 to 23 s, among others);
            better for clips over 17 s, but not what published values are.
    """

    personalised: bool = False
    all_windows: bool = False


class Dnsmos(Metric):
    """DNSMOS P.808 and P.835: mean opinion scores of overall quality, speech and background, 1 to 5.

    Clips are scored in windows of 9.01 s, one a second; a shorter clip is repeated until it fills one.

    Source: C. Reddy et al., "DNSMOS", ICASSP 2021, and "DNSMOS P.835", ICASSP 2022.
    """

    name = "dnsmos"
    limits = "whether the words make sense: words in random order score nearly as well"
    version = "1"
    citation = (DNSMOS, DNSMOS_P835)
    unit = "MOS"
    better = "higher"
    weights_licence = "MIT"
    rate_hz = RATE_HZ
    min_seconds = 0.25
    accepts_silence = False
    batch_clips = 4
    cpu_only = True
    requires: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "onnxruntime>=1.17",
        "onnx": "onnx>=1.16",
        "speechmos": "speechmos==0.0.1.1",
    }
    statistics: ClassVar[dict[str, Statistic]] = {
        "dnsmos_p808": Mean("p808"),
        "dnsmos_sig": Mean("sig"),
        "dnsmos_bak": Mean("bak"),
        "dnsmos_ovrl": Mean("ovrl"),
    }
    Options = DnsmosOptions

    @property
    def _p835(self) -> str:
        return speechmos_files.PERSONALISED if self.options.personalised else speechmos_files.P835

    def fingerprint(self) -> Mapping[str, str]:
        """Return the digests of the two networks and the version of onnxruntime."""
        facts = {"onnxruntime": version("onnxruntime")}
        for name in (speechmos_files.P808, self._p835):
            try:
                speechmos_files.network_path(name)
                facts[name] = speechmos_files.SHA256[name]
            except EvalError:
                facts[name] = "missing"  # `open` fails with the reason for every clip, and other metrics continue
        return facts

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Load the networks; they run on the CPU, one thread per worker process.

        Raises:
            EvalError: A network is missing, or not the published one.
        """
        del device
        from cdslm_eval_perceptual.p835 import P835Network

        self._listener = onnx_session(str(speechmos_files.network_path(speechmos_files.P808)))
        self._network = P835Network(speechmos_files.network_path(self._p835))
        try:
            yield
        finally:
            del self._listener, self._network

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield the four scores of each clip, means over its windows, and how many windows that were."""
        for clip in clips:
            reason = unusable_reason(clip, self.min_seconds)
            yield Skipped(reason) if reason else self._row(clip.samples)

    def _row(self, samples: Samples) -> Row | Failed:
        from cdslm_eval_perceptual.p808 import p808

        windows = scored_windows(samples, all_windows=self.options.all_windows)
        # samples far over full scale overflow float32 and end as NaN, which is refused below
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [(p808(self._listener, group), self._network.scores(group)) for group in windows.groups()]
            general = np.concatenate([scores for scores, _ in parts]).astype(np.float64)
            raw = np.concatenate([scores for _, scores in parts]).astype(np.float64)
            maps = _PERSONALISED if self.options.personalised else _PLAIN
            columns = {"p808": general} | {
                name: np.polyval(coefficients, raw[:, at]) for at, (name, coefficients) in enumerate(maps.items())
            }
            row = {name: float(np.average(values, weights=windows.counts)) for name, values in columns.items()}
        if not all(np.isfinite(value) for value in row.values()):
            return Failed("the network gives no finite score; are the samples in -1..1?")
        return {**row, "windows": sum(windows.counts)}
