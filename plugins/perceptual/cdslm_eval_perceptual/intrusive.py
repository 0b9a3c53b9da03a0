"""PESQ, STOI and ESTOI through their reference packages, whose sentinels and crashes stop here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, model_validator

from cdslm_eval import Mean, Statistic
from cdslm_eval.plugin.contract import Failed, Row, Skipped
from cdslm_eval_perceptual.paired import Pair, PairedMetric, PairedOptions
from cdslm_eval_perceptual.papers import ESTOI, PESQ, STOI

__all__ = ["Estoi", "Pesq", "PesqOptions", "Stoi"]

PESQ_PART_S = 18.0
"""Longest part that PESQ scores at once. Its C code has room for 50 utterances and does not count them; one and the
pause after it take 0.38 s at least, so that 18 s hold no 50."""
_SENTINEL = 1e-5


class PesqOptions(PairedOptions):
    """Options of `pesq`.

    Attributes:
        mode: "wb" is P.862.2 (wide-band), "nb" P.862.1 (narrow-band).
        rate: Sampling rate, 16000 or 8000 (narrow-band only).
    """

    mode: Literal["wb", "nb"] = "wb"
    rate: int = 16_000

    @model_validator(mode="after")
    def _possible(self) -> PesqOptions:
        if self.rate not in {"wb": (16_000,), "nb": (8_000, 16_000)}[self.mode]:
            raise ValueError(f"{self.rate} Hz: wide-band PESQ is at 16000 Hz, narrow-band at 8000 or 16000 Hz")
        return self


class Pesq(PairedMetric):
    """PESQ (ITU-T P.862.1 or P.862.2) against the paired clip, MOS-LQO of 1 to 4.64.

    A clip of over 18 s is scored in equal parts, whose mean it gets. Other implementations and the corrected code of
    ITU Corrigendum 2 give values up to half a point away: compare only what has the same identity.
    """

    name = "pesq"
    limits = "anything without the same sentence aligned in time; a continuation is not one"
    version = "1"
    citation = (PESQ,)
    unit = "MOS-LQO"
    positional = "mode"
    licence = "MIT (package pesq); ITU-T terms for the C code in it"
    requires: ClassVar[Mapping[str, str]] = {"pesq": "cdslm-eval-perceptual[intrusive]"}
    statistics: ClassVar[dict[str, Statistic]] = {"pesq": Mean("pesq")}
    Options = PesqOptions

    def __init__(self, options: BaseModel | None = None) -> None:
        super().__init__(options)
        self.rate_hz = self.options.rate

    def fingerprint(self) -> Mapping[str, str]:
        """Return the package and its version."""
        return {"pesq": version("pesq")}

    def score(self, pair: Pair) -> Row | Skipped | Failed:
        """Return MOS-LQO."""
        parts = int(np.ceil(len(pair.real) / (PESQ_PART_S * pair.rate_hz)))
        scores = [
            self._part(real, tested, pair.rate_hz)
            for real, tested in zip(np.array_split(pair.real, parts), np.array_split(pair.tested, parts), strict=True)
        ]
        values = [one for one in scores if isinstance(one, float)]
        # a silent part of a long clip is what PESQ has no opinion on; a broken one spoils the clip
        broken = next((one for one in scores if isinstance(one, Failed)), None)
        if broken is not None or not values:
            return broken or next(one for one in scores if isinstance(one, Skipped))
        return {"pesq": float(np.mean(values))}

    def _part(self, real: Any, tested: Any, rate_hz: int) -> float | Skipped | Failed:
        from pesq import NoUtterancesError, PesqError, pesq

        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                value = float(pesq(rate_hz, real, tested, self.options.mode))
        except NoUtterancesError:
            return Skipped("PESQ finds no utterance in the reference")
        except PesqError as error:
            return Failed(f"PESQ: {_said(error)}")
        except ValueError:
            # the package turns the code of an error into text, which NaN, its score of a silent clip, does not allow
            return Skipped("no sound that PESQ could compare")
        return value if np.isfinite(value) and value > 0 else Failed(f"PESQ gave {value}, which is no score")


class Stoi(PairedMetric):
    """Short-time objective intelligibility against the paired clip, at most 1.

    Source: C. Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech", 2011.
    """

    name = "stoi"
    limits = "anything without the same sentence aligned in time; a continuation is not one"
    version = "1"
    citation = (STOI,)
    unit = "correlation"
    min_seconds = 0.4
    licence = "MIT (package pystoi)"
    requires: ClassVar[Mapping[str, str]] = {"pystoi": "cdslm-eval-perceptual[intrusive]"}
    statistics: ClassVar[dict[str, Statistic]] = {"stoi": Mean("stoi")}
    extended: ClassVar[bool] = False

    def fingerprint(self) -> Mapping[str, str]:
        """Return the package and its version."""
        return {"pystoi": version("pystoi")}

    def score(self, pair: Pair) -> Row | Skipped | Failed:
        """Return the mean correlation of band envelopes over stretches of 0.4 s."""
        from pystoi import stoi

        with warnings.catch_warnings(), _seeded():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = float(stoi(pair.real, pair.tested, pair.rate_hz, extended=self.extended))
        if value == _SENTINEL:
            return Skipped("under 0.4 s of the reference is speech (within 40 dB of its loudest frame)")
        if value == 0.0:
            return Skipped("nothing in the bands that STOI compares")
        return {self.name: value} if np.isfinite(value) else Failed(f"pystoi gave {value}, which is no score")


class Estoi(Stoi):
    """Extended STOI against the paired clip: STOI for noise that fluctuates, at most 1.

    Source: J. Jensen and C. Taal, "An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise
    Maskers", 2016.
    """

    name = "estoi"
    limits = "anything without the same sentence aligned in time; a continuation is not one"
    version = "1"
    citation = (ESTOI,)
    statistics: ClassVar[dict[str, Statistic]] = {"estoi": Mean("estoi")}
    extended = True


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed numpy's global generator, from which pystoi draws, and give it back as it was.

    pystoi adds noise of 1e-16 before it normalises; where a clip is digitally silent that noise is all there is.
    """
    state = np.random.get_state()  # noqa: NPY002 - the generator that pystoi uses
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
