"""Citation: a paper or program to name with a number, as BibTeX and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cdslm_eval.core.errors import UsageError

__all__ = ["Citation", "bibliography", "package_citation"]

_TITLE = "cdslm-eval: metrics, statistics and scaling fits for speech-only spoken language models"
_AUTHOR = "The cdslm-eval authors"
_YEAR = 2026
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_:.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A paper, book or program.

    Attributes:
        key: Its BibTeX key: a letter, then letters, digits, "_", ":", "." or "-".
        title: Its title.
        authors: "Family, Given" of each; a name without a comma is a group's; a last "others" becomes "et al.".
        year: When it appeared.
        kind: BibTeX's type of entry.
        venue: Journal, proceedings or publisher; "" where there is none.
        doi, arxiv, url: Where it is, without the site's address for the first two.
        version: Of a program.

    Raises:
        UsageError: The key is none, or there is no author.

    Example:
        >>> lin = Citation(key="lin1991", title="Divergence measures based on the Shannon entropy",
        ...                authors=("Lin, Jianhua",), year=1991, kind="article",
        ...                venue="IEEE Transactions on Information Theory", doi="10.1109/18.61115")
        >>> lin.in_words
        'Lin (1991)'
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    kind: Literal["article", "inproceedings", "misc", "book", "software"] = "misc"
    venue: str = ""
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise UsageError(f"citation key {self.key!r}: a letter, then letters, digits, '_', ':', '.' or '-'")
        if not self.authors:
            raise UsageError(f"citation {self.key}: names no author")

    @property
    def in_words(self) -> str:
        """The citation as a sentence names it: "Lin (1991)", "Taal et al. (2011)"."""
        families = [author.partition(",")[0] for author in self.authors]
        if len(families) == 2 and families[1] != "others":
            return f"{families[0]} and {families[1]} ({self.year})"
        return f"{families[0]}{' et al.' * (len(families) > 1)} ({self.year})"

    def bibtex(self) -> str:
        """Return the entry; text is escaped, and capitals of the title are kept."""
        where = {"article": "journal", "inproceedings": "booktitle", "misc": "howpublished", "book": "publisher"}
        fields = {
            "author": " and ".join(map(_name, self.authors)),
            "title": f"{{{_escaped(self.title)}}}",
            where.get(self.kind, "howpublished"): _escaped(self.venue),
            "year": str(self.year),
            "version": _escaped(self.version),
            "doi": _plain(self.doi),
            "eprint": _plain(self.arxiv),
            "archiveprefix": "arXiv" if self.arxiv else "",
            "url": _plain(self.url),
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _name(author: str) -> str:
    """Return an author for BibTeX, where a group's name needs braces so that it is not split."""
    text = _escaped(author)
    return text if "," in author or author == "others" else f"{{{text}}}"


def _escaped(text: str) -> str:
    """Return text without what would end a field or start a command."""
    return re.sub(r"([&%#_$])", r"\\\1", _plain(text))


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() and letter not in "{}\\")


def package_citation(version: str) -> Citation:
    """Return how this package is cited.

    Args:
        version: Its version; "" where that is not known.
    """
    return Citation(key="cdslm_eval", title=_TITLE, authors=(_AUTHOR,), year=_YEAR, kind="software", version=version)


def bibliography(citations: Iterable[Citation]) -> str:
    """Return BibTeX entries, each key once, in the order given."""
    entries = {citation.key: citation for citation in citations}
    return "\n\n".join(citation.bibtex() for citation in entries.values())
