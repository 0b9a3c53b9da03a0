"""What tests of pages share: reading the tables of a page."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest


class Tables(HTMLParser):
    """The tables of a page: for each, its caption and the number of columns of every row."""

    def __init__(self):
        super().__init__()
        self.tables, self._captions, self._in_caption = [], 0, False

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append(["", []])
        elif tag == "tr":
            self.tables[-1][1].append(0)
        elif tag in ("th", "td"):
            self.tables[-1][1][-1] += int(dict(attributes).get("colspan", 1))
        self._in_caption = tag == "caption" or (self._in_caption and tag != "table")

    def handle_endtag(self, tag):
        self._in_caption = self._in_caption and tag != "caption"

    def handle_data(self, data):
        if self._in_caption:
            self.tables[-1][0] += data


@pytest.fixture
def column_counts():
    """Return a function that reads a page's tables as (caption, number of columns of every row)."""

    def read(page):
        tables = Tables()
        tables.feed(page)
        return [(caption.strip(), counts) for caption, counts in tables.tables]

    return read
