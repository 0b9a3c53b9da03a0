"""BibTeX is well formed whatever a plugin writes, and the citation file agrees with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import cdslm_eval
from cdslm_eval.core.citation import Citation, bibliography, package_citation
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.host import Host

ROOT = Path(__file__).parents[2]


def entries(text):
    """Read BibTeX as (type, key, fields), by counting braces."""
    read = []
    for match in re.finditer(r"@(\w+)\{([^,]+),", text):
        fields, position = {}, match.end()
        while field := re.compile(r"\s*(\w+) = \{").match(text, position):
            depth, end = 1, field.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
            fields[field[1]], position = text[field.end() : end - 1], end + 1
        assert re.compile(r"\s*\}").match(text, position), text[position : position + 20]
        read.append((match[1], match[2], fields))
    return read


def test_every_citation_of_this_environment_is_an_entry_with_author_title_and_year():
    host = Host()
    kinds = ("metric", "recognizer", "transcriber", "law")
    components = [registered.component for kind in kinds for registered in host.registered(kind).values()]
    citations = [citation for component in components for citation in component.citation]
    read = entries(bibliography(citations))
    assert {key for _, key, _ in read} == {citation.key for citation in citations} >= {"lin1991divergence"}
    assert all({"author", "title", "year"} <= set(fields) for _, _, fields in read)
    assert all(fields.get("doi", "10.").startswith("10.") for _, _, fields in read)


def test_hostile_text_ends_no_field():
    hostile = Citation(
        key="a1", title="} @misc{b, 100 % of A_B\n\\input{x}", authors=("X} and {Y, Z",), year=1, url="http://x/}{"
    )
    ((kind, key, fields),) = entries(hostile.bibtex())
    assert (kind, key) == ("misc", "a1")
    assert r"100 \% of A\_B" in fields["title"]
    assert "\\input" not in hostile.bibtex()
    with pytest.raises(UsageError, match="citation key"):
        Citation(key="a,b", title="", authors=("X",), year=1)


def test_names_in_words():
    two = Citation(key="a", title="", authors=("Stahl, Benjamin", "Gamper, Hannes"), year=2025)
    many = Citation(key="a", title="", authors=("Tjandra, Andros", "others"), year=2025)
    assert (two.in_words, many.in_words) == ("Stahl and Gamper (2025)", "Tjandra et al. (2025)")


def test_the_citation_file_agrees_with_the_package():
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    package = package_citation(cdslm_eval.__version__)
    assert (file["title"], str(file["version"])) == (package.title, package.version)
    assert tuple(author["name"] for author in file["authors"]) == package.authors
