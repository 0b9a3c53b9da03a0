"""Groups of runs: the compute multiplier against a known truth, joint fits, columns that are named and not pooled."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pytest

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling import Law, LawSpec, Plan, bootstrap, fit_families, fit_isoflops, fit_law, simulate
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.multiplier import Multiplier
from cdslm_eval.scaling.table import RunTable

ALPHA, BETA = 0.35, 0.37
PLAN = Plan((1e18, 1e19, 1e20), 7)
SPEC = LawSpec(delta=0.004)


def law(a=1.0, b=1.0, E=1.8):
    return Law.of("chinchilla", E=E, A=480.0 * a, B=2100.0 * b, alpha=ALPHA, beta=BETA)


def table(*laws, noise=0.003, seed=0):
    rows = []
    for number, truth in enumerate(laws):
        drawn = simulate(truth, PLAN, noise, seed + number)
        rows += [{**row, "model": f"m{number}"} for row in drawn.to_records()]
    return RunTable.from_records(rows)


def test_the_multiplier_holds_the_truth():
    # half the gain in A, half in B: the budgets that reach one loss differ by (a^(1/alpha)) (b^(1/beta))
    a, b = math.sqrt(0.7) ** ALPHA, math.sqrt(0.7) ** BETA
    covered, refused = 0, 0
    for seed in range(0, 12, 2):
        families = fit_families(table(law(), law(a, b), seed=seed), "loss", "model", SPEC, Resampling(replicates=40))
        (multiplier,) = families.multipliers
        low, high = multiplier.interval
        covered += low <= 0.7 <= high
        refused += families.joint[0].p < 0.01
        assert multiplier.value == pytest.approx(0.7, rel=0.12)
    assert covered >= 4
    assert refused == 6


def test_without_noise_every_joint_fit_gives_the_closed_form():
    families = fit_families(
        table(law(), law(0.9, 0.8), noise=1e-7), "loss", "model", resampling=Resampling(replicates=0)
    )
    truth = 0.9 ** (1 / ALPHA) * 0.8 ** (1 / BETA)
    assert families.multipliers[0].value == pytest.approx(truth, rel=1e-3)
    shared = {fit.shared: fit for fit in families.joint}
    assert families.chosen is shared["E and exponents"]
    # one law per group is what the groups give by themselves
    for member in families.members:
        alone = shared["nothing"].laws[member.name].parameters
        assert alone["alpha"] == pytest.approx(member.fit.parameters["alpha"], rel=1e-3)


def test_another_floor_makes_the_multiplier_depend_on_the_budget():
    families = fit_families(table(law(), law(E=1.9), noise=1e-6), "loss", "model", resampling=Resampling(replicates=0))
    assert families.chosen.shared == "exponents"
    least, most = families.multipliers[0].ends
    # more compute is needed the nearer the loss comes to the higher floor
    assert 1 < least < most
    target = law().optimum(1e18).loss
    assert least == pytest.approx(law(E=1.9).reach(float(target)) / 1e18, rel=1e-2)


def test_equal_groups_are_not_told_apart():
    families = fit_families(table(law(), law()), "loss", "model", SPEC, Resampling(replicates=100))
    assert families.chosen.shared == "all"
    low, high = families.multipliers[0].interval
    assert low < 1 < high
    assert "no difference is established" in families.headline


@pytest.mark.parametrize("link", ["least_squares", "lad"])
def test_every_estimator_fits_jointly(link):
    families = fit_families(table(law(), law(0.9)), "loss", "model", LawSpec(estimator=link), Resampling(replicates=20))
    assert families.multipliers[0].value == pytest.approx(0.9 ** (1 / ALPHA), rel=0.1)


def test_a_group_of_too_few_rows_is_named():
    rows = table(law(), law(0.9)).to_records()[:23]
    families = fit_families(RunTable.from_records(rows), "loss", "model", resampling=Resampling(replicates=0))
    assert "'m1' has 2 usable train rows" in families.headline
    assert families.members[1].fit is None


def test_intervals_of_few_rows_a_group_are_withheld():
    rows = table(law(), law()).to_records()
    few = RunTable.from_records([*rows[:21], *rows[21::4]])
    families = fit_families(few, "loss", "model", SPEC, Resampling(replicates=20))
    reason = "group 'm1' has 6 rows, and what groups share is decided from 10 rows a group on"
    assert "NOT TO BE TRUSTED: " + reason in families.headline
    assert "refused" not in families.headline
    (multiplier,) = families.multipliers
    assert math.isnan(multiplier.interval[0])
    assert multiplier.unknown == reason
    assert "no difference" not in multiplier.sentence
    assert all(math.isnan(fit.p) and not fit.draws for fit in families.joint)
    # ten are enough, and the law of fewer parameters needs fewer
    enough = RunTable.from_records([*rows[:21], *rows[21::2]])
    assert not math.isnan(fit_families(enough, "loss", "model", SPEC, Resampling(replicates=20)).joint[0].p)
    power = fit_families(few, "loss", "model", LawSpec(form="power"), Resampling(replicates=20))
    assert not power.joint[0].unknown


def test_rows_without_a_group_leave_the_others_and_are_named():
    from cdslm_eval.cli.fit_text import families_text
    from cdslm_eval.scaling.output.families import families_document

    rows = table(law(), law(0.9)).to_records()
    rows[3]["N"], rows[5]["loss"], rows[7]["model"] = "oops", "", ""
    rows = [{**row, "N convention": "all of them"} for row in rows]
    runs = RunTable.from_records(rows)
    families = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0))
    assert [member.name for member in families.members] == ["m0", "m1"]
    assert families.chosen is not None
    text = families_text(families)
    for line in (
        "Data: memory, 40 rows; C = 6 N D holds",
        "Not used: line 4: N: 'oops' is not a count",
        "Not used: line 6: loss is missing.",
        "Not used: line 8: model is empty, so that the row is of no group.",
        "Convention: N convention: all of them.",
    ):
        assert line in text
    excluded = families_document(families, runs, {})["settings"]["excluded"]
    assert sorted(row["line"] for row in excluded) == [4, 6, 8]
    nameless = RunTable.from_records([*({**row, "model": ""} for row in rows[:3]), rows[30]]).only("model!=m1")
    with pytest.raises(UsageError, match="no row has a value of 'model'"):
        fit_families(nameless, "loss", "model")


def test_a_caption_describes_the_panels_that_are_drawn():
    from cdslm_eval.scaling.output.figures.families import caption

    runs = table(law(), law(0.9))
    all_panels = caption(fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0), against="m1"))
    assert "for what m1 reaches with C" in all_panels
    assert all_panels.count(";") == 3
    budgets = caption(fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0), law=False))
    assert "size of each group's budgets" in budgets
    assert "optimum of each group's law" not in budgets
    assert "reaches with C" not in budgets


def test_wrong_groups_are_refused():
    runs = table(law(), law())
    with pytest.raises(UnknownNameError, match="Did you mean 'model'"):
        fit_families(runs, "loss", "modle")
    with pytest.raises(UnknownNameError, match="m2"):
        fit_families(runs, "loss", "model", against="m2")
    with pytest.raises(UsageError, match="two groups"):
        fit_families(runs.only("model=m0"), "loss", "model")


def families_of(flags):
    return [flag for flag in flags if flag.name == "families"]


def test_pooled_groups_are_named_and_equal_ones_are_not():
    apart = table(law(), law(0.85, 0.85))
    (flag,) = families_of(fit_law(apart, "loss").flags)
    assert flag.doubt
    assert "'model' (m0, m1)" in flag.sentence
    assert "--group model" in flag.sentence
    (flag,) = families_of(fit_isoflops(apart, "loss").flags)
    assert flag.doubt
    assert fit_isoflops(apart, "loss").headline.startswith("POOLED")
    # one truth, with sizes of its own in each group: nothing to name
    rows = []
    for number, row in enumerate(table(law(), law()).to_records()):
        N = row["N"] * (1.3 if row["model"] == "m1" else 1)
        loss = float(law().predict(N, row["C"] / 6 / N)) * (1 + 0.003 * math.sin(7919.0 * number))
        rows.append({"N": N, "C": row["C"], "model": row["model"], "loss": loss})
    assert not families_of(fit_law(RunTable.from_records(rows), "loss").flags)


def test_names_of_sizes_are_no_groups():
    rows = [{**row, "size": f"{row['N']:.0f}"} for row in simulate(law(), PLAN, 0.003).to_records() for _ in range(3)]
    assert not families_of(fit_law(RunTable.from_records(rows), "loss").flags)


def test_porian_configurations_are_named(shared_data):
    runs = RunTable.read(shared_data / "scaling" / "porian" / "isoflop_points.csv")
    names = " ".join(flag.sentence for flag in families_of(fit_isoflops(runs, "loss").flags))
    assert "'hparams' (base, tuned)" in names
    each = fit_families(runs, "loss", "hparams,decay", resampling=Resampling(replicates=0), law=False)
    assert [member.name for member in each.members] == ["base/chinchilla", "tuned/const"]
    # published exponents of N*, from their own interpolation
    for member, published in zip(each.members, (0.571495, 0.496895), strict=True):
        assert member.isoflops.N_law.exponent == pytest.approx(published, abs=0.04)


def test_whole_values_of_a_column_are_drawn_together():
    runs = table(law(), law(), law(), law())
    fit = fit_law(runs, "loss")
    by_model = bootstrap(fit, "model", 50)
    assert by_model.units == 4
    np.testing.assert_array_equal(bootstrap(fit, "model", 50).parameters["E"], by_model.parameters["E"])
    with pytest.raises(UnknownNameError, match="resampling"):
        bootstrap(fit, "modle", 50)


def test_the_command_line_prints_groups(tmp_path, monkeypatch, capsys):
    from cdslm_eval.cli import main

    monkeypatch.chdir(tmp_path)
    rows = table(law(), law(0.9)).to_records()
    with (tmp_path / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    command = ["cdslm-eval", "fit", "runs.csv", "--group", "model", "--replicates", "40", "--json", "groups.json"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    out = capsys.readouterr().out
    assert "m1 needs 0.7" in out
    document = json.loads((tmp_path / "groups.json").read_text())
    assert document["multipliers"][0]["value"] == pytest.approx(0.9 ** (1 / ALPHA), rel=0.1)
    assert [group["rows"] for group in document["groups"]] == [21, 21]


def test_a_multiplier_is_stated_at_values_of_the_metric_where_floors_differ():
    other = law(0.9, 0.9, E=1.85)
    runs = table(law(), other, noise=0.002)
    values = [2.9, 2.6]
    families = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=60), at=values)
    (multiplier,) = families.multipliers
    assert multiplier.depends
    assert "has the least AICc" in families.why
    assert "depends on the value of the metric" in families.why
    assert [at.metric for at in multiplier.at] == values
    for at in multiplier.at:
        truth = other.reach(at.metric) / law().reach(at.metric)
        assert at.value == pytest.approx(truth, rel=0.06)
        assert at.interval[0] < at.value < at.interval[1]
        assert at.value == pytest.approx(at.needed / at.C)
    # a value below the other's floor is in nobody's reach
    beyond = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0), at=[1.5]).multipliers[0].at[0]
    assert math.isnan(beyond.value)
    assert math.isinf(beyond.C)


def test_a_multiplier_of_shared_floors_and_exponents_is_one_number():
    runs = table(law(), law(0.9, 0.9), noise=0.002)
    families = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0))
    (multiplier,) = families.multipliers
    assert not multiplier.depends
    assert "same at every value" in families.why
    assert [at.value for at in multiplier.at] == pytest.approx([multiplier.value] * 3)


def test_a_difference_is_named_where_it_is_established():
    # of equal loss at 1e19, with another floor: less compute before, more beyond
    level = float(law().optimum(1e19).loss)
    share = (level - 1.9) / (level - 1.8)
    runs = table(law(), law(share, share, E=1.9), noise=0.002)
    families = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=60), at=[3.1, level, 2.7])
    (multiplier,) = families.multipliers
    assert [at.side for at in multiplier.at] == [-1, 0, 1]
    sentence = "no difference is established at this C; its interval is below 1 at loss = 3.1 and above 1 at loss = 2.7"
    assert sentence in multiplier.sentence
    assert sentence in families.headline


def test_a_multiplier_beyond_the_budgets_is_marked():
    def rows(budgets, name, seed):
        return [{**row, "model": name} for row in simulate(law(), Plan(budgets, 7), 0.003, seed).to_records()]

    low, high = (1e16, 1e17, 1e18), (1e20, 1e21, 1e22)
    apart = RunTable.from_records([*rows(high, "a", 0), *rows(low, "b", 1)])
    (multiplier,) = fit_families(apart, "loss", "model", SPEC, Resampling(replicates=0)).multipliers
    assert "their budgets do not overlap" in multiplier.sentence
    factor = multiplier.value * multiplier.C / 1e18
    assert f"is {factor:.3g} times above the largest of its budgets" in multiplier.sentence
    assert all("times above the largest" in at.beyond for at in multiplier.at)
    # the values that are taken by default lie within the budgets of both, those that are named need not
    same = table(law(), law(0.8, 0.8))
    (within,) = fit_families(same, "loss", "model", SPEC, Resampling(replicates=0)).multipliers
    assert len(within.at) == 3
    assert not within.beyond
    assert not any(at.beyond for at in within.at)
    value = float(law().optimum(1e21).loss)
    (beyond,) = fit_families(same, "loss", "model", SPEC, Resampling(replicates=0), at=[value]).multipliers
    assert re.search(r"C = (9\.\d+e\+20|1\.\d+e\+21) of m0 is (9\.|1\d\.)\d* times above", beyond.at[0].beyond)


def test_intervals_hold_the_multiplier_of_simulated_families():
    from benchmarks.multiplier import TRUTHS, tally

    done = tally(TRUTHS["E differs as well"], tables=6, replicates=40)
    # 24 intervals of which .95 hold the truth: fewer than 18 by chance in 1 of 1e4
    assert done.covered.sum() >= 18
    assert done.covered.min() >= 3


def test_groups_have_one_page_with_one_figure(tmp_path):
    from cdslm_eval.report.families import write_families_report
    from cdslm_eval.scaling.output.families import families_document

    rows = [
        {**row, "model": "<b>x</b>" if row["model"] == "m1" else "m0"} for row in table(law(), law(0.9)).to_records()
    ]
    runs = RunTable.from_records(rows)
    families = fit_families(runs, "loss", "model", SPEC, Resampling(replicates=0), at=[2.9])
    document = families_document(families, runs, {})
    page = write_families_report(families, document, tmp_path, [("<b>x</b>", "group-2/index.html")]).read_text()
    assert 'href="group-2/index.html"' in page
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x" in page
    assert page.count("<svg") == 1
    # inks of the groups follow the page, so that they stay apart in dark
    assert {"var(--blue)", "var(--orange)"} <= set(re.findall(r"var\(--\w+\)", page))
    assert json.loads((tmp_path / "fit.json").read_text())["multipliers"][0]["at"][0]["metric"] == 2.9
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "families.pdf", "families.png", "families.svg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--compare-at", "2.9"], "--group COLUMN"), (["--group", "model", "--compare-at", "low"], "--compare-at 'low'")],
)
def test_wrong_values_to_compare_at_are_refused(tmp_path, monkeypatch, capsys, words, message):
    from cdslm_eval.cli import main

    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss,model\n1e8,1e9,3.1,a\n1e8,2e9,3.0,b\n")
    monkeypatch.setattr("sys.argv", ["cdslm-eval", "fit", str(path), *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_group_whose_law_misfits_makes_the_comparison_untrusted():
    records = table(law(), law(0.9), noise=0.002).to_records()
    for record in records:
        if record["model"] == "m1":
            record["loss"] *= 1 + 0.1 * math.sin(1.5 * math.log(record["N"]))
    families = fit_families(RunTable.from_records(records), "loss", "model", SPEC, Resampling(replicates=0))
    (doubt,) = families.doubts
    assert doubt.startswith("of m1, the residuals follow ln C")
    assert families.headline.startswith(f"NOT TO BE TRUSTED: {doubt}. 2 groups of 'model'")
    assert not fit_families(table(law(), law(0.9)), "loss", "model", SPEC, Resampling(replicates=0)).doubts


def test_an_end_that_is_never_reached_is_named():
    multiplier = Multiplier("b", "a", 1e19, 2.0, (1.5, 3.0), (0.6, math.inf), depends=True)
    assert "(0.6 at a's least budget, unreached at its largest)" in multiplier.sentence
