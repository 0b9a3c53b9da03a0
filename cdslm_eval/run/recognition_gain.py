"""Measures the phones of the reference's texts, which show what its recognizer recovers of a known divergence."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cdslm_eval.builtin.recognizers.fold import to_arpabet
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.sources import Source
from cdslm_eval.core.store import Outcome
from cdslm_eval.plugin.contract import Metric, Recognizer
from cdslm_eval.plugin.host import Host
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.run.channel import sees_channel
from cdslm_eval.run.runner import Measurement, Request, Runner
from cdslm_eval.run.samples import context_of, sample_of

__all__ = ["TextPhones", "TextRows", "gains_of", "measure_texts", "phones_of_texts"]

MAX_CLIPS = 1000
"""Clips whose texts are phonemized: an interval of their divergences is narrow by then, and espeak-ng takes seconds."""
_ENGLISH, _ENGLISH_VOICE = "en", "en-us"


@dataclass(frozen=True, slots=True)
class TextPhones:
    """How the texts of a reference become phones.

    Attributes:
        recognizer: Reads texts; None where they cannot be read.
        sources: The clips that have a text in its language.
        folded: Whether its phones are folded to ARPAbet, the inventory of the other recognizer.
        reason: Why there is none, with the fix, or "".
    """

    recognizer: Recognizer | None = None
    sources: tuple[Source, ...] = ()
    folded: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TextRows:
    """The rows of a reference under the phones of its texts; without rows, why there are none."""

    measurement: Measurement | None
    folded: bool = False
    reason: str = ""

    def key(self, metrics: Sequence[Metric]) -> tuple[object, ...]:
        """Return what results that rest on these rows depend on."""
        if self.measurement is None:
            return (self.reason,)
        return (self.folded, [self.measurement.fingerprint(metric) for metric in sees_channel(metrics)])


def phones_of_texts(
    host: Host, metrics: Sequence[Metric], recognizer: Recognizer, reference: ClipSet | None, seed: int = 0
) -> TextPhones | None:
    """Return how the texts of a reference become phones; None where it has no text, or no metric reads phones of audio.

    Args:
        host: Makes what reads texts.
        metrics: The metrics of the run.
        recognizer: Provides their phones.
        reference: Real speech.
        seed: Chooses the clips where there are many.
    """
    if reference is None or not sees_channel(metrics) or not recognizer.needs & {"audio", "transcript"}:
        return None
    sources = [source for source in reference.sources if source.text]
    if not sources:
        return None
    # one voice reads them all
    language = Counter(source.language for source in sources).most_common(1)[0][0]
    own = [source for source in sources if source.language == language]
    if not language and _ENGLISH not in recognizer.languages:
        return TextPhones(reason="its texts are in no named language; Use: a language column in its manifest")
    tag = (language or _ENGLISH).lower().replace("_", "-")
    if why := host.registered("recognizer")["transcript"].component.missing():
        return TextPhones(reason=f"its texts cannot be phonemized: transcript {why}")
    reader = host.make("recognizer", f"transcript:{_ENGLISH_VOICE if tag == _ENGLISH else tag}")
    chosen = np.random.default_rng([seed, 0x7465]).permutation(len(own))[:MAX_CLIPS]
    folded = recognizer.inventory == "arpabet" and tag.partition("-")[0] == _ENGLISH
    return TextPhones(reader, tuple(own[index] for index in sorted(chosen)), folded)


def measure_texts(
    runner: Runner, texts: TextPhones | None, metrics: Sequence[Metric], progress: Progress | None = None
) -> TextRows | None:
    """Measure the reference's texts; None where it has none.

    Args:
        runner: Its store and executor; its recognizer is replaced by what reads texts.
        texts: How they become phones.
        metrics: The metrics of the run.
        progress: Called with (clips done, clips to do).
    """
    if texts is None:
        return None
    if texts.recognizer is None:
        return TextRows(None, reason=texts.reason)
    seeing = sees_channel(metrics)
    request = Request(ClipSet("texts", texts.sources), seeing)
    (measurement,) = runner.run([request], progress, recognizer=texts.recognizer)
    return TextRows(measurement, texts.folded)


def gains_of(rows: TextRows, metric: Metric, real: Measurement, seed: int) -> list[RecognitionGain]:
    """Return what recognition leaves of divergences inside the reference, for each statistic of a metric.

    Args:
        rows: Of the texts.
        metric: The metric.
        real: The reference's rows.
        seed: Randomness of draws.
    """
    gains: list[RecognitionGain] = []
    reference = real.request.clips.name
    if rows.measurement is None:
        return [RecognitionGain(name=metric.name, reference=reference, reason=rows.reason)]
    outcomes = rows.measurement.outcomes(metric)
    text = sample_of(rows.measurement, metric, map(_folded, outcomes) if rows.folded else outcomes)
    if not len(text):
        return [RecognitionGain(name=metric.name, reference=reference, reason=f"its texts: {text.why_empty()}")]
    recognized = sample_of(real, metric)
    for name, statistic in metric.statistics.items():
        context = context_of(metric, name, statistic, identity="", seed=seed)
        named = statistic.recognition_gains(text, recognized, context)
        gains += [dataclasses.replace(gain, reference=reference) for gain in named]
    return gains


def _folded(outcome: Outcome) -> Outcome:
    """Return an outcome whose IPA phones are ARPAbet; one with a letter that English lacks is skipped."""
    if outcome.status != "ok":
        return outcome
    try:
        columns = {name: to_arpabet(value) if isinstance(value, list) else value for name, value in outcome.row.items()}
    except KeyError as error:
        return dataclasses.replace(outcome, status="skipped", reason=f"a phone that English lacks: {error}")
    return dataclasses.replace(outcome, row=columns)
