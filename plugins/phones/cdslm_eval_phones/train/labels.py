"""Training labels of clips: the phones of their texts, or those that another recognizer reports."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cdslm_eval.builtin.recognizers.fold import to_arpabet
from cdslm_eval.core.clips import ClipSet, Source
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.progress import Progress
from cdslm_eval.core.sources import decode
from cdslm_eval.plugin.contract import Failed, Recognizer, Skipped
from cdslm_eval.plugin.host import Host
from cdslm_eval_phones.per import reference_phones

__all__ = ["BLANK", "Labelled", "label_clips", "matching", "split_speakers", "vocabulary_of"]

BLANK = "<blank>"
_RECOGNIZER = "recognizer:"
_VALID_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Labelled:
    """A clip and its phones."""

    source: Source
    phones: tuple[str, ...]


def matching(clips: ClipSet, pattern: str) -> ClipSet:
    """Return the clips whose path matches a shell pattern; all of them for "".

    Raises:
        UsageError: None does.
    """
    sources = [source for source in clips.sources if not pattern or fnmatchcase(source.path, pattern)]
    if not sources:
        raise UsageError(f"{clips.origin or clips.name}: no path matches {pattern!r}; Use: --match '*/train/*'")
    return ClipSet(clips.name, sources, clips.origin)


def label_clips(clips: ClipSet, labels: str, language: str, progress: Progress | None = None) -> list[Labelled]:
    """Return the clips that have phones, with them.

    Args:
        clips: The clips.
        labels: "text" for the phones of their texts (or their own, where the set has phones); "recognizer:SPEC" for
            those that another recognizer reports.
        language: espeak-ng's name of the language of the texts; English becomes ARPAbet.
        progress: Called with (clips recognized, clips to recognize).

    Raises:
        UsageError: No clip has phones, or `labels` is neither.
    """
    phones: Sequence[Sequence[str] | None]
    if labels.startswith(_RECOGNIZER):
        recognizer = Host().make("recognizer", labels.removeprefix(_RECOGNIZER))
        phones = _recognized(clips.sources, recognizer, progress)
    elif labels == "text":
        phones = reference_phones(clips.sources, language)
    else:
        raise UsageError(f"--labels {labels!r}: Use: text, or recognizer:NAME such as recognizer:phone-ctc")
    labelled = [Labelled(source, tuple(row)) for source, row in zip(clips.sources, phones, strict=True) if row]
    if not labelled:
        raise UsageError(
            f"{clips.origin or clips.name}: no clip has a text or phones; "
            "Use: a manifest with a text column, or --labels recognizer:phone-ctc"
        )
    return labelled


def _recognized(
    sources: Sequence[Source], recognizer: Recognizer, progress: Progress | None
) -> list[Sequence[str] | None]:
    """Return the phones that a recognizer reports, None where it fails; English IPA is folded to ARPAbet."""
    fold = to_arpabet if recognizer.languages == {"en"} else list
    phones: list[Sequence[str] | None] = []
    with recognizer.open("auto"):
        for number, source in enumerate(sources, 1):
            try:
                (row,) = recognizer.recognize([decode(source).at_rate(recognizer.rate_hz)])
            except AudioError:
                row = Failed("unreadable")
            phones.append(None if isinstance(row, Failed | Skipped) else fold(row))
            if progress:
                progress(number, len(sources))
    return phones


def split_speakers(labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return clips to train on and clips to stop by: a tenth of the speakers (of the clips where none is named).

    The speakers are chosen by a hash of their names, so that more clips move no speaker to the other side.

    Raises:
        UsageError: There is only one speaker or clip.
    """
    names = [entry.source.speaker or entry.source.key for entry in labelled]
    ranked = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(ranked) < 2:
        raise UsageError("all clips are of one speaker, and none is left to stop by; Use: --valid MANIFEST")
    held_out = set(ranked[: max(1, round(_VALID_SHARE * len(ranked)))])
    pairs = list(zip(names, labelled, strict=True))
    return [entry for name, entry in pairs if name not in held_out], [
        entry for name, entry in pairs if name in held_out
    ]


def vocabulary_of(labelled: Sequence[Labelled]) -> list[str]:
    """Return the blank and the phones of the labels, sorted."""
    return [BLANK, *sorted(Counter(phone for entry in labelled for phone in entry.phones))]
