"""The contract of a plugin: Metric, Recognizer, Transcriber, Generator, and what they exchange."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.component import Component, NoOptions, Options, located, text_file, text_files
from cdslm_eval.results.estimate import Better
from cdslm_eval.stats.statistic import Statistic

__all__ = [
    "UPSTREAM_FEATURES",
    "Component",
    "Failed",
    "Generator",
    "GeneratorInfo",
    "Measurer",
    "Metric",
    "NoOptions",
    "Options",
    "RangeGenerator",
    "Recognition",
    "Recognizer",
    "Row",
    "Skipped",
    "Transcriber",
    "located",
    "text_file",
    "text_files",
]

UPSTREAM_FEATURES = ("transcript", "phones")
"""What one measurer provides to others through the host, in the order in which it is computed."""

Row = Mapping[str, Any]
"""What `measure` yields for one clip: numbers, a list of symbols, a float vector, or text, by column name.

Text is kept with the row; statistics read the others. None means "does not apply to this clip" and is left out of
the statistics of that column; NaN is refused.
"""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Yielded in place of a row: the clip lies outside what the metric is defined for.

    Attributes:
        reason: Why, in a few words: "under 0.25 s", "no reference text".
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Yielded in place of a row: the clip should have been measured, but could not be."""

    reason: str


class Recognition(tuple[str, ...]):
    """The phones of one clip with the recognizer's confidence in them, for recognizers that have one.

    Attributes:
        confidence: Mean posterior of the frames that carry a phone, 0..1; NaN where there is no such frame.

    Example:
        >>> recognition = Recognition(["HH", "AY"], confidence=0.9)
        >>> list(recognition), recognition.confidence
        (['HH', 'AY'], 0.9)
    """

    confidence: float

    def __new__(cls, phones: Iterable[str], confidence: float) -> Self:
        """Return the phones as a tuple that carries the confidence."""
        recognition = super().__new__(cls, phones)
        recognition.confidence = confidence
        return recognition


class Measurer(Component):
    """What turns clips into rows, one row per clip: a metric, a recognizer or a transcriber.

    Attributes:
        needs: What a clip must carry: "audio", "text", "speaker", "reference_audio", "reference_text",
            "prompt_seconds"; or be provided by an upstream measurer: "phones" by the recognizer, "transcript" by the
            transcriber.
        wants: What it uses where a clip has it, and does without where not: a subset of the same names.
        rate_hz: Rate at which clips arrive; None leaves each at its own. An instance may set its own, from an option.
        min_seconds: A shorter clip is skipped by the host.
        accepts_silence: False has silent clips skipped by the host; they never reach the measurement.
        batch_clips: Batch size of `measure`; results must not depend on it.
        cpu_only: Whether its model runs on the CPU whatever the device, so that it never waits for one. What opens
            nothing does so anyway.
        provides: Column of its rows that the host passes to those that need it (one of `UPSTREAM_FEATURES`), or "".
        rows: Name and version, such as "embedding@1", of rows that several metrics read: with equal options they are
            measured once. Such metrics inherit `measure` and every declaration above from one class.
    """

    needs: ClassVar[frozenset[str] | set[str]] = frozenset({"audio"})
    wants: ClassVar[frozenset[str] | set[str]] = frozenset()
    rate_hz: int | None = None
    min_seconds: ClassVar[float] = 0.0
    accepts_silence: ClassVar[bool] = True
    batch_clips: ClassVar[int] = 1
    cpu_only: ClassVar[bool] = False
    provides: ClassVar[str] = ""
    rows: ClassVar[str] = ""

    @abstractmethod
    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield one row (or `Skipped`, `Failed`) per clip, in order.

        An exception is charged to the clip that raises it when it is measured alone.
        """

    def check_transcriber(self, transcriber: Transcriber) -> None:
        """Refuse a transcriber whose transcripts the measurer would misread; called before a run.

        Raises:
            UsageError: Such a transcriber, with what to use instead.
        """
        del transcriber


class Metric(Measurer):
    """Measures clips, and declares in class attributes what its rows mean.

    Attributes:
        unit: Unit of its values: "bits", "MOS", "s".
        better: "lower", "higher" or "neither".
        statistics: Name of each value -> the statistic over rows that computes it.
        limits: What its values cannot tell, for listings: "whether the words make sense".
    """

    limits: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    better: ClassVar[Better] = "neither"
    statistics: ClassVar[Mapping[str, Statistic]]


class Recognizer(Measurer):
    """Clip -> phones.

    Attributes:
        inventory: Name of the phone set of its output: "arpabet", "ipa". Phones of different sets are never compared.
            An instance may set its own, from an option.
        languages: ISO 639 codes of the languages it was made for, such as "en"; empty where it declares none.
        caution: A sentence shown with every result that rests on it: how far its phones can be relied on.
        real_time_factor: Processor seconds per second of audio on one core, as its author measured it; None where not
            known. Up to .01, what costs extra recognition (the channel next to pJSD) is on by default.
    """

    inventory: str
    languages: frozenset[str] = frozenset()
    caution: ClassVar[str] = ""
    real_time_factor: float | None = None
    provides = "phones"

    @abstractmethod
    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield the phones of each clip, in order; an empty sequence where there is no speech.

        A `Recognition` carries a confidence as well.
        """

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield `{"phones": [...]}` per clip, with the `confidence` of a `Recognition`."""
        for phones in self.recognize(clips):
            if isinstance(phones, Skipped | Failed):
                yield phones
                continue
            row: dict[str, Any] = {"phones": list(phones)}
            if isinstance(phones, Recognition):
                row["confidence"] = phones.confidence if math.isfinite(phones.confidence) else None
            yield row


class Transcriber(Measurer):
    """Clip -> words: speech recognition, run once per clip for every metric that reads transcripts."""

    provides = "transcript"

    @abstractmethod
    def transcribe(self, clips: Sequence[Clip]) -> Iterator[str | Skipped | Failed]:
        """Yield the words of each clip, in order; "" where there is no speech."""

    def measure(self, clips: Sequence[Clip]) -> Iterator[Row | Skipped | Failed]:
        """Yield `{"transcript": "..."}` per clip."""
        for text in self.transcribe(clips):
            yield text if isinstance(text, Skipped | Failed) else {"transcript": text}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorInfo:
    """Facts about a generator; None is "not known" or "does not apply".

    Attributes:
        parameters: N, trainable parameters.
        tokens: D, training tokens, in the convention that `conventions` names.
        flops: C, training FLOPs.
        rate_hz: Rate of the clips.
        licence: Licence of what it generates, or of its weights.
        conventions: How N, D and C are counted, and anything else a reader of a table must know.
    """

    parameters: float | None = None
    tokens: float | None = None
    flops: float | None = None
    rate_hz: int | None = None
    licence: str = ""
    conventions: Mapping[str, str] = field(default_factory=dict)


class Generator(Component):
    """Prompts -> clips.

    Attributes:
        prompts: What each prompt must carry ("audio", "text", "phones"); empty when it needs none.
        batch_clips: Clips that are generated together; ranges that workers get start at multiples of it, so that each
            batch holds the same clips for any number of workers. An instance may set its own, from an option.
    """

    prompts: ClassVar[frozenset[str] | set[str]] = frozenset()
    batch_clips: int = 1

    @abstractmethod
    def info(self) -> GeneratorInfo:
        """Return what is known of the generator; must not load weights."""

    @abstractmethod
    def clips(self, prompts: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield `count` clips.

        Args:
            prompts: Clips to continue, transform or learn from; decoded when indexed.
            count: How many clips.
            seconds: Wanted duration of each in seconds, where the generator can choose it.
            seed: The same seed gives the same clips.
        """

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield the clips of `clips` with some numbers.

        By default those before are generated too, and dropped. A class whose clips can be generated one without the
        other overrides it (see `RangeGenerator`): workers then share its clips, and a resumed run repeats none.

        Args:
            prompts: As for `clips`.
            numbers: Numbers of the clips, with step 1; it starts at a multiple of `batch_clips`.
            seconds: As for `clips`.
            seed: As for `clips`.
        """
        yield from itertools.islice(self.clips(prompts, numbers.stop, seconds, seed), numbers.start, None)

    def evaluations(self) -> int:
        """Return how often its network is evaluated on each window of speech that it generates, for planned costs."""
        return 1

    def check_continues(self) -> None:
        """Refuse to have prompts put in front of its clips; by default each clip follows the end of its prompt.

        Raises:
            UsageError: Its clips do not follow the ends of their prompts, with what to use instead.
        """
        if "audio" not in self.prompts:
            raise UsageError(f"{self.name}: continues no prompts, so that there are none to keep in front of its clips")


class RangeGenerator(Generator):
    """A generator whose clips do not depend on those before: it defines `clip_range` in place of `clips`."""

    @abstractmethod
    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield the clips with these numbers; see `Generator.clip_range`."""

    def clips(self, prompts: Sequence[Clip], count: int, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield the first `count` clips."""
        yield from self.clip_range(prompts, range(count), seconds, seed)
