"""Phones by pocketsphinx: offline, from its own wheel, about 20 times faster than real time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from cdslm_eval.audio import Clip
from cdslm_eval.contract import Options, Recognizer

__all__ = ["PocketsphinxRecognizer"]

_FILLERS = frozenset({"SIL", "NSN", "SPN", "+NSN+", "+SPN+", "<s>", "</s>", "<sil>", "(NULL)", "+NOISE+"})


class PocketsphinxOptions(Options):
    """Options of the pocketsphinx recognizer."""

    lw: float = Field(default=2.0, ge=0.0, le=20.0, description="weight of the phone language model")


class PocketsphinxRecognizer(Recognizer):
    """All-phone decoding with the US English model of the pocketsphinx wheel.

    About 46 % phone errors on read speech: good enough to order systems, not to quote. Phones are ARPAbet without
    stress; silence and noise are dropped.
    """

    name = "pocketsphinx"
    version = "1"
    licence = "BSD-2-Clause"
    inventory = "arpabet"
    needs = frozenset({"audio"})
    rate_hz = 16_000
    Options = PocketsphinxOptions
    _held: Any

    def fingerprint(self) -> Mapping[str, str]:
        """Return the version of pocketsphinx and the digest of its phone language model and acoustic means."""
        return {"pocketsphinx": version("pocketsphinx"), "model": _model_digest()}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Hold a decoder."""
        del device
        import pocketsphinx

        model = Path(pocketsphinx.get_model_path())
        config = pocketsphinx.Config(
            hmm=str(model / "en-us" / "en-us"),
            allphone=str(model / "en-us" / "en-us-phone.lm.bin"),
            lw=self.options.lw,
            dict=None,
            lm=None,
            loglevel="FATAL",
        )
        self._held = pocketsphinx.Decoder(config)
        try:
            yield
        finally:
            del self._held

    def recognize(self, clips: Sequence[Clip]) -> Iterator[list[str]]:
        """Yield the phones of each clip; samples outside [-1, 1] are clipped."""
        for clip in clips:
            pcm = np.clip(np.round(clip.samples * 32768.0), -32768, 32767).astype("<i2")
            # noise tracking and cepstral means would carry over from clip to clip: each starts afresh
            self._held.reinit_feat()
            self._held.start_utt()
            # a whole utterance at once normalises by its own cepstral mean
            self._held.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
            self._held.end_utt()
            segments = [segment.word for segment in self._held.seg() or ()]
            yield [phone for phone in segments if phone not in _FILLERS]


@cache
def _model_digest() -> str:
    import pocketsphinx

    model = Path(pocketsphinx.get_model_path()) / "en-us"
    digest = hashlib.sha256()
    for path in (model / "en-us-phone.lm.bin", model / "en-us" / "means", model / "en-us" / "mdef"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
