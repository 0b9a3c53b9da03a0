"""Results as text that a store can keep, number for number: what was summarised once need not be again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cdslm_eval.core.store import Store
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.score_result import Exemplar, Failure, NgramContribution, ScoreResult

__all__ = ["kept_differences", "kept_scores", "key_of"]

_SETTINGS = "settings"


def key_of(kind: str, *parts: object) -> str:
    """Return the key of something derived: its kind, and a digest of all it was derived from.

    The versions of this package, numpy and scipy are part of it.
    """
    import numpy as np
    import scipy

    from cdslm_eval import __version__

    text = repr((__version__, np.__version__, scipy.__version__, *parts))
    return f"{kind}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def kept_scores(store: Store, key: str, make: Callable[[], ScoreResult]) -> ScoreResult:
    """Return the result under a key, making and keeping it where there is none."""
    if (text := store.recall(key)) is not None:
        return _scores(json.loads(text))
    made = make()
    store.remember(key, json.dumps(_plain(made), default=float))
    return made


def kept_differences(store: Store, key: str, make: Callable[[], Sequence[Difference]]) -> list[Difference]:
    """Return the differences under a key, making and keeping them where there are none."""
    if (text := store.recall(key)) is not None:
        return [Difference(**one) for one in json.loads(text)]
    made = list(make())
    store.remember(key, json.dumps([dataclasses.asdict(one) for one in made], default=float))
    return made


def _plain(result: ScoreResult) -> dict[str, Any]:
    # infinities and NaN stay what they are: Python's json reads what it writes
    lists = ("failures", "contributions", "exemplars")
    return {
        "estimates": [one.as_json() for one in result.estimates],
        **{name: [dataclasses.asdict(one) for one in getattr(result, name)] for name in lists},
        "warnings": list(result.warnings),
        "paths": [[owner, key, path] for (owner, key), path in result.clip_paths.items()],
        _SETTINGS: dict(result.settings),
    }


def _scores(data: Mapping[str, Any]) -> ScoreResult:
    return ScoreResult(
        estimates=tuple(Estimate.from_json(one) for one in data["estimates"]),
        failures=tuple(Failure(**one) for one in data["failures"]),
        contributions=tuple(
            NgramContribution(**{**one, "ngram": tuple(one["ngram"]), "clips": tuple(one["clips"])})
            for one in data["contributions"]
        ),
        exemplars=tuple(Exemplar(**{**one, "phones": tuple(one["phones"])}) for one in data["exemplars"]),
        warnings=tuple(data["warnings"]),
        settings=data[_SETTINGS],
        clip_paths={(owner, key): path for owner, key, path in data["paths"]},
    )
