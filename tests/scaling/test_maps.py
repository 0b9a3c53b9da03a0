"""Maps from loss to metric: published predictions, known truths, rows of each stage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap_staged, compare_downstream, fit_law, simulate
from cdslm_eval.scaling.axis import make_axis
from cdslm_eval.scaling.bootstrap import bootstrap
from cdslm_eval.scaling.dependence import checkpoint_flags, dependence, find_runs, runs_of
from cdslm_eval.scaling.map_fit import MapScore, _chosen, _compared, fit_map
from cdslm_eval.scaling.study import Settings, Study
from cdslm_eval.scaling.table import RunTable

LAW = Law.of("chinchilla", E=1.8, A=400.0, B=3000.0, alpha=0.32, beta=0.40)
PLAN = Plan(tuple(np.geomspace(1e18, 1e21, 8)), sizes=5, width=16)
FIVE = ("rpj-d=96_l=8_h=4-1.0", "rpj-d=96_l=8_h=4-16.0", "rpj-d=512_l=8_h=4-1.0", "rpj-d=576_l=24_h=8-1.0",
        "rpj-d=1024_l=24_h=8-1.0")  # fmt: skip


def test_published_errors_are_predicted_through_the_loss(shared_data):
    table = RunTable.read(shared_data / "scaling/gadre/rpj.csv")
    names = table.labels["name"]

    def rules(chosen):
        return [f"line={line}" for line in table.line[np.isin(names, chosen)]]

    # Gadre et al., arXiv 2403.08540: relative errors .0464 % (6.9B) and 3.6365 % (1.4B, 32 times overtrained)
    result = compare_downstream(
        table, "err_avg_subset", "loss_c4_val", LawSpec(form="shared", estimator="least_squares"),
        loss_link="identity", loss_rows=rules(FIVE), metric_rows=rules([*FIVE, "rpj-open_lm_1b-1.0"]), folds=0,
    )  # fmt: skip
    assert len(result.loss_fit.table) == 5
    assert result.two_stage.map.name == "exponential"
    error = (
        result.predict("two_stage", result.held_out.N, result.held_out.D) / result.held_out.metric("err_avg_subset") - 1
    )
    assert 100 * error == pytest.approx([0.0464, 3.6365], abs=0.002)
    assert "two_stage (exponential map)" in result.headline


# relative errors of the chained 13B accuracy in per cent, as allenai/OLMo-ladder has them
PUBLISHED = {"mmlu": 0.7, "hellaswag": 2.5, "arc_challenge": 17.5, "arc_easy": 11.4}


def olmo_rows(shared_data, task):
    """Return finals and checkpoints of the published ladder as one table, as its users have them: without runs."""
    folder = shared_data / "scaling/olmo"
    finals = [
        {"N": row["n"], "D": row["tokens"], "split": row["split"], "kind": "final", "bpb": row[f"{task}_bpb"],
         "acc": row[f"{task}_acc"]}
        for row in _rows(folder / "final.csv")
    ]  # fmt: skip
    checkpoints = [
        {"N": row["n"], "D": row["tokens"], "split": "train", "kind": "checkpoint", "bpb": row["bpb"],
         "acc": row["acc"]}
        for row in _rows(folder / "checkpoints.csv")
        if row["task"] == task and row["split"] == "train"
    ]  # fmt: skip
    return RunTable.from_records(finals + checkpoints)


def chained_error(shared_data, task, names=()):
    """Fit the law to finals, the map to checkpoints; return the largest model's error in per cent, and the map."""
    table = olmo_rows(shared_data, task)
    finals, checkpoints = table.only("kind=final"), table.only("kind=checkpoint")
    law = fit_law(finals, "bpb").law
    axis = make_axis("logit", checkpoints.metric("acc"), "higher", (0, 1))
    rows = checkpoints.metric("bpb"), checkpoints.metric("acc"), checkpoints.weight
    mapped = fit_map(*rows, axis, names, runs_of(checkpoints))
    last = int(np.argmax(finals.N))
    predicted = mapped.value(law.predict(finals.N[last], finals.D[last]))
    return 100 * abs(float(predicted / finals.metric("acc")[last] - 1)), mapped


@pytest.mark.parametrize("task", PUBLISHED)
def test_checkpoints_for_the_map_and_finals_for_the_law(shared_data, task):
    error, mapped = chained_error(shared_data, task)
    assert mapped.name == "bounded-sigmoid"
    assert error == pytest.approx(PUBLISHED[task], abs=1.0)
    # 16 runs of 33 to 146 checkpoints, of which each is worth few independent rows
    assert 16 < mapped.effective < 100
    assert "1401 rows are of 16 runs" in mapped.flags[0].sentence


def test_a_perfect_model_as_one_more_row_gives_the_published_prediction(shared_data):
    error, _ = chained_error(shared_data, "mmlu", ["ideal-sigmoid"])
    assert error == pytest.approx(PUBLISHED["mmlu"], abs=0.1)


def test_stages_have_rows_of_their_own_by_rules(shared_data):
    table = olmo_rows(shared_data, "arc_easy")
    # every run thinned to eight rows, which are no longer taken for checkpoints
    thin = table.select(np.concatenate([np.arange(18), np.arange(18, len(table), 15)]))
    result = compare_downstream(
        thin, "acc", "bpb", LawSpec(better="higher", bounds=(0, 1)),
        loss_rows=["kind=final"], metric_rows=["kind=checkpoint"], folds=0,
    )  # fmt: skip
    assert len(result.loss_fit.table) == 16
    assert len(result.two_stage.rows.metric) == len(thin) - 18
    assert "gradient" not in {flag.name for flag in result.fused.flags}


def test_rows_of_one_run_count_by_what_they_add():
    rng = np.random.default_rng(0)
    loss = np.concatenate([np.linspace(3.4 - 0.05 * run, 2.9 - 0.05 * run, 12 * (1 + run % 4)) for run in range(16)])
    run = np.repeat(np.arange(16), [12 * (1 + run % 4) for run in range(16)])
    alone, offset = 0.01 * rng.standard_normal(len(loss)), 0.02 * rng.standard_normal(16)
    values = 0.1 + 0.2 * (loss - 1.8)
    axis = make_axis("identity", values)
    ones = np.ones(len(loss))
    shared = fit_map(loss, values + alone + offset[run], ones, axis, ["line"], run)
    # the truth is .8, and each run is worth little more than one row
    assert 16 < shared.effective < 24
    assert shared.share.mean() == pytest.approx(1)
    assert fit_map(loss, values + alone, ones, axis, ["line"], run).effective > 0.7 * len(loss)
    assert fit_map(loss, values + alone + offset[run], ones, axis, ["line"]).effective == len(loss)


def test_checkpoints_are_of_one_run_and_sizes_are_not():
    def rows(N, count, first, **more):
        return [{"N": N, "D": first * (1 + k), "loss": 3.0, **more} for k in range(count)]

    table = RunTable.from_records([*rows(1e8, 12, 1e9), *rows(1e8, 11, 1e9), *rows(2e8, 4, 1e9), *rows(4e8, 10, 1e9)])
    counts = np.bincount(runs_of(table))
    # two runs of one size follow each other: D falls between them; four tokens of one size are four runs
    assert sorted(counts.tolist()) == [1, 1, 1, 1, 10, 11, 12]
    apart = RunTable.from_records([*rows(1e8, 6, 1e9, seed="a"), *rows(1e8, 6, 1e10, seed="b")])
    assert np.bincount(runs_of(apart)).tolist() == [1] * 12
    named = RunTable.from_records([{**row, "run": f"r{k % 2}"} for k, row in enumerate(rows(1e8, 8, 1e9))])
    assert np.bincount(runs_of(named)).tolist() == [4, 4]


def test_seeds_of_one_size_and_tokens_are_no_checkpoints():
    def flags(tokens):
        rows = [{"N": 1e8, "D": 1e9 * D, "loss": 3.0, "seed": seed} for seed in range(3) for D in tokens]
        return [flag.value for flag in checkpoint_flags(RunTable.from_records(rows))]

    assert flags(range(1, 5)) == []
    assert flags(range(1, 10)) == [27]


def test_runs_that_are_named_and_resampled_by_row_are_flagged():
    rows = [
        {"run": f"r{run}", "N": 1e8 * 3**run, "D": 1e9 * 2**step, "loss": 2 + 10 / (1 + run + step)}
        for run in range(3)
        for step in range(8)
    ]
    table = RunTable.from_records(rows)
    fit = fit_law(table, "loss", LawSpec(form="power"))
    flags = [
        [flag.name for flag in Study(table=table, metric="loss", settings=Settings(), fit=fit, bootstrap=draws).flags]
        for draws in (None, bootstrap(fit, "row", 2), bootstrap(fit, "run", 2))
    ]
    assert ["resampled_by_row" in names for names in flags] == [False, True, False]


def test_runs_do_not_hang_on_the_order_of_rows():
    rows = [
        {"N": N, "D": 1e9 * (1 + k) + offset, "loss": 3.0, "length": f"x{offset:g}"}
        for N in (1e8, 2e8)
        for offset in (0.0, 7.0)
        for k in range(9)
    ]
    for table in (RunTable.from_records(rows), RunTable.from_records(sorted(rows, key=lambda row: row["D"]))):
        runs = find_runs(table)
        truth = [f"{N:g} {length}" for N, length in zip(table.N, table.labels["length"], strict=True)]
        assert len(set(zip(truth, runs.label.tolist(), strict=True))) == len(set(runs.label.tolist())) == 4
        assert runs.inferred
        assert not runs.flags


def test_runs_that_share_everything_are_named_to_the_reader():
    rows = [{"N": 1e8, "D": 1e9 * (1 + k), "loss": 3.0, "run": f"r{run}"} for run in range(4) for k in range(9)]
    unnamed = [{key: value for key, value in row.items() if key != "run"} for row in rows]
    apart = find_runs(RunTable.from_records(unnamed))
    mixed = find_runs(RunTable.from_records(sorted(unnamed, key=lambda row: row["D"])))
    assert np.bincount(apart.label).tolist() == [9] * 4
    assert np.bincount(mixed.label).tolist() == [36]
    assert "distinguished by the order of rows alone" in apart.flags[0].sentence
    assert "count as one" in mixed.flags[0].sentence
    named = find_runs(RunTable.from_records(rows))
    assert not named.flags
    assert not named.inferred


def test_independent_rows_are_not_taken_for_dependent_ones():
    run, rng = np.repeat(np.arange(16), 8), np.random.default_rng(0)
    alone = [dependence(rng.standard_normal(128), run) for _ in range(1000)]
    # the F test's level is .01: over 20 of 1000 by chance in 1 of 1e3
    assert sum(each.correlation > 0 for each in alone) <= 20
    assert all(each.effective == 128 for each in alone if not each.correlation)
    # offsets as large as the noise, a correlation of .5: 128 rows are worth 16 * 8 / (1 + 7 * .5)
    offsets = [dependence(rng.standard_normal(128) + rng.standard_normal(16)[run], run) for _ in range(100)]
    assert np.median([each.correlation for each in offsets]) == pytest.approx(0.5, abs=0.05)
    assert np.median([each.effective for each in offsets]) == pytest.approx(28.4, rel=0.1)


def test_advice_on_runs_is_for_those_that_have_no_names():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(8), 10)
    loss = np.linspace(3.4, 2.6, 80)
    values = 0.2 * loss + 0.01 * rng.standard_normal(80) + 0.05 * rng.standard_normal(8)[run]
    axis = make_axis("identity", values)
    named = fit_map(loss, values, np.ones(80), axis, ["line"], run).flags[0].sentence
    guessed = fit_map(loss, values, np.ones(80), axis, ["line"], run, inferred=True).flags[0].sentence
    assert "name the runs" not in named
    assert "inferred from N and texts" in guessed
    assert "name the runs in a column run" in guessed


def test_kinds_are_compared_on_the_stretches_that_all_have():
    scores = [
        MapScore("line", 2, -20.0, np.inf),
        MapScore("power", 3, -15.0, np.inf),
        MapScore("sigmoid", 4, np.inf, 0),
    ]
    errors = [np.array([0.1, 0.4, 0.001]), np.array([0.2, 0.2, np.nan]), np.array([0.1, np.nan, np.nan])]
    # the third stretch would let the line win by what the power was not asked
    line, power, sigmoid = _compared(scores, errors)
    assert line.held_out == pytest.approx(0.2)
    assert power.held_out == pytest.approx(0.2)
    # too few rows for its AICc: it neither shortens the comparison nor takes part in it
    assert sigmoid.held_out == np.inf
    able = _compared([*scores[:2], replace(scores[2], aicc=-10.0)], errors)
    assert [score.held_out for score in able] == pytest.approx([0.1, 0.2, 0.1])
    none = _compared(scores[:2], [errors[0], np.full(3, np.nan)])
    assert none[0].held_out == pytest.approx((0.1 * 0.4 * 0.001) ** (1 / 3))
    assert none[1].held_out == np.inf


def test_a_bounded_sigmoid_is_at_its_bound_at_a_loss_of_0():
    loss = np.linspace(0.4, 1.6, 40)
    value = 1 - 0.75 * (1 - np.exp(-3 * loss)) / (1 + np.exp(-3 * (loss - 0.5)))
    axis = make_axis("identity", value, "higher", (0.0, 1.0))
    mapped = fit_map(loss, value, np.ones(40), axis, ["bounded-sigmoid"])
    assert mapped.parameters == pytest.approx({"worst": 0.25, "steepness": 3.0, "midpoint": 0.5}, rel=1e-3)
    assert mapped.value(0.0) == pytest.approx(1.0, abs=1e-9)
    # a loss that may be negative has no such end
    below = fit_map(loss - 1, value, np.ones(40), axis, ["bounded-sigmoid"])
    assert below.value(-1.0) < 0.999
    step, theta = 1e-6, np.array([[-0.9, 0.2, 0.4]])
    slopes = mapped.kind.slopes(theta, loss)
    for k in range(3):
        move = step * np.eye(3)[k]
        difference = (mapped.kind.slopes(theta + move, loss).z - mapped.kind.slopes(theta - move, loss).z) / (2 * step)
        np.testing.assert_allclose(slopes.by_theta[..., k], difference, rtol=1e-5, atol=1e-9)
    difference = (mapped.kind.slopes(theta, loss + step).z - mapped.kind.slopes(theta, loss - step).z) / (2 * step)
    np.testing.assert_allclose(slopes.by_loss, difference, rtol=1e-5)


def test_the_row_of_a_perfect_model_weighs_as_much_as_any_other():
    loss = np.linspace(0.5, 1.5, 30)
    value = 0.25 + 0.5 / (1 + np.exp(6 * (loss - 0.9))) + 0.01 * np.random.default_rng(0).standard_normal(30)
    axis = make_axis("identity", value, "higher", (0.0, 1.0))
    mapped = fit_map(loss, value, np.ones(30), axis, ["ideal-sigmoid"])

    def misses(p):
        fitted = p[0] + (p[1] - p[0]) / (1 + np.exp(-p[2] * (np.append(loss, 0.0) - p[3])))
        return fitted - np.append(value, 1.0)

    bounds = ([0, 0, 0, -2], [1, 1, 60, 3])
    own = least_squares(misses, [0.75, 0.25, 6, 0.9], bounds=bounds, xtol=1e-14, ftol=1e-14)
    # nearly all rows lie within Huber's delta, where its cost is that of least squares
    assert mapped.value(0.3) == pytest.approx(
        own.x[0] + (own.x[1] - own.x[0]) / (1 + np.exp(-own.x[2] * (0.3 - own.x[3]))), abs=0.01
    )
    free = fit_map(loss, value, np.ones(30), axis, ["sigmoid"])
    assert mapped.value(0.0) > free.value(0.0) + 0.02
    assert "ideal-sigmoid" not in {score.name for score in fit_map(loss, value, np.ones(30), axis).scores}
    with pytest.raises(UsageError, match="needs the bounds"):
        fit_map(loss, value, np.ones(30), make_axis("identity", value, "higher"), ["ideal-sigmoid"])


def _rows(path):
    import csv

    with path.open() as file:
        return list(csv.DictReader(file))


TRUTHS = {
    "line": (lambda loss: 0.1 + 0.2 * (loss - 1.8), "lower", None),
    "exponential": (lambda loss: 0.9 - 2.5 * np.exp(-0.8 * loss), "lower", None),
    "sigmoid": (lambda loss: 0.25 + 0.5 / (1 + np.exp(6 * (loss - 2.35))), "higher", None),
    "bounded-sigmoid": (lambda loss: 1 - 0.75 / (1 + np.exp(-5 * (loss - 2.3))), "higher", (0.0, 1.0)),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_a_known_map_extrapolates(name):
    make, better, bounds = TRUTHS[name]
    loss = np.linspace(2.1, 3.4, 50)
    errors = []
    for seed in range(3):
        values = make(loss) + 0.003 * np.random.default_rng(seed).standard_normal(50)
        axis = make_axis("identity", values, better, bounds)
        mapped = fit_map(loss, values, np.ones(50), axis)
        errors.append(float(mapped.value(1.98) - make(1.98)))
        assert not mapped.flags
    assert np.sqrt(np.mean(np.square(errors))) < 0.02


@pytest.mark.parametrize(("aicc", "chosen"), [(-105.0, "line"), (-111.0, "spline")])
def test_a_spline_is_taken_only_where_other_kinds_have_no_support(aicc, chosen):
    scores = [MapScore("line", 2, -100.0, 0.1), MapScore("power", 3, -95.0, 0.11), MapScore("spline", 6, aicc, 0.05)]
    assert scores[_chosen(scores)].name == chosen
    # and never where it predicts worse
    worse = [*scores[:2], replace(scores[2], held_out=0.2)]
    assert worse[_chosen(worse)].name == "line"


def test_a_declared_link_costs_a_straight_metric_nothing():
    table = simulate(LAW, PLAN, 0.003, seed=1)
    pjsd = 0.06 + 0.3 * (table.metric("loss") - 1.8) + 0.001 * np.random.default_rng(0).standard_normal(len(table))
    both = replace(table, metrics={**table.metrics, "pjsd": pjsd})
    result = compare_downstream(both, "pjsd", "loss", LawSpec(bounds=(0, 1)), folds=0)
    assert result.axis.link.name == "logit"
    # a line on the logit scale misses a straight metric; the chosen map must not
    rmse = {score.method: score.rmse_beyond for score in result.scores}
    assert rmse["two_stage"] < 1.1 * rmse["direct"]
    alone = compare_downstream(both, "pjsd", "loss", LawSpec(bounds=(0, 1)), maps=["line"], folds=0)
    forced = next(score.rmse_beyond for score in alone.scores if score.method == "two_stage")
    assert forced > 1.5 * rmse["two_stage"]


def test_each_stage_has_its_rows_and_replicates_draw_from_both():
    table = simulate(LAW, PLAN, 0.003, seed=2)
    score = 0.9 - 2.5 * np.exp(-0.8 * table.metric("loss"))
    score[:20] = np.nan
    loss = table.metric("loss").copy()
    both = replace(table, metrics={"loss": loss, "score": score + 0.001})
    result = compare_downstream(both, "score", "loss", folds=0)
    assert (len(result.fits.two_stage.rows.loss), len(result.fits.two_stage.rows.metric)) == (40, 20)
    for staged in (result.two_stage, result.fused):
        draws = bootstrap_staged(staged, replicates=40)
        assert draws.units == 40
        low, high = draws.interval("alpha")
        assert low < staged.parameters["alpha"] < high
    with pytest.raises(UsageError, match="matches none of 40 rows"):
        compare_downstream(both, "score", "loss", metric_rows=["C<1"])
    with pytest.raises(UnknownNameError, match="Did you mean 'exponential'"):
        compare_downstream(both, "score", "loss", maps=["exponental"])
