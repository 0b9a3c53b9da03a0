"""What a suite need not compute twice: results kept in the store, and files known by their content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.execution import Executor
from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.recognition_gain import RecognitionGain
from cdslm_eval.results.score_result import Exemplar, Failure, NgramContribution, ScoreResult
from cdslm_eval.run.clip_states import current_stamps
from cdslm_eval.run.contents import read_contents

__all__ = ["cache_key", "cached_differences", "cached_scores", "read_copies"]

_STATISTICS = 3
"""Raised where intervals, errors or warnings change under identities that stay."""


def cache_key(kind: str, *parts: object) -> str:
    """Return the key of a derived result: its kind, and a digest of everything it was derived from.

    The versions of this package, of its statistics, of numpy and of scipy are part of it.
    """
    import numpy as np
    import scipy

    from cdslm_eval import __version__

    text = repr((__version__, _STATISTICS, np.__version__, scipy.__version__, *parts))
    return f"{kind}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def cached_scores(store: Store, key: str, compute: Callable[[], ScoreResult]) -> ScoreResult:
    """Return the result under a key; compute and store it where there is none."""
    if (text := store.recall(key)) is not None:
        return _read_scores(json.loads(text))
    result = compute()
    store.remember(key, json.dumps(_plain_scores(result), default=float))
    return result


def cached_differences(store: Store, key: str, compute: Callable[[], Sequence[Difference]]) -> list[Difference]:
    """Return the differences under a key; compute and store them where there are none."""
    if (text := store.recall(key)) is not None:
        return [Difference(**entry) for entry in json.loads(text)]
    differences = list(compute())
    store.remember(key, json.dumps([dataclasses.asdict(entry) for entry in differences], default=float))
    return differences


def _plain_scores(result: ScoreResult) -> dict[str, Any]:
    # infinities and NaN stay what they are: Python's json reads what it writes
    lists = ("failures", "contributions", "exemplars", "recognition_gain")
    return {
        "estimates": [estimate.as_json() for estimate in result.estimates],
        "real": [estimate.as_json() for estimate in result.real],
        **{name: [dataclasses.asdict(entry) for entry in getattr(result, name)] for name in lists},
        "warnings": list(result.warnings),
        "paths": [[owner, key, path] for (owner, key), path in result.clip_paths.items()],
        "settings": dict(result.settings),
        "channel": None if result.channel is None else result.channel.as_json(),
    }


def _read_scores(data: Mapping[str, Any]) -> ScoreResult:
    return ScoreResult(
        estimates=tuple(Estimate.from_json(entry) for entry in data["estimates"]),
        real=tuple(Estimate.from_json(entry) for entry in data["real"]),
        failures=tuple(Failure(**entry) for entry in data["failures"]),
        contributions=tuple(
            NgramContribution(**{**entry, "ngram": tuple(entry["ngram"]), "clips": tuple(entry["clips"])})
            for entry in data["contributions"]
        ),
        exemplars=tuple(Exemplar(**{**entry, "phones": tuple(entry["phones"])}) for entry in data["exemplars"]),
        warnings=tuple(data["warnings"]),
        settings=data["settings"],
        channel=None if data["channel"] is None else ChannelReport.from_json(data["channel"]),
        recognition_gain=tuple(
            RecognitionGain(**{**entry, "clips": tuple(entry["clips"])}) for entry in data["recognition_gain"]
        ),
        clip_paths={(owner, key): path for owner, key, path in data["paths"]},
    )


def read_copies(store: Store, executor: Executor, sets: Sequence[ClipSet], jobs: int) -> int:
    """Store the digests of new files that may be copies, so that copies are not measured again; return their number.

    Only a file of the same size as another one can be its copy, so the others are not opened.

    Args:
        store: Takes the digests.
        executor: Decodes the files, isolated from this process.
        sets: The clips.
        jobs: Worker processes.
    """
    every = {address for clips in sets for source in clips.sources for address in source.addresses}
    # objects would be read twice, which costs more than measuring a copy
    addresses = sorted(address for address in every if not is_remote(address.path))
    known = store.files(addresses)
    stamps = current_stamps(())
    size_of: dict[Address, int] = {}
    for address in addresses:
        if address not in known or stamps(address.path) != known[address].stamp:
            try:
                size_of[address] = Path(address.path).stat().st_size
            except OSError:
                continue  # measuring reports what is wrong with it
    counts = Counter(size_of.values())
    known_sizes = store.sizes()
    maybe_copies = [address for address, size in size_of.items() if counts[size] > 1 or size in known_sizes]
    read_contents(store, executor, maybe_copies, jobs)
    return len(maybe_copies)
