"""Preferences of models that score speech, and pairs made from one's own clips: one function a job."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError, EvalError, UsageError
from cdslm_eval.core.progress import Progress, shown_progress
from cdslm_eval.core.provenance import versions
from cdslm_eval.core.sources import decode
from cdslm_eval.core.store import Store, default_store_path
from cdslm_eval.plugin.contract import Generator
from cdslm_eval.plugin.failures import describe
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.scorer import Scorer
from cdslm_eval.results.preference_result import Comparison, PreferenceResult
from cdslm_eval.run.pair_scores import (
    ScoredPair,
    accuracies_of,
    failed_pairs,
    failures_of,
    identity_of,
    pairs_digest,
    score_pairs,
)
from cdslm_eval.run.pair_sets import LAYOUTS, PAIRS, PairSource, layout_of, open_pairs
from cdslm_eval.run.preference import KINDS, kinds_named, made_pairs

__all__ = ["make_pairs", "preference"]

_MOST_NAMED = 5
"""Clips that cannot be read, of those that are named: an unmounted disk has thousands."""


def preference(
    systems: str | Generator | Sequence[str | Generator],
    pairs: Path | str | Sequence[PairSource],
    *,
    layout: str = "auto",
    per_second: bool | None = None,
    store: Path | str | None = None,
    seed: int = 0,
    progress: Progress | bool = False,
) -> PreferenceResult:
    """Return how often models score the better clip of a pair higher, with intervals by family.

    Scores are kept in the store: a call that was interrupted resumes, and clips in several pairs are scored once. A
    model that scores no pair has only failures, with their reasons, next to the results of the others.

    Args:
        systems: Generators that score speech, such as "cdslm:runs/small"; one or several.
        pairs: A manifest or folder of pairs, as `open_pairs` reads it, or the pairs.
        layout: How a folder is to be read.
        per_second: Whether scores per second are compared, or totals. None is what the layout of a released set asks
            for, and else totals, of pairs of clips of one length: others are refused.
        store: File of the scores; None is the user's own.
        seed: Of sampled scores, and of the intervals.
        progress: True shows a bar on stderr; or a function called with (pairs done, pairs to do).

    Raises:
        UsageError: A system scores no speech, the pairs cannot be read, or their clips differ in length and
            `per_second` is None.
        EvalError: No pair could be scored by any system.
    """
    host = Host()
    scorers = _scorers(host, [systems] if isinstance(systems, str | Generator) else systems)
    sources = open_pairs(pairs, layout) if isinstance(pairs, str | Path) else list(pairs)
    if not sources:
        raise UsageError("no pair to compare")
    default = LAYOUTS[layout_of(pairs, layout)].per_second if isinstance(pairs, str | Path) else None
    chosen_by = "option" if per_second is not None else "length" if default is None else "layout"
    compared = bool(default) if per_second is None else per_second
    # before anything is scored: a checkpoint that is not there must not cost the scores of another model
    models = {name: identity_of(scorer) for name, scorer in scorers.items()}
    scored: dict[str, list[ScoredPair]] = {}
    with Store(store or default_store_path()) as rows:
        for name, scorer in scorers.items():
            with shown_progress(progress, name, unit="pairs") as bar:
                scored[name] = _opened_and_scored(
                    scorer, sources, rows, seed=seed, one_length=chosen_by == "length", progress=bar
                )
    _check_any(scored)
    read = max(scored.values(), key=lambda own: sum(all(pair.digests) for pair in own))
    settings = {
        "systems": list(scorers),
        "pairs": str(pairs) if isinstance(pairs, str | Path) else f"{len(sources)} pairs",
        "layout": layout,
        "per_second": compared,
        "seed": seed,
        "versions": versions(host.versions()),
    }
    return PreferenceResult(
        accuracies=tuple(
            accuracy
            for name, own in scored.items()
            for accuracy in accuracies_of(own, name, models[name][0], per_second=compared, seed=seed)
        ),
        failures=tuple(failure for name, own in scored.items() for failure in failures_of(own, name)),
        comparison=Comparison(compared, chosen_by, sum(pair.differs_in_length for pair in read)),
        models={name: {"identity": identity, **parts} for name, (identity, parts) in models.items()},
        pairs_digest=pairs_digest(read),
        settings=settings,
    )


def _opened_and_scored(scorer: Any, sources: Sequence[PairSource], rows: Store, **how: Any) -> list[ScoredPair]:
    """Return the scores of one model; where it cannot be opened, pairs that failed for that reason."""
    with ExitStack() as stack:
        try:
            stack.enter_context(scorer.open("auto"))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and other models are compared
            return failed_pairs(sources, describe(error, type(scorer).__module__))
        return score_pairs(scorer, sources, rows, **how)


def _check_any(scored: Mapping[str, Sequence[ScoredPair]]) -> None:
    """Raise EvalError where no model scored any pair, with the first reason of each."""
    if all(pair.reason for pairs in scored.values() for pair in pairs):
        firsts = {name: pairs[0] for name, pairs in scored.items()}
        named = [
            (f"{name}: " if len(firsts) > 1 else "") + f"{first.pair.better.address}: {first.reason}"
            for name, first in firsts.items()
        ]
        raise EvalError(f"no pair could be scored: {'; '.join(named)}")


def _scorers(host: Host, systems: Sequence[str | Generator]) -> dict[str, Any]:
    """Return the models that score speech by name; raise UsageError where two have one name, or one scores none."""
    scorers = {system if isinstance(system, str) else system.name: _scorer(host, system) for system in systems}
    if len(scorers) < len(systems):
        raise UsageError("two systems have one name; name each once")
    return scorers


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
    note: Callable[[str], None] | None = None,
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
        note: Called with a sentence for each reason why clips make no pair, with their number.
        progress: True shows a bar on stderr; or a function called with (clips read, clips to read).

    Raises:
        UsageError: The folder is not empty, a kind is unknown, or no pair can be made.
    """
    folder, chosen = Path(out), kinds_named(kinds)
    if not context_s > 0:
        raise UsageError(f"a context of {context_s:g} s; it must be above 0")
    if (folder / PAIRS).exists():
        raise UsageError(f"{folder}: holds pairs already; name an empty folder")
    if folder.is_dir() and any(folder.iterdir()):
        # of a call that was interrupted, with other options perhaps: its files would stand among those of this one
        raise UsageError(f"{folder}: not empty; remove what an interrupted call left, or name an empty folder")
    opened = clips if isinstance(clips, ClipSet) else ClipSet.open(clips, ignore_columns=ignore_columns)
    left_out: Counter[str] = Counter()
    with shown_progress(progress, "reading") as bar:
        usable = _drawn(opened, 2 * context_s, count, seed, left_out, bar)
    rows = _written(usable, folder, chosen, context_s, seed, left_out)
    notes = [f"clips without a pair: {number} ({reason})" for reason, number in left_out.items()]
    if not rows:
        raise UsageError(
            f"{opened.name}: no pair can be made; clips of at least {2 * context_s:g} s are needed, and speakers for "
            f"some kinds. {'; '.join(notes)}"
        )
    if note is not None:
        for text in notes:
            note(text)
    with (folder / PAIRS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("better", "worse", "family", "kind", "prefix_seconds"))
        writer.writerows(rows)
    return folder / PAIRS


def _drawn(
    clips: ClipSet, least_s: float, count: int, seed: int, left_out: Counter[str], progress: Progress | None
) -> list[Clip]:
    """Return readable clips of a least length, drawn at random, and count the others by reason."""
    drawn: list[Clip] = []
    unreadable: list[str] = []
    for number in np.random.default_rng(seed).permutation(len(clips.sources)).tolist():
        if len(drawn) == count:
            break
        try:
            clip = decode(clips.sources[number])
        except AudioError as error:
            unreadable.append(f"{clips.sources[number].address}: {error}")
            continue
        if clip.seconds < least_s:
            left_out[f"under {least_s:g} s"] += 1
            continue
        drawn.append(clip)
        if progress is not None:
            progress(len(drawn), min(count, len(clips.sources)))
    if unreadable:
        first = "; ".join(unreadable[:_MOST_NAMED]) + ("; ..." if len(unreadable) > _MOST_NAMED else "")
        left_out[f"cannot be read: {first}"] = len(unreadable)
    return drawn


def _written(
    clips: Sequence[Clip], folder: Path, kinds: Sequence[str], context_s: float, seed: int, left_out: Counter[str]
) -> list[tuple[str, ...]]:
    """Write the pairs of clips, count those without one by reason, and return the rows of their manifest."""
    rows: list[tuple[str, ...]] = []
    written: set[str] = set()
    for kind in kinds:
        for number, pair in enumerate(made_pairs(clips, kind, context_s, seed, left_out)):
            # both are written: a pair must not differ by how its clips are stored
            names = f"better/{pair.better.digest[:16]}.flac", f"{kind}/{number:05d}.flac"
            for name, clip in zip(names, (pair.better, pair.worse), strict=True):
                if name not in written:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    write_flac(folder / name, clip.samples, clip.rate_hz)
                    written.add(name)
            rows.append((*names, pair.family, kind, f"{context_s:g}"))
    return rows
