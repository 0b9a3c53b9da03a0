"""Pairs made from real clips, scored into a store, resumed, and told apart by a control with a known answer."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from cdslm_eval import ClipSet, EvalError, UsageError
from cdslm_eval.builtin.generators.stationary import StationaryGenerator, fitted_filter
from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.store import Store
from cdslm_eval.preferences import make_pairs, preference
from cdslm_eval.run.pair_scores import accuracies_of, score_pairs
from cdslm_eval.run.pair_sets import open_pairs
from cdslm_eval.testing.clips import spoken

RATE_HZ = 8000


def coloured(rng, pole, seconds=1.0):
    """Return Gaussian noise that a filter with one pole made."""
    samples, noise = np.zeros(round(seconds * RATE_HZ)), rng.standard_normal(round(seconds * RATE_HZ))
    for at in range(1, len(samples)):
        samples[at] = pole * samples[at - 1] + 0.05 * noise[at]
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Return a folder of pairs: noise that goes on, and noise whose spectrum changes after half a second."""
    folder, rng, half = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0), RATE_HZ // 2
    rows = [("better", "worse", "family", "kind", "prefix_seconds")]
    for number in range(6):
        same, other = coloured(rng, 0.9), coloured(rng, 0.5)
        worse = np.concatenate([same[:half], other[half:]])
        if number == 5:
            same = same[: half - 10]  # nothing follows its context
        for name, samples in (("better", same), ("worse", worse)):
            write_flac(folder / f"{name}{number}.flac", samples, RATE_HZ)
        kind = "even" if number % 2 == 0 else "odd"
        rows.append((f"better{number}.flac", f"worse{number}.flac", f"f{number}", kind, "0.5"))
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


class Counting(StationaryGenerator):
    """Counts what it scores, and may stop."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.scored, self.stop_at = 0, stop_at

    def scores(self, clips, *, context_s=0.0, seed=0):
        for score in super().scores(clips, context_s=context_s, seed=seed):
            if self.scored == self.stop_at:
                raise KeyboardInterrupt
            self.scored += 1
            yield score


def test_accuracies_by_kind_with_failures_named(pairs, tmp_path):
    result = preference("stationary:1", pairs, store=tmp_path / "s.cdslm")
    assert [(entry.kind, entry.accuracy.n_scored, entry.accuracy.n_failed) for entry in result.accuracies] == [
        ("all", 5, 1), ("even", 3, 0), ("odd", 2, 1)
    ]  # fmt: skip
    assert result.accuracy("stationary:1").value == 1.0
    assert result.accuracies[0].score == "nats"
    assert result.accuracies[0].margin > 1
    (failure,) = result.failures
    assert "no sample after its context of 0.5 s" in failure.reason
    written = result.as_json()
    assert written["accuracies"][0]["value"] == 1.0
    assert "better5.flac" in written["failures"][0]["better"]
    lines = list(result.lines())
    assert lines[0].split()[:4] == ["system", "kind", "score", "accuracy"]
    assert any("not compared" in line for line in lines)


def test_an_interrupted_run_resumes_and_no_clip_is_scored_twice(pairs, tmp_path):
    sources = open_pairs(pairs)
    with Store(tmp_path / "s.cdslm") as store:
        with pytest.raises(KeyboardInterrupt):
            score_pairs(Counting(stop_at=4), sources, store)
        rest = Counting()
        scored = score_pairs(rest, [*sources, *sources], store)
        assert rest.scored == 11 - 4
        again = Counting()
        assert score_pairs(again, sources, store) == scored[: len(sources)]
        assert again.scored == 0
        # another context is another score
        score_pairs(other := Counting(), [pair._replace(context_s=0.4) for pair in sources[:1]], store)
        assert other.scored == 2
        assert store.query("SELECT count(*) FROM rows WHERE status = 'ok'") == [(13,)]


def test_levels_of_noise_have_accuracies_of_their_own(pairs, tmp_path):
    with Store(tmp_path / "s.cdslm") as store:
        scored = [entry for entry in score_pairs(StationaryGenerator(), open_pairs(pairs), store) if not entry.reason]
    parts = [((1.0, 5.0), (2.0, 2.0)), ((3.0, 3.0), (3.0, 1.0))]
    edges = (-4.0, 0.0, 4.0)
    made = [
        dataclasses.replace(
            entry,
            better=dataclasses.replace(entry.better, levels=better, edges=edges),
            worse=dataclasses.replace(entry.worse, levels=worse, edges=edges),
        )
        for entry, (better, worse) in zip(scored, parts, strict=False)
    ]
    levels = accuracies_of(made, "x", "x@1")[0].levels
    assert [(level.low, level.high, level.accuracy.value) for level in levels] == [(-4, 0, 0.25), (0, 4, 1.0)]


def test_pairs_of_real_clips_are_written_and_read_back(tmp_path):
    clips = ClipSet.from_clips(
        [
            dataclasses.replace(clip, key=f"{clip.key} {speaker}", speaker=speaker)
            for clip in spoken()[:3]
            for speaker in "ab"
        ]
    )
    manifest = make_pairs(clips, tmp_path / "out", kinds=("speaker", "reversed"), context_s=0.2, seed=3)
    read = open_pairs(manifest)
    assert {pair.kind for pair in read} == {"speaker-switched", "reversed"}
    assert {pair.family for pair in read} == {"a", "b"}
    assert {pair.context_s for pair in read} == {0.2}
    again = make_pairs(clips, tmp_path / "again", kinds=("speaker", "reversed"), context_s=0.2, seed=3)
    assert again.read_text() == manifest.read_text()
    with pytest.raises(UsageError, match="holds pairs already"):
        make_pairs(clips, tmp_path / "out")
    with pytest.raises(UsageError, match="no kind 'backwards' of pairs"):
        make_pairs(clips, tmp_path / "new", kinds=("backwards",))
    with pytest.raises(UsageError, match="no pair can be made; clips of at least 60 s"):
        make_pairs(clips, tmp_path / "new", context_s=30.0)


def test_a_generator_that_scores_nothing_is_refused(pairs, tmp_path):
    with pytest.raises(UsageError, match=r"noise scores no speech. Generators that do: .*stationary"):
        preference("noise", pairs, store=tmp_path / "s.cdslm")
    with pytest.raises(EvalError, match=r"no pair could be scored: .*stationary needs a context"):
        preference("stationary:200", [open_pairs(pairs)[0]._replace(context_s=0.1)], store=tmp_path / "s.cdslm")


def test_stationary_scores_are_the_density_of_a_gaussian_process():
    rng = np.random.default_rng(1)
    samples = coloured(rng, 0.9, 4.0)
    weights, power = fitted_filter(samples.astype(float), 1)
    assert weights[0] == pytest.approx(0.9, abs=0.02)
    assert power == pytest.approx(0.05**2, rel=0.05)
    clip = Clip(key="c", samples=samples, rate_hz=RATE_HZ)
    (score,) = StationaryGenerator(StationaryGenerator.Options(order=1)).scores([clip], context_s=2.0)
    past, rest = samples[: 2 * RATE_HZ].astype(float), samples[2 * RATE_HZ :].astype(float)
    weights, power = fitted_filter(past, 1)
    # the same by the covariance matrix of the process, of its first samples
    first = rest[:40]
    lags = power / (1 - weights[0] ** 2) * weights[0] ** np.abs(np.subtract.outer(range(41), range(41)))
    whole = np.concatenate([past[-1:], first])
    _, logdet = np.linalg.slogdet(2 * np.pi * lags)
    joint = -0.5 * (logdet + whole @ np.linalg.solve(lags, whole))
    before = -0.5 * (np.log(2 * np.pi * lags[0, 0]) + whole[0] ** 2 / lags[0, 0])
    short = dataclasses.replace(clip, samples=samples[: 2 * RATE_HZ + 40])
    (own,) = StationaryGenerator(StationaryGenerator.Options(order=1)).scores([short], context_s=2.0)
    assert own.total == pytest.approx(joint - before, rel=1e-6)
    assert (score.frames, score.kind, score.std_error) == (2 * RATE_HZ, "nats", 0.0)
