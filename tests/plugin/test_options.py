"""Options written as text after a component's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.host import Host


def test_a_misspelt_option_is_not_read_as_part_of_the_value_before_it(tmp_path, monkeypatch):
    """The text after "babble:" went to its order: "order: Input should be a valid integer"."""
    monkeypatch.setenv("CDSLM_EVAL_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    host = Host()
    with pytest.raises(UsageError, match=r"txt: is not an option\. Did you mean 'text'"):
        host.resolve("generator", "babble:2,txt=words.txt")
    with pytest.raises(UsageError, match=r"text: is not an option\. Options: path, voice"):
        host.resolve("generator", "speak:text=words.txt")
    Path("text=words.txt").write_text("Hello there.\n")
    assert str(host.resolve("generator", "speak:text=words.txt").options.path) == "text=words.txt"
