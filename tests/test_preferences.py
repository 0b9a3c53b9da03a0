"""Pairs made from real clips, scored into a store, resumed, and distinguished by a control with a known answer."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import shutil
import sys

import numpy as np
import pytest
import soundfile

from cdslm_eval import ClipSet, EvalError, UsageError
from cdslm_eval.builtin.generators.stationary import StationaryGenerator, fitted_filter
from cdslm_eval.cli import main
from cdslm_eval.core.audio import Clip, write_flac
from cdslm_eval.core.sources import Source
from cdslm_eval.core.spans import Span
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.scorer import Score
from cdslm_eval.preferences import make_pairs, preference
from cdslm_eval.results.preference_result import Comparison
from cdslm_eval.run.pair_scores import accuracies_of, score_pairs
from cdslm_eval.run.pair_sets import PairSource, open_pairs
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


def test_the_command_counts_pairs(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["cdslm-eval", "preference", "stationary:1", "-p", str(pairs), "--store", "s.cdslm"]
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().err
    assert "stationary:1: 6/6 pairs, " in printed
    assert "clips" not in printed


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


def test_a_path_may_hold_several_clips(tmp_path):
    rng = np.random.default_rng(3)
    same, other = coloured(rng, 0.9), coloured(rng, 0.5)
    worse = np.concatenate([same[: RATE_HZ // 2], other[RATE_HZ // 2 :]])
    path = str(tmp_path / "both.flac")
    write_flac(tmp_path / "both.flac", np.concatenate([same, worse]), RATE_HZ)
    pair = PairSource(Source("a", path, Span(0.0, 1.0)), Source("b", path, Span(1.0, 2.0)), "f", "made", 0.5)
    result = preference("stationary:1", [pair], store=tmp_path / "s.cdslm")
    # of a clip and itself it would be a tie
    assert result.accuracy("stationary:1", "made").value == 1.0


class Shorter(StationaryGenerator):
    """Finds each second of any clip equally likely."""

    name = "shorter"

    def scores(self, clips, *, context_s=0.0, seed=0):
        for clip in clips:
            yield Score(total=-2 * clip.seconds, per_second=-2.0, frames=1, std_error=0.0, kind="nats")


def test_clips_of_different_lengths_are_compared_as_is_stated(pairs, tmp_path):
    store, samples = tmp_path / "s.cdslm", coloured(np.random.default_rng(4), 0.9)
    for name, length in (("0_x", RATE_HZ), ("1_x", RATE_HZ // 2)):
        soundfile.write(tmp_path / f"{name}.wav", samples[:length], RATE_HZ)
    manifest = tmp_path / "pairs.csv"
    manifest.write_text("better,worse\n0_x.wav,1_x.wav\n")
    with pytest.raises(UsageError, match=r"0_x.wav has 1 s to score, and .*1_x.wav 0.5 s.* Use: --per-second"):
        preference(Shorter(), manifest, store=store)
    per_second, totals = (preference(Shorter(), manifest, per_second=way, store=store) for way in (True, False))
    assert per_second.comparison == Comparison(True, "option", 1)
    assert totals.comparison == Comparison(False, "option", 1)
    assert (per_second.accuracies[0].accuracy.value, totals.accuracies[0].accuracy.value) == (0.5, 0.0)
    # released sets are compared as their authors do
    manifest.unlink()
    story = preference(Shorter(), tmp_path, store=store)
    assert story.comparison == Comparison(True, "layout", 1)
    assert story.accuracies[0].accuracy.value == 0.5
    assert preference("stationary:1", pairs, store=store).comparison == Comparison(False, "length", 0)


class Mixed(StationaryGenerator):
    """Has gains of long clips and bounds of others, and may fail."""

    name = "mixed"
    fault: Exception | None = None

    def scores(self, clips, *, context_s=0.0, seed=0):
        if self.fault is not None:
            raise self.fault
        for score in super().scores(clips, context_s=context_s, seed=seed):
            yield dataclasses.replace(score, kind="gain" if context_s == 0.5 else "bound")

    @contextlib.contextmanager
    def open(self, device):
        if isinstance(self.fault, OSError):
            raise self.fault
        yield


def test_scores_of_different_kinds_make_accuracies_of_their_own(pairs, tmp_path):
    sources = [pair._replace(context_s=0.4) if pair.kind == "odd" else pair for pair in open_pairs(pairs)]
    result = preference(Mixed(), sources, per_second=False, store=tmp_path / "s.cdslm")
    assert [(entry.kind, entry.score, entry.accuracy.n_scored) for entry in result.accuracies] == [
        ("all", "gain", 3), ("all", "bound", 3), ("even", "gain", 3), ("odd", "bound", 3)
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"mixed, all: has scores of several kinds; name one as score: gain, bound"):
        result.accuracy("mixed")
    assert result.accuracy("mixed", score="bound").n_scored == 3


@pytest.mark.parametrize("fault", [OSError("no such device"), ZeroDivisionError("a bug")], ids=str)
def test_a_model_that_fails_costs_the_others_nothing(pairs, tmp_path, fault):
    bad = Mixed()
    bad.fault = fault
    result = preference([bad, "stationary:1"], pairs, store=tmp_path / "s.cdslm")
    assert result.accuracy("stationary:1").value == 1.0
    assert np.isnan(result.accuracy("mixed").value)
    assert len([failure for failure in result.failures if str(fault) in failure.reason]) == 6
    with pytest.raises(EvalError, match=f"no pair could be scored: .*{fault}"):
        preference(bad, pairs, store=tmp_path / "s.cdslm")


def test_a_result_has_the_identity_of_models_and_pairs(pairs, tmp_path):
    store = tmp_path / "s.cdslm"
    one, other = (preference(f"stationary:{order}", pairs, store=store).as_json() for order in (1, 2))
    (model,) = one["models"].values()
    assert model["options"] == {"order": 1}
    assert model["identity"].startswith("stationary@")
    assert one["accuracies"][0]["identity"] == model["identity"] != other["accuracies"][0]["identity"]
    assert one["pairs_digest"] == other["pairs_digest"]
    # another clip under the same name is another set
    copy = tmp_path / "copy"
    shutil.copytree(pairs, copy)
    assert preference("stationary:1", copy, store=store).pairs_digest == one["pairs_digest"]
    write_flac(copy / "better0.flac", coloured(np.random.default_rng(9), 0.9), RATE_HZ)
    assert preference("stationary:1", copy, store=store).pairs_digest != one["pairs_digest"]


def test_what_makes_no_pair_is_named_and_nothing_old_stays(tmp_path):
    real, notes = tmp_path / "real", []
    real.mkdir()
    for number, clip in enumerate(spoken()):
        write_flac(real / f"{number}.flac", clip.samples, clip.rate_hz)
    (real / "broken.flac").write_bytes(b"fLaC, and nothing after it")
    write_flac(real / "short.flac", spoken()[0].samples[:800], spoken()[0].rate_hz)
    out = tmp_path / "out"
    make_pairs(real, out, kinds=("reversed",), context_s=0.2, note=notes.append)
    assert "clips without a pair: 1 (under 0.4 s)" in notes
    assert any(note.startswith("clips without a pair: 1 (cannot be read: ") and "broken.flac" in note for note in notes)
    (out / "pairs.csv").unlink()  # as a call that is interrupted leaves it
    with pytest.raises(UsageError, match="not empty; remove what an interrupted call left"):
        make_pairs(real, out, kinds=("shuffled",), context_s=0.2)


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
