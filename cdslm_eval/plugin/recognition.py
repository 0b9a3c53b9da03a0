"""Which recognizer is the default here, and what its user must know before quoting a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.defaults import RECOGNIZER, RECOGNIZERS
from cdslm_eval.core.languages import primary_subtag
from cdslm_eval.plugin.contract import Measurer, Recognizer

if TYPE_CHECKING:
    from cdslm_eval.plugin.host import Host

__all__ = ["cautions", "default_recognizer"]


def default_recognizer(host: Host) -> str:
    """Return the name of the first of the default recognizers that can be used here.

    Args:
        host: The plugins of this environment.
    """
    registered = host.registered("recognizer")
    usable = (name for name in RECOGNIZERS if name in registered and registered[name].component.missing() is None)
    return next(usable, RECOGNIZERS[-1])


def cautions(
    host: Host, requested: object, recognizer: Recognizer, metrics: Sequence[Measurer], sets: Iterable[ClipSet] = ()
) -> list[str]:
    """Return the sentences that belong next to every value of a recognizer; none where no metric reads phones.

    Args:
        host: The plugins of this environment.
        requested: What the user named; the default falls back where its plugin is not installed.
        recognizer: What is used.
        metrics: What is measured.
        sets: The sets that are recognized; one whose language the recognizer was not made for is reported.
    """
    if not any("phones" in {*metric.needs, *metric.wants} for metric in metrics):
        return []
    first = RECOGNIZERS[0]
    sentences = [recognizer.caution] if recognizer.caution else []
    if requested == RECOGNIZER and recognizer.name != first:
        registered = host.registered("recognizer").get(first)
        why = registered.component.missing() if registered else host.absence("recognizer", first)
        sentences.insert(0, f"{recognizer.name} is the fallback: {why or f'{first} is not installed'}")
    own = [" ".join(f"{sentence.rstrip('.')}." for sentence in sentences)] if sentences else []
    return own + [problem for clips in sets if (problem := _foreign(recognizer, clips))]


def _foreign(recognizer: Recognizer, clips: ClipSet) -> str:
    """Return a sentence on the clips of a set in languages that the recognizer was not made for, or ""."""
    codes = [primary_subtag(source.language) for source in clips.sources if source.language]
    foreign = Counter(code for code in codes if code not in recognizer.languages)
    if not foreign or not recognizer.languages:
        return ""
    return (
        f"{clips.name}: {foreign.total()} of {len(clips)} clips are in {', '.join(sorted(foreign))}, and "
        f"{recognizer.name} was made for {', '.join(sorted(recognizer.languages))}: their phones are unreliable. "
        "Use: a recognizer of that language, such as --recognizer wav2vec2"
    )
