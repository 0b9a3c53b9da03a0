"""A lower bound of the divergence that is 0 for identical sources: cross-fitted back-off models, stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cdslm_eval.stats.jsd.copies import COPY_ORDER, nearest_clips
from cdslm_eval.stats.jsd.ngrams import Ints, NgramTable
from cdslm_eval.stats.jsd.plug_in import clustered_se, group_clips

__all__ = ["FOLDS", "MIN_CLIPS", "HeldOut", "conditional_probabilities", "held_out"]

FOLDS = 5
MIN_CLIPS = 10
_RIDGE = 0.2
_NEWTON_STEPS = 25
_ALIKE = 0.2
"""Share of a clip's 5-grams in one other clip from which the two are in one fold; unrelated speech has under 0.05."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The bound for one order.

    Attributes:
        value: 1 - balanced held-out cross-entropy in bits; its expectation is at most the divergence.
        se: Standard error, clustered by clip.
        clip_scores: `[generated clips]`, mean log2-odds of its n-grams being the reference's; NaN without n-grams.
        reference_scores: `[reference clips]`, the same of the reference's clips.
    """

    value: float
    se: float
    clip_scores: Floats
    reference_scores: Floats


def conditional_probabilities(table: NgramTable, counts: Sequence[npt.NDArray[np.integer]]) -> list[Floats]:
    """Return p(last phone | the phones before it) for every n-gram type, by interpolated Witten-Bell back-off.

    Args:
        table: Gives the types and their prefixes and suffixes.
        counts: Counts `[types]` of orders 1, 2, ...

    Returns:
        float64 `[types]` for each order. A context that was never seen leaves the lower order's value.

    Source: Witten and Bell (1991), method C; Chen and Goodman (1999), eq. 15, interpolated to the uniform.
    """
    kinds = len(table.inventory)
    seen, total = np.count_nonzero(counts[0]), int(counts[0].sum())
    # down to the uniform: a type of the other side alone needs a probability, or log-ratios are infinite
    probabilities = [(counts[0] + seen / kinds) / (total + seen) if total else np.full(len(counts[0]), 1 / kinds)]
    for order, count in zip(table.orders[1:], counts[1:], strict=False):
        below = table.orders[order.n - 2].types
        follow = np.bincount(order.prefix, weights=count, minlength=below)[order.prefix]
        distinct = np.bincount(order.prefix, weights=count > 0, minlength=below)[order.prefix]
        lower = probabilities[-1][order.suffix]
        known = follow > 0
        value = lower.copy()
        value[known] = (count[known] + distinct[known] * lower[known]) / (follow[known] + distinct[known])
        probabilities.append(value)
    return probabilities


def held_out(
    table: NgramTable, orders: tuple[int, ...], clusters: Ints, rng: np.random.Generator
) -> dict[int, HeldOut]:
    """Return the bound of each order; both sides must have at least `MIN_CLIPS` clips.

    Args:
        table: The n-grams.
        orders: Which orders.
        clusters: Cluster number of each clip; a cluster is never split between folds.
        rng: Deals the folds.
    """
    fold = _copies_together(table, clusters, group_clips(clusters, table.side, rng, FOLDS))
    cell = fold + FOLDS * table.side  # fold and side of each clip
    highest = max(orders)
    counts = [_cell_counts(table, n, cell) for n in range(1, highest + 1)]
    features = [_features(table, counts, left_out, orders) for left_out in range(FOLDS)]
    clips = len(table.lengths)
    return {
        n: _stack(table, n, counts[n - 1], [f[n] for f in features], fold, clusters, _RIDGE / clips) for n in orders
    }


def _copies_together(table: NgramTable, clusters: Ints, fold: Ints) -> Ints:
    """Put clusters that share clips, or nearly, into one fold.

    Else the copy of a held-out clip would be in the other side's training folds and give it away, and the bound would
    exceed the divergence that it bounds.
    """
    from scipy.sparse import coo_array  # listing metrics must not wait for scipy
    from scipy.sparse.csgraph import connected_components

    own = np.flatnonzero(~table.side)
    ends = np.cumsum(table.lengths)
    contents = [table.codes[end - length : end].tobytes() for end, length in zip(ends, table.lengths, strict=True)]
    waiting: dict[bytes, list[int]] = {}
    for clip in np.flatnonzero(table.side).tolist():
        waiting.setdefault(contents[clip], []).append(clip)
    # exact copies one for one, and of speakers' clips only long ones: a word that all utter must not chain all speakers
    alone = np.bincount(clusters)[clusters] == 1
    telling = (table.lengths >= 2 * COPY_ORDER) | (alone & (table.lengths > 0))
    pairs = [(clip, same.pop()) for clip in own[telling[own]].tolist() if (same := waiting.get(contents[clip]))]
    if len(table.orders) >= COPY_ORDER:
        shares, originals = nearest_clips(table, ~table.side, table.side, clusters)
        alike = np.flatnonzero((shares >= _ALIKE) & (table.lengths[own] >= 2 * COPY_ORDER))
        pairs += zip(own[alike].tolist(), originals[alike].tolist(), strict=True)
    if not pairs:
        return fold
    first, second = clusters[np.array(pairs).T]
    count = int(clusters.max()) + 1
    _, component = connected_components(coo_array((np.ones(len(first)), (first, second)), (count, count)), False)
    leader = np.full(count, -1)
    leader[component[clusters[::-1]]] = fold[::-1]  # the fold of a component's first clip
    together: Ints = leader[component[clusters]]
    return together


def _cell_counts(table: NgramTable, n: int, cell: Ints) -> Ints:
    """Return counts `[2 * folds, types]` of an order."""
    order = table.orders[n - 1]
    chosen = order.gram >= 0
    flat = cell[table.clip[chosen]] * order.types + order.gram[chosen]
    return np.bincount(flat, minlength=2 * FOLDS * order.types).reshape(2 * FOLDS, order.types)


def _features(table: NgramTable, counts: list[Ints], fold: int, orders: tuple[int, ...]) -> dict[int, Floats]:
    """Return, for each order n, the Markov log-ratios of order 0..n-1 of every n-gram, without fold `fold`.

    Element [t, k] is ln P_k(t) / Q_k(t) under models of context length k, `[types, n]`.
    """
    ratios = []
    sides = [[np.delete(c[s * FOLDS : (s + 1) * FOLDS], fold, axis=0).sum(axis=0) for c in counts] for s in (0, 1)]
    generated, reference = (conditional_probabilities(table, side) for side in sides)
    ratios = [np.log(p) - np.log(q) for p, q in zip(generated, reference, strict=True)]
    features = {1: ratios[0][:, None]}
    for order in table.orders[1 : max(orders)]:
        before = features[order.n - 1]
        columns = np.empty((order.types, order.n))
        # tail[k]: log-ratio of the last phone given the k before it, found along the chain of suffixes
        suffix = np.arange(order.types)
        for k in range(order.n - 1, -1, -1):
            columns[:, k] = before[order.prefix, min(k, order.n - 2)] + ratios[k][suffix]
            suffix = table.orders[k].suffix[suffix] if k else suffix
        features[order.n] = columns
    return {n: features[n] for n in orders}


def _stack(
    table: NgramTable, n: int, counts: Ints, features: list[Floats], fold: Ints, clusters: Ints, ridge: float
) -> HeldOut:
    """Fit the stacked classifier on the other folds' held-out features, and take its loss on each fold."""
    order = table.orders[n - 1]
    totals = [int(counts[:FOLDS].sum()), int(counts[FOLDS:].sum())]
    if min(totals) == 0:
        unknown = np.full(len(table.lengths), np.nan)
        return HeldOut(float("nan"), float("nan"), unknown[~table.side], unknown[table.side])
    used = [np.flatnonzero(counts[f] + counts[FOLDS + f]) for f in range(FOLDS)]
    data = [
        (features[f][used[f]], counts[f][used[f]] / totals[0], counts[FOLDS + f][used[f]] / totals[1])
        for f in range(FOLDS)
    ]
    sums, windows = np.zeros(len(table.lengths)), np.zeros(len(table.lengths))
    odds = np.zeros(len(table.lengths))
    beta = np.zeros(n)
    in_fold = fold[table.clip]
    for f in range(FOLDS):
        others = [data[g] for g in range(FOLDS) if g != f]
        x, positive, negative = (np.concatenate(parts) for parts in zip(*others, strict=True))
        # the optimum is unique, so that starting from the last fold's saves steps and decides nothing
        beta = _logistic(x, positive, negative, ridge, beta)
        score = np.zeros(order.types)
        score[used[f]] = data[f][0] @ beta
        chosen = (order.gram >= 0) & (in_fold == f)
        clips = table.clip[chosen]
        z = score[order.gram[chosen]]
        towards = np.where(table.side[clips], -z, z)  # log-odds of the right answer
        sums += np.bincount(clips, weights=np.logaddexp(0, -towards), minlength=len(sums)) / np.log(2)
        odds -= np.bincount(clips, weights=z, minlength=len(sums)) / np.log(2)
        windows += np.bincount(clips, minlength=len(sums))
    value, variance = 1.0, 0.0
    for side in (False, True):
        here = table.side == side
        value -= sums[here].sum() / windows[here].sum() / 2
        variance += clustered_se(sums[here], windows[here], clusters[here]) ** 2 / 4
    scores = np.full(len(sums), np.nan)
    np.divide(odds, windows, out=scores, where=windows > 0)
    return HeldOut(float(value), float(np.sqrt(variance)), scores[~table.side], scores[table.side])


def _logistic(x: Floats, positive: Floats, negative: Floats, ridge: float, start: Floats) -> Floats:
    """Return the coefficients of a weighted logistic regression without intercept, by damped Newton steps.

    Args:
        x: Features `[types, features]`.
        positive, negative: How much of each class a type carries; each class is scaled to weigh one half.
        ridge: Penalty on half the sum of squared coefficients.
        start: First guess `[features]`.
    """
    # a fold may hold none of a class (few clusters): then nothing can be learned, and odds of 1 are honest
    if positive.sum() == 0 or negative.sum() == 0:
        return np.zeros_like(start)
    positive, negative = positive / positive.sum() / 2, negative / negative.sum() / 2
    both = positive + negative

    def objective(beta: Floats) -> float:
        # ln(1 + e^z) once serves both classes: ln(1 + e^-z) = ln(1 + e^z) - z
        z = x @ beta
        softplus = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))
        return float(both @ softplus - positive @ z + ridge / 2 * beta @ beta)

    beta, now = start, objective(start)
    for _ in range(_NEWTON_STEPS):
        z = x @ beta
        s = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        gradient = x.T @ (negative * s - positive * (1 - s)) + ridge * beta
        weight = both * s * (1 - s)
        hessian = (x * weight[:, None]).T @ x + ridge * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        # a full step may overshoot where the classes all but separate
        while (then := objective(beta - size * step)) > now and size > 1e-4:
            size /= 2
        if then > now:
            break
        done = now - then < 1e-9
        beta, now = beta - size * step, then
        if done:
            break
    return beta
