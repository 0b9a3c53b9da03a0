"""A neural phone recognizer as a plugin of cdslm-eval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdslm_eval.plugin.hookspecs import hookimpl
from cdslm_eval_phones.recognizer import PhoneCtc

if TYPE_CHECKING:
    from cdslm_eval.plugin.contract import Recognizer

__all__ = ["cdslm_recognizers"]


@hookimpl
def cdslm_recognizers() -> list[type[Recognizer]]:
    """Return the recognizer."""
    return [PhoneCtc]
