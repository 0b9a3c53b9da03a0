"""Which recognizer is the default here, and what its user must know before quoting a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdslm_eval.core.defaults import RECOGNIZER, RECOGNIZERS
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


def cautions(host: Host, requested: object, recognizer: Recognizer, metrics: Sequence[Measurer]) -> list[str]:
    """Return the sentences that belong next to every value of a recognizer; none where no metric reads phones.

    Args:
        host: The plugins of this environment.
        requested: What the user named; the default falls back where its plugin is not installed.
        recognizer: What is used.
        metrics: What is measured.
    """
    if not any("phones" in {*metric.needs, *metric.wants} for metric in metrics):
        return []
    first = RECOGNIZERS[0]
    sentences = [recognizer.caution] if recognizer.caution else []
    if requested == RECOGNIZER and recognizer.name != first:
        registered = host.registered("recognizer").get(first)
        why = registered.component.missing() if registered else host.absence("recognizer", first)
        sentences.insert(0, f"{recognizer.name} is the fallback: {why or f'{first} is not installed'}")
    return [" ".join(f"{sentence.rstrip('.')}." for sentence in sentences)] if sentences else []
