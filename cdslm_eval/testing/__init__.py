"""Conformance kit: named checks for metrics, recognizers, transcribers and generators, for one line of pytest.

```python
import pytest
from cdslm_eval.testing import check_metric
from my_package import SilenceShare


@pytest.mark.parametrize("check", check_metric(SilenceShare), ids=str)
def test_the_contract(check):
    check()
```

What is tested may be a class (default options), an instance, or a function without arguments that returns one: the
function is called when a check runs, so it may make a small checkpoint first. Where the component comes from a fixture,
parametrise over the bare `METRIC_CHECKS` and call `check(metric)`.

Names are imported when they are first used: pytest loads the plugin beside them in every project of the environment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdslm_eval.testing.check import Bound, Check, ConformanceError
    from cdslm_eval.testing.generators import GENERATOR_CHECKS, check_generator
    from cdslm_eval.testing.measurers import (
        METRIC_CHECKS,
        RECOGNIZER_CHECKS,
        TRANSCRIBER_CHECKS,
        check_metric,
        check_recognizer,
        check_transcriber,
    )

__all__ = [
    "GENERATOR_CHECKS",
    "METRIC_CHECKS",
    "RECOGNIZER_CHECKS",
    "TRANSCRIBER_CHECKS",
    "Bound",
    "Check",
    "ConformanceError",
    "check_generator",
    "check_metric",
    "check_recognizer",
    "check_transcriber",
]

_MODULES = {
    "check": ("Bound", "Check", "ConformanceError"),
    "generators": ("GENERATOR_CHECKS", "check_generator"),
    "measurers": (
        "METRIC_CHECKS",
        "RECOGNIZER_CHECKS",
        "TRANSCRIBER_CHECKS",
        "check_metric",
        "check_recognizer",
        "check_transcriber",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
