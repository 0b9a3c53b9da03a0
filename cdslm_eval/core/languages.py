"""Languages of speech, as manifests name them: ISO 639 codes, with a region or a script where it matters."""

from __future__ import annotations

import re

__all__ = ["check_language", "primary_subtag"]

_ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en "
    "eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja "
    "jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb "
    "nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so "
    "sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
_TWO_LETTERS = frozenset(_ISO_639_1.split())
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


def primary_subtag(language: str) -> str:
    """Return the language of a tag without region and script: "pt" of "pt-BR"."""
    return language.strip().lower().replace("_", "-").partition("-")[0]


def check_language(language: str) -> None:
    """Refuse what names no language, such as "english".

    Codes of three letters (ISO 639-3 has 7,900) are not looked up.

    Raises:
        ValueError: It is no code of ISO 639-1 and none of three letters.

    Source: ISO 639-1:2002; RFC 5646 (language tags).
    """
    primary = primary_subtag(language)
    if not _TAG.fullmatch(language.strip()) or (len(primary) == 2 and primary not in _TWO_LETTERS):
        raise ValueError(f"the language {language!r} is unknown; write an ISO 639 code, such as en, cmn or pt-BR")
