"""Which language a window of speech is in: the contract of what identifies it, and the names of languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import Protocol

from cdslm_eval.core.audio import Samples
from cdslm_eval.core.languages import language_tag, primary_subtag

__all__ = ["LanguageIdentifier", "code_of_label", "code_of_token"]

_RENAMED = {"jw": "jv"}
"""Codes of Whisper's tokens that are not those of ISO 639."""
_MEMBERS = {"ar": "arb arz", "fa": "pes prs", "ms": "zsm", "no": "nb nn", "sw": "swh", "zh": "cmn yue"}
_MACROLANGUAGE = {member: code for code, members in _MEMBERS.items() for member in members.split()}
"""Languages of ISO 639-3 -> the macrolanguage under whose name a model may know them."""


class LanguageIdentifier(Protocol):
    """Speech in, the probability of each language out; a transcriber may be one too.

    Windows are float32 `[samples]` at 16 kHz, of 1 to 30 s, and not silent. The result for one must not depend on
    the others.
    """

    def fingerprint(self) -> Mapping[str, str]:
        """Return what can move a probability: digests of weights, versions of engines."""
        ...

    def open(self, device: str) -> AbstractContextManager[None]:
        """Hold what is costly to load; the methods below are called within it."""
        ...

    def known_languages(self) -> AbstractSet[str]:
        """Return the ISO 639 codes of the languages that it tells apart."""
        ...

    def languages(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """Return the probability of each known language, 0..1 by ISO 639 code, of each window."""
        ...


def code_of_token(token: str) -> str:
    """Return the ISO 639 code of a language's token in Whisper's vocabulary.

    Example:
        >>> code_of_token("<|en|>"), code_of_token("<|jw|>")
        ('en', 'jv')
    """
    name = token.strip("<|>")
    return _RENAMED.get(name, name)


def code_of_label(label: str, known: AbstractSet[str]) -> str | None:
    """Return the code under which an identifier knows the language of a manifest; None where it does not know it.

    Args:
        label: ISO 639 code of the manifest, such as "en", "pt-BR" or "cmn".
        known: The codes of the identifier.

    Source: ISO 639-3, macrolanguage mappings.

    Example:
        >>> code_of_label("pt-BR", {"en", "pt", "zh"}), code_of_label("cmn", {"en", "zh"}), code_of_label("gsw", {"de"})
        ('pt', 'zh', None)
    """
    code = primary_subtag(language_tag(label))
    code = code if code in known else _MACROLANGUAGE.get(code, code)
    return code if code in known else None
