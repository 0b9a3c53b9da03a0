"""Phone error rate and real-time factor of recognizers on clips with a text or with phones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cdslm_eval.builtin.recognizers.fold import to_arpabet
from cdslm_eval.builtin.recognizers.inventory import unstressed
from cdslm_eval.builtin.recognizers.phonemize import phonemize
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet, Source
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Failed, Recognizer, Skipped

__all__ = ["PhoneErrors", "Trial", "phone_errors", "reference_phones", "text_phones", "try_recognizer"]

_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class PhoneErrors:
    """Counts of a least-cost alignment of recognized with reference phones.

    Attributes:
        substitutions, deletions, insertions: Errors by kind.
        phones: Length of the reference.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    phones: int = 0

    def __add__(self, other: PhoneErrors) -> PhoneErrors:
        return PhoneErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.phones + other.phones,
        )

    @property
    def rate(self) -> float:
        """Phone error rate: errors per reference phone; NaN without one."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.phones if self.phones else float("nan")


@dataclass(frozen=True, slots=True)
class Trial:
    """What one recognizer did on one set.

    Attributes:
        errors: Over the clips that have reference phones and were recognized.
        clips: How many those are.
        failed: How many clips the recognizer failed on or skipped.
        seconds: Duration of the recognized audio.
        cpu_s: Processor seconds that this process spent in the recognizer, decoding of files excluded.
    """

    errors: PhoneErrors
    clips: int
    failed: int
    seconds: float
    cpu_s: float

    @property
    def real_time_factor(self) -> float:
        """Processor seconds per second of audio."""
        return self.cpu_s / self.seconds if self.seconds else float("nan")


def phone_errors(reference: Sequence[str], recognized: Sequence[str]) -> PhoneErrors:
    """Return the errors of the recognized phones.

    Example:
        >>> phone_errors("DH AH K AE T".split(), "AH K AE P S".split())
        PhoneErrors(substitutions=1, deletions=1, insertions=1, phones=5)
    """
    from rapidfuzz.distance import Levenshtein

    kinds = [edit.tag for edit in Levenshtein.editops(list(reference), list(recognized))]
    return PhoneErrors(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(reference))


def reference_phones(sources: Sequence[Source], language: str = "en-us") -> list[list[str] | None]:
    """Return the reference phones of each clip: its own where the set has them, else those of its text, else None.

    Args:
        sources: The clips.
        language: espeak-ng's name of the language; English phones are ARPAbet, others IPA.
    """
    texts = [source.text for source in sources if source.phones is None and source.text]
    from_text = iter(text_phones(texts, language))
    fold = to_arpabet if language.startswith(_ENGLISH) else list
    return [
        fold(source.phones) if source.phones is not None else next(from_text) if source.text else None
        for source in sources
    ]


def text_phones(texts: Sequence[str], language: str = "en-us") -> list[list[str]]:
    """Return the phones of texts: of CMUdict word by word in English, through espeak-ng for other words and languages.

    Args:
        texts: One text per utterance.
        language: espeak-ng's name of the language.

    Returns:
        ARPAbet phones for English, IPA phones else.
    """
    if not language.startswith(_ENGLISH):
        return phonemize(texts, language)
    words = [[word.strip('.,;:!?"()') for word in text.lower().split()] for text in texts]
    known = _cmudict()
    unknown = sorted({word for line in words for word in line if word and word not in known})
    spoken = {
        word: tuple(to_arpabet(phones)) for word, phones in zip(unknown, phonemize(unknown, language), strict=True)
    }
    return [[phone for word in line if word for phone in known.get(word) or spoken[word]] for line in words]


def try_recognizer(clips: ClipSet, recognizer: Recognizer, language: str = "en-us") -> Trial:
    """Run a recognizer over a set, clip by clip on the CPU, and count its errors and its processor time.

    Args:
        clips: The set; clips without reference phones are timed and counted in no error rate.
        recognizer: The recognizer.
        language: espeak-ng's name of the language of the texts.

    Raises:
        UsageError: No clip of the set has a text or phones.
    """
    references = reference_phones(clips.sources, language)
    if all(reference is None for reference in references):
        raise UsageError(
            f"{clips.origin or clips.name}: no clip has a text or phones; Use: a manifest with a text column"
        )
    fold = to_arpabet if language.startswith(_ENGLISH) else list
    errors, measured, failed, seconds, cpu_s = PhoneErrors(), 0, 0, 0.0, 0.0
    with recognizer.open("cpu"):
        for clip, reference in zip(clips, references, strict=True):
            ready = clip.at_rate(recognizer.rate_hz)
            phones, spent = _timed(recognizer, ready)
            if phones is None:
                failed += 1
                continue
            seconds, cpu_s = seconds + ready.seconds, cpu_s + spent
            if reference is not None:
                errors, measured = errors + phone_errors(reference, fold(phones)), measured + 1
    return Trial(errors, measured, failed, seconds, cpu_s)


def _timed(recognizer: Recognizer, clip: Clip) -> tuple[Iterable[str] | None, float]:
    start = time.process_time()
    (result,) = recognizer.recognize([clip])
    spent = time.process_time() - start
    return (None if isinstance(result, Failed | Skipped) else result), spent


@cache
def _cmudict() -> Mapping[str, tuple[str, ...]]:
    """Return the first pronunciation of each word of the CMUdict in pocketsphinx's wheel; empty without that wheel."""
    spec = find_spec("pocketsphinx")
    folders = (spec.submodule_search_locations if spec else None) or []
    paths = [path for folder in folders for path in Path(folder).glob("model/en-us/cmudict-en-us.dict")]
    words: dict[str, tuple[str, ...]] = {}
    for path in paths[:1]:
        for line in path.read_text(encoding="utf-8").splitlines():
            word, *phones = line.split()
            words.setdefault(word, tuple(unstressed(phone) for phone in phones))
    return words
