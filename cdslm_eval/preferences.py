"""Preferences of models that score speech, and pairs made from one's own clips: one function a job."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.progress import Progress, shown_progress
from cdslm_eval.core.provenance import versions
from cdslm_eval.core.sources import decode
from cdslm_eval.core.store import Store, default_store_path
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.scorer import Scorer
from cdslm_eval.results.preference_result import KindAccuracy, PairFailure, PreferenceResult
from cdslm_eval.run.pair_scores import accuracies_of, failures_of, score_pairs
from cdslm_eval.run.pair_sets import PAIRS, PairSource, open_pairs
from cdslm_eval.run.preference import KINDS, kinds_named, made_pairs

__all__ = ["make_pairs", "preference"]


def preference(
    systems: str | Generator | Sequence[str | Generator],
    pairs: Path | str | Sequence[PairSource],
    *,
    layout: str = "auto",
    per_second: bool = False,
    store: Path | str | None = None,
    seed: int = 0,
    progress: Progress | bool = False,
) -> PreferenceResult:
    """Return how often models score the better clip of a pair higher, with intervals by family.

    Scores are kept in the store: a call that was interrupted resumes, and clips in several pairs are scored once.

    Args:
        systems: Generators that score speech, such as "cdslm:runs/small"; one or several.
        pairs: A manifest or folder of pairs, as `open_pairs` reads it, or the pairs.
        layout: How a folder is to be read.
        per_second: Compare scores per second, for clips of different lengths.
        store: File of the scores; None is the user's own.
        seed: Of sampled scores, and of the intervals.
        progress: True shows a bar on stderr; or a function called with (pairs done, pairs to do).

    Raises:
        UsageError: A system scores no speech, or the pairs cannot be read.
        EvalError: No pair could be scored.
    """
    host = Host()
    named = [systems] if isinstance(systems, str | Generator) else list(systems)
    scorers = [(system if isinstance(system, str) else system.name, _scorer(host, system)) for system in named]
    if len({name for name, _ in scorers}) < len(scorers):
        raise UsageError("two systems have one name; name each once")
    sources = open_pairs(pairs, layout) if isinstance(pairs, str | Path) else list(pairs)
    accuracies: list[KindAccuracy] = []
    failures: list[PairFailure] = []
    with Store(store or default_store_path()) as rows:
        for name, scorer in scorers:
            with shown_progress(progress, f"{name}, pairs") as bar, scorer.open("auto"):
                scored = score_pairs(scorer, sources, rows, seed=seed, progress=bar)
            identity = f"{scorer.name}@{scorer.version}"
            accuracies += accuracies_of(scored, name, identity, per_second=per_second, seed=seed)
            failures += failures_of(scored, name)
    settings = {
        "systems": [name for name, _ in scorers],
        "pairs": str(pairs) if isinstance(pairs, str | Path) else f"{len(sources)} pairs",
        "layout": layout,
        "per_second": per_second,
        "seed": seed,
        "versions": versions(host.versions()),
    }
    return PreferenceResult(accuracies=tuple(accuracies), failures=tuple(failures), settings=settings)


def _scorer(host: Host, system: str | Generator) -> Any:
    made = host.resolve("generator", system)
    if not isinstance(made, Scorer):
        known = [name for name, own in host.registered("generator").items() if issubclass(own.component, Scorer)]
        raise UsageError(f"{made.name} scores no speech. Generators that do: {', '.join(sorted(known))}.")
    return made


def make_pairs(
    clips: Any,
    out: Path | str,
    *,
    kinds: Sequence[str] = KINDS,
    context_s: float = 1.0,
    count: int = 200,
    seed: int = 0,
    ignore_columns: Sequence[str] = (),
    progress: Progress | bool = False,
) -> Path:
    """Write pairs made from real speech as FLAC, with their manifest, and return it.

    Args:
        clips: A path or `ClipSet`; clips shorter than twice the context make no pair, nor do such without a partner.
        out: Folder for the pairs.
        kinds: What is made worse; see `KINDS`.
        context_s: Seconds that both clips of a pair have in common, over 0.
        count: Clips to make pairs of, drawn at random where there are more; all are in memory.
        seed: Of what is drawn.
        ignore_columns: Of a manifest, as for `score`.
        progress: True shows a bar on stderr; or a function called with (clips read, clips to read).

    Raises:
        UsageError: The folder holds pairs already, a kind is unknown, or no pair can be made.
    """
    folder, chosen = Path(out), kinds_named(kinds)
    if not context_s > 0:
        raise UsageError(f"a context of {context_s:g} s; it must be above 0")
    if (folder / PAIRS).exists():
        raise UsageError(f"{folder}: holds pairs already; name an empty folder")
    opened = clips if isinstance(clips, ClipSet) else ClipSet.open(clips, ignore_columns=ignore_columns)
    with shown_progress(progress, "reading") as bar:
        usable = _drawn(opened, 2 * context_s, count, seed, bar)
    rows = _written(usable, folder, chosen, context_s, seed)
    if not rows:
        raise UsageError(
            f"{opened.name}: no pair can be made; clips of at least {2 * context_s:g} s are needed, and speakers for "
            "some kinds"
        )
    with (folder / PAIRS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("better", "worse", "family", "kind", "prefix_seconds"))
        writer.writerows(rows)
    return folder / PAIRS


def _drawn(clips: ClipSet, least_s: float, count: int, seed: int, progress: Progress | None) -> list[Clip]:
    """Return readable clips of a least length, drawn at random."""
    drawn: list[Clip] = []
    for number in np.random.default_rng(seed).permutation(len(clips.sources)).tolist():
        if len(drawn) == count:
            break
        try:
            clip = decode(clips.sources[number])
        except AudioError:
            continue  # a clip that cannot be read makes no pair
        if clip.seconds >= least_s:
            drawn.append(clip)
            if progress is not None:
                progress(len(drawn), min(count, len(clips.sources)))
    return drawn


def _written(
    clips: Sequence[Clip], folder: Path, kinds: Sequence[str], context_s: float, seed: int
) -> list[tuple[str, ...]]:
    """Write the pairs of clips, and return the rows of their manifest."""
    rows: list[tuple[str, ...]] = []
    for kind in kinds:
        for number, pair in enumerate(made_pairs(clips, kind, context_s, seed)):
            # both are written: a pair must not differ by how its clips are stored
            better, worse = f"better/{_name(pair.better.key)}.flac", f"{kind}/{number:05d}.flac"
            for name, clip in ((better, pair.better), (worse, pair.worse)):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if not (folder / name).exists():
                    write_flac(folder / name, clip.samples, clip.rate_hz)
            rows.append((better, worse, pair.family, kind, f"{context_s:g}"))
    return rows


def _name(key: str) -> str:
    """Return a file name of a key, whatever characters it has."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
