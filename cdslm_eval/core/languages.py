"""Languages of speech, as manifests name them: ISO 639 codes, with a region or a script where it matters."""

from __future__ import annotations

import re

__all__ = ["language_tag", "primary_subtag"]

_ISO_639 = (
    "aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul "
    "bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym "
    "da:dan de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij "
    "fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat "
    "hu:hun hy:hye hz:her ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav "
    "ka:kat kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir "
    "la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon "
    "mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya "
    "oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus "
    "rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp "
    "ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur "
    "ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid "
    "yo:yor za:zha zh:zho zu:zul"
)
"""Codes of ISO 639-1 with those of ISO 639-3 for the same language."""
_BIBLIOGRAPHIC = (
    "sq:alb hy:arm eu:baq bo:tib my:bur zh:chi cs:cze nl:dut fr:fre ka:geo de:ger el:gre is:ice mk:mac mi:mao ms:may "
    "fa:per ro:rum sk:slo cy:wel"
)
"""The same for the bibliographic codes of ISO 639-2."""
_SHORTEST = {pair[3:]: pair[:2] for pair in f"{_ISO_639} {_BIBLIOGRAPHIC}".split()}
_TWO_LETTERS = frozenset(_SHORTEST.values())
_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")


def primary_subtag(language: str) -> str:
    """Return the language of a tag without region and script: "pt" of "pt-BR"."""
    return language.strip().lower().replace("_", "-").partition("-")[0]


def language_tag(language: str) -> str:
    """Return a tag with its language in the shortest code, so that one language has one name.

    Codes of three letters without a shorter one (ISO 639-3 has 7,900) are not looked up.

    Raises:
        ValueError: It is no code of ISO 639-1 and none of three letters, such as "english".

    Source: ISO 639-1:2002, ISO 639-2:1998; RFC 5646, 2.2.1 (the shortest code is used).

    Example:
        >>> language_tag("eng"), language_tag("chi-Hant"), language_tag("pt-BR"), language_tag("cmn")
        ('en', 'zh-Hant', 'pt-BR', 'cmn')
    """
    primary = primary_subtag(language)
    if not _TAG.fullmatch(language.strip()) or (len(primary) == 2 and primary not in _TWO_LETTERS):
        raise ValueError(f"the language {language!r} is unknown; write an ISO 639 code, such as en, cmn or pt-BR")
    shortest = _SHORTEST.get(primary)
    return language if shortest is None else shortest + language.strip()[len(primary) :]
