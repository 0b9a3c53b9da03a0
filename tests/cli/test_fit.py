"""`cdslm-eval fit` as its users meet it: published numbers, bad tables, files, first lines."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from cdslm_eval.cli import main

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}
LAW = ",".join(f"{name}={value}" for name, value in TRUTH.items())


@pytest.fixture
def fit(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line in an empty folder and gives (stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["cdslm-eval", "fit", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert (left.value.code or 0) == code, captured.err
        return captured.out, captured.err

    return call


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table of runs and returns its name."""

    def write(name, rows):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return name

    return write


def runs(budgets=(1e18, 1e19, 1e20), sizes=(0.25, 0.5, 1.0, 2.0, 4.0), noise=0.003):
    """Return rows of the law TRUTH with a small deterministic disturbance."""
    rows = []
    for C in budgets:
        for size in sizes:
            N = size * 0.09 * C**0.5
            D = C / 6 / N
            loss = TRUTH["E"] + TRUTH["A"] * N ** -TRUTH["alpha"] + TRUTH["B"] * D ** -TRUTH["beta"]
            # a sequence without trend or period
            loss *= 1 + noise * (2 * (43758.5453 * math.sin(12.9898 * len(rows) + 4.1) % 1) - 1)
            rows.append({"N": N, "D": D, "C": C, "loss": loss})
    return rows


def test_the_published_fit_comes_out_of_the_command_line(fit, shared_data):
    path = shared_data / "scaling" / "chinchilla_epoch" / "svg_extracted_data.csv"
    out, err = fit(
        path, "--metric", "loss", "--columns", "N=Model Size,C=Training FLOP", "--exclude", "highest:loss:5",
        "--C", "1e23", "--json", "-", "--out", "report",
    )  # fmt: skip
    document = json.loads(out)
    law = document["law"]
    # Besiroglu et al., arXiv 2404.10102, at the optimum of their objective
    assert law["E"] == pytest.approx(1.817218, abs=1e-5)
    assert law["alpha"] == pytest.approx(0.347310, abs=1e-5)
    assert law["beta"] == pytest.approx(0.367172, abs=1e-5)
    assert law["A"] == pytest.approx(477.826, rel=1e-3)
    assert law["B"] == pytest.approx(2143.42, rel=1e-3)
    assert law["objective"] <= 0.00101827402
    assert (law["form"], law["estimator"], law["n_rows"]) == ("chinchilla", "huber", 240)
    assert [one["line"] for one in law["excluded"]] == [2, 3, 4, 5, 6]
    assert document["standard_errors"]["alpha"] == pytest.approx(0.0146, rel=0.15)
    ratio = document["exponents"]["ratio_exponent"]
    assert ratio["low"] < 0 < ratio["high"]
    assert ratio["sign_established"] is False
    (far,) = [one for one in document["optimum"] if one["C"] == 1e23]
    assert far["C"] == pytest.approx(6 * far["N"] * far["D"], rel=1e-12)
    assert all(low < far[key] < high for key, (low, high) in far["intervals"].items())
    assert {"settings", "flags", "verdict", "isoflops"} <= set(document)
    assert "report/index.html" in err
    assert json.loads(Path("report/fit.json").read_text()) == document


def test_words_say_which_estimator_and_which_sign(fit, shared_data):
    path = shared_data / "scaling" / "chinchilla_epoch" / "svg_extracted_data.csv"
    out, _ = fit(path, "--exclude", "highest:loss:5", "--estimator", "lad", "--replicates", "60")
    assert "least absolute deviations" in out.splitlines()[0]
    assert "Huber" not in out
    assert "its sign is not established by these data" in out
    assert "lines 2-6: excluded by 'highest:loss:5'" in out


def test_every_budget_has_its_optimum_on_published_isoflops(fit, shared_data):
    path = shared_data / "scaling" / "porian" / "isoflop_points.csv"
    out, _ = fit("isoflop", path, "--where", "decay=chinchilla", "--json", "-")
    document = json.loads(out)["isoflops"]
    with path.open() as file:
        published = {
            float(row["flops"]): (float(row["n_star_published"]), float(row["n_star_logstd"]))
            for row in csv.DictReader(file)
            if row["decay"] == "chinchilla"
        }
    assert len(document["budgets"]) == len(published) == 12
    for one in document["budgets"]:
        known, log_std = published[min(published, key=lambda C: abs(C - one["C"]))]
        # their optimum is Akima-interpolated, ours a polynomial: they agree as well as both are known
        assert abs(math.log(one["N"] / known)) < 4 * max(log_std, 0.05)
    low, high = document["N_law"]["interval"]
    assert low < 0.571495 < high


def test_a_simulated_table_gives_back_its_law_and_predictions_follow_it(fit):
    fit("simulate", "runs.csv", "--law", LAW, "--noise", "0.004", "--sizes", "7", "--seed", "1")
    out, _ = fit("predict", "runs.csv", "--C", "1e21", "--N", "7B", "--D", "1.4T", "--replicates", "300", "--json", "-")
    document = json.loads(out)
    (model,) = document["models"]
    law = {name: document["law"][name] for name in TRUTH}

    def value(p):
        return p["E"] + p["A"] * 7e9 ** -p["alpha"] + p["B"] * 1.4e12 ** -p["beta"]

    assert model["loss"] == pytest.approx(value(law), rel=1e-9)
    assert model["intervals"]["loss"][0] < value(TRUTH) < model["intervals"]["loss"][1]
    assert model["prediction"][0] < model["intervals"]["loss"][0]
    (best,) = document["optimum"]
    # dL/dN = 0 under C = 6 N D, as the ratio of marginal gains
    gain = law["alpha"] * law["A"] * best["N"] ** -law["alpha"]
    assert gain == pytest.approx(law["beta"] * law["B"] * best["D"] ** -law["beta"], rel=1e-9)


def test_the_json_of_a_fit_is_enough_to_predict_from(fit, table):
    rows = [{**row, "kind": "a", "params": 1, "other": "" if index == 3 else index} for index, row in enumerate(runs())]
    name = table("runs.csv", rows)
    chosen = (
        "--columns",
        "N=N",
        "--exclude",
        "line=4",
        "--test",
        "C>5e19",
        "--estimator",
        "lad",
        "--replicates",
        "100",
    )
    arguments = ("--C", "1e21", "--N", "7B", "--D", "1.4T", "--json", "-")
    fit(name, *chosen, "--json", "fit.json")
    from_table = json.loads(fit("predict", name, *chosen, *arguments)[0])
    Path(name).unlink()
    out, err = fit("predict", "fit.json", *arguments)
    from_json = json.loads(out)
    for one in (from_json, from_table):
        del one["law"]["excluded"]
    assert [from_json[part] for part in ("law", "optimum", "models")] == [
        from_table[part] for part in ("law", "optimum", "models")
    ]
    assert "this version finds" not in err
    wide = json.loads(fit("predict", "fit.json", *arguments, "--level", "0.5", "--replicates", "100")[0])
    assert wide["models"][0]["prediction"][0] > from_json["models"][0]["prediction"][0]
    assert "used as it is" in fit("predict", "fit.json", "--C", "1e21", "--estimator", "lad", code=2)[1]
    document = json.loads(Path("fit.json").read_text())
    document["runs"][0]["loss"] += 0.1
    Path("fit.json").write_text(json.dumps(document))
    assert "not those that were fitted" in fit("predict", "fit.json", "--C", "1e21", code=2)[1]


def test_planning_narrows_with_repeats_and_stops_when_narrow_enough(fit):
    plans = [
        json.loads(fit("plan", "--law", LAW, "--repeats", n, "--simulations", 100, "--json", "-")[0]) for n in (1, 8)
    ]
    assert plans[1]["runs"] == 8 * plans[0]["runs"]
    # eight times the runs: intervals narrower by the square root of eight, as far as 100 tables tell
    assert plans[0]["widths"]["alpha"] / plans[1]["widths"]["alpha"] == pytest.approx(math.sqrt(8), rel=0.3)
    out, err = fit("plan", "--law", LAW, "--want", "alpha=0.04", "--simulations", 100, "--json", "-")
    assert json.loads(out)["widths"]["alpha"] <= 0.04
    assert "alpha within" in err


def test_a_metric_through_the_loss_and_its_verdict(fit, table):
    rows = runs(budgets=(1e18, 3e18, 1e19, 3e19, 1e20))
    for index, row in enumerate(rows):
        row["pjsd_2"] = 0.05 + 0.2 * (row["loss"] - 2.0) + 0.001 * math.sin(3 * index)
        row["noisy"] = 0.3 + 0.01 * math.sin(78.233 * index)
        row["C"] *= 1.2
    name = table("runs.csv", rows)
    out, _ = fit("downstream", name, "--metric", "pjsd_2", "--replicates", "200", "--json", "study.json")
    assert out.count("median C / ND = 7.2") == 1
    document = json.loads(Path("study.json").read_text())["downstream"]
    assert document["two_stage"]["slope"] == pytest.approx(0.2, rel=0.02)
    assert document["fused"]["rank_deficiency"] == 0
    assert set(document["held_out"]) == {"direct", "two_stage", "fused"}
    out, _ = fit("verdict", name, "-m", "pjsd_2", "--baseline", "0.19", "--noise", "0.001", "--replicates", "200")
    assert out.startswith("SCALES")
    assert "0.19 is reachable at C" in out
    out, _ = fit("verdict", name, "-m", "noisy", "--noise", "0.01", "--replicates", "200")
    assert out.startswith("FLAT")
    assert "which counts as no change" in out


BAD = {
    "few rows": (lambda r: r[:4], "too few for the 5 parameters", None),
    "one budget": (lambda r: runs(budgets=(1e19,), sizes=(0.1, 0.2, 0.5, 1, 2, 5, 10)), "one budget", "1 of 1 budgets"),
    "one N": (lambda r: [{**x, "N": 1e8, "C": 6e8 * x["D"]} for x in r], "one N", None),
    "not positive": (lambda r: [*r[1:], {**r[0], "loss": -1}], "line 16: loss = -1 cannot be used", "estimate"),
    "NaN": (lambda r: [*r[1:], {**r[0], "loss": "nan"}], "line 16: loss is missing", "estimate"),
    "no number": (lambda r: [*r[1:], {**r[0], "N": "many"}], "line 16: N: 'many' is not a count", "estimate"),
    "duplicates": (lambda r: [*r, r[0], r[1]], "rows repeat another row's N, D and loss", "estimate"),
    "C unlike N D": (lambda r: [{**x, "C": 2.5 * x["C"]} for x in r], "misses by up to", "estimate"),
    "constant": (lambda r: [{**x, "loss": 2.0} for x in r], "the same in every row", None),
    "mixed conventions": (
        lambda r: [{**x, "N convention": "all" if i % 2 else "non-embedding"} for i, x in enumerate(r)],
        "mixed conventions in 'N convention'",
        "estimate",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_tables_are_told_and_the_rest_is_answered(fit, table, what):
    spoil, expected, answered = BAD[what]
    out, _ = fit(table("runs.csv", spoil(runs())), "--replicates", "100", code=1 if what == "few rows" else 0)
    assert expected in out
    if what == "C unlike N D":
        assert out.count("median C / ND = 15") == 1
        assert "Data: runs.csv, 15 rows.\n" in out
    assert answered is None or answered in out
    # a wrong k of C = k N D leaves a law of N and D alone, and doubts what is stated under a budget
    doubted = what in {"few rows", "one budget", "one N", "constant", "mixed conventions"}
    assert out.startswith(("NOT TO BE TRUSTED", "NO LAW")) == doubted


def test_what_is_misspelt_is_named_with_what_was_meant(fit, table):
    name = table("runs.csv", runs())
    assert "Did you mean 'loss'?" in fit(name, "--metric", "los", code=2)[1]
    renamed = [{"N": row["N"], "D": row["D"], "seed": 1, "loss_val": row["loss"]} for row in runs()]
    assert "Did you mean 'loss_val'?" in fit(table("v.csv", renamed), code=2)[1]
    assert "Did you mean 'isoflop'?" in fit("isoflops", name, code=2)[1]
    assert "Did you mean 'chinchilla'?" in fit(name, "--law", "chinchila", code=2)[1]
    assert (
        "Did you mean 'tokens'?"
        in fit(table("t.csv", [{"N": 1, "C": 2, "tokens": 3, "loss": 1}]), "--columns", "D=tokns", code=2)[1]
    )
    assert "no such file" in fit("absent.csv", code=2)[1]
    assert "none of 15 rows" in fit(name, "--where", "C<1", code=2)[1]
    assert "each model needs its tokens" in fit("predict", name, "--N", "7B", code=2)[1]


def test_an_answer_far_beyond_the_data_is_not_trusted_in_its_first_line(fit, table):
    name = table("runs.csv", runs())
    near = fit("predict", name, "--C", "1e21", "--replicates", "100")[0].splitlines()[0]
    far = fit("predict", name, "--C", "1e26", "--replicates", "100")[0].splitlines()[0]
    assert not near.startswith("NOT TO BE TRUSTED")
    assert far.startswith("NOT TO BE TRUSTED")


def test_held_out_rows_that_contradict_the_law_are_told_first(fit, table):
    rows = runs(budgets=(1e18, 1e19, 1e20, 6e20, 1e21), sizes=(0.25, 0.5, 0.8, 1.25, 2.0, 4.0))
    held = ("--test", "C>5e20", "--replicates", "100")
    assert not fit(table("good.csv", rows), *held)[0].startswith("NOT")
    for row in rows:
        row["loss"] *= 0.9 if row["C"] > 5e20 else 1
    assert "12 of 12 held-out rows lie below their prediction" in fit(table("bad.csv", rows), *held)[0].splitlines()[0]


def test_help_needs_no_torch_and_no_scipy():
    code = (
        "import sys\nfrom cdslm_eval.cli import app\n"
        "try: app(['fit', '--help'])\nexcept SystemExit: pass\n"
        "print([one for one in ('torch', 'transformers', 'matplotlib', 'scipy') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "downstream" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_rows_of_several_systems_are_not_fitted_as_one_without_a_word(fit, table):
    rows = [{**row, "run": str(n), "system": ("cdslm", "unit-lm")[n % 2]} for n, row in enumerate(runs())]
    name = table("two.csv", rows)
    _, message = fit("isoflop", name, "--replicates", "0")
    assert "rows of 2 systems are fitted as one: cdslm, unit-lm; --where system=cdslm fits one alone" in message
    _, message = fit("isoflop", name, "--where", "system=unit-lm", "--replicates", "0")
    assert "systems" not in message


def test_rows_that_may_be_checkpoints_of_one_run_are_named(fit, table):
    points = [(N, 1e9 * 2**step) for N in (1e8, 3e8, 1e9) for step in range(8)]
    rows = [{"N": N, "D": D, "loss": 1.5 + 40 * (N * D) ** -0.1 * (1 + 0.01 * math.sin(N + D))} for N, D in points]
    options = ("--law", "power", "--N", "1B", "--D", "100B", "--replicates", 0)
    out, _ = fit("predict", table("runs.csv", rows), *options)
    assert "24 rows (from line 2) in 3 groups share N and all texts while D rises: they may be checkpoints" in out
    assert "--columns run=NAME" in out
    named = table("named.csv", [{**row, "model": f"m{row['N']:g}"} for row in rows])
    assert "unnamed_checkpoints" in fit("predict", named, *options)[0]
    assert "unnamed_checkpoints" not in fit("predict", named, *options, "--columns", "run=model")[0]


def exact(noise=0.0):
    return [{**row, "seed": number} for number, row in enumerate(runs(noise=noise))]


def test_an_exact_table_is_trusted(fit, table):
    out, _ = fit(table("runs.csv", exact()), "--replicates", 50)
    assert out.startswith("loss = 1.8 + 480 N^-0.3500 + 2100 D^-0.3700")
    assert "NOT TO BE TRUSTED" not in out
    assert fit("verdict", "runs.csv", "--replicates", 50)[0].startswith("SCALES")


def test_the_first_line_has_the_delta_in_both_units(fit, table):
    name = table("runs.csv", exact(0.003))
    relative, _ = fit(name, "--link", "identity", "--replicates", 0)
    median = sorted(row["loss"] for row in runs())[7]
    assert "delta 0.001 of the median |loss|: " in relative.splitlines()[0]
    stated = float(relative.split("|loss|: ")[1].split()[0])
    assert stated == pytest.approx(0.001 * median, rel=0.01)
    absolute, _ = fit(name, "--link", "identity", "--delta-absolute", stated, "--replicates", 0)
    law = relative.split(", by")[0]
    assert absolute.splitlines()[0].startswith(law)
    assert f"delta {stated:g} in units of loss" in absolute.splitlines()[0]
    _, error = fit(name, "--delta-absolute", 0.001, code=2)
    assert "use --link identity" in error


def test_a_law_of_compute_alone_says_nothing_of_optima(fit, table):
    out, _ = fit(table("runs.csv", exact(0.003)), "--law", "power", "--replicates", 0)
    assert "curvature_disagrees" not in out
    missing = {line.split(":")[0] for line in out.splitlines() if line.startswith("No ")}
    assert missing <= {"No holdout", "No rollout"}
    assert "By the law kappa" not in out
    assert "Compute-optimal models" not in out


def test_a_table_without_isoflops_says_so_once(fit, table):
    rows = [{"N": 10 ** (7 + k / 6), "D": 10 ** (9 + (7 * k % 24) / 8), "loss": 2 + 1 / (k + 2)} for k in range(24)]
    out, _ = fit(table("runs.csv", rows), "--replicates", 0)
    assert out.count("isoFLOPs") == 1
    assert "budgets alone" not in out
    assert "has no isoFLOPs" in fit("isoflop", "runs.csv", code=2)[1]


def test_cells_and_columns_that_are_no_numbers_or_no_metrics_are_named(fit, table):
    rows = exact(0.003)
    rows[3]["loss"] = "3,1"
    out, _ = fit(table("runs.csv", rows), "--replicates", 0)
    assert out.count("Not used: line 5") == 1
    assert "line 5: loss: '3,1' is not a number" in out
    commas = [{**row, "loss": str(row["loss"]).replace(".", ",")} for row in runs()]
    _, error = fit(table("commas.csv", commas), code=2)
    assert "commas.csv: line 2: loss: '" in error
    assert "write a point for decimals" in error
    _, error = fit("runs.csv", "--metric", "seed", code=2)
    assert "'seed' is a setting of the runs" in error
    out, _ = fit(table("few.csv", runs()[:4]), "--replicates", 0, code=1)
    assert out.startswith("NO LAW")


def test_billions_in_one_column_are_suspected(fit, table):
    rows = [{"N": row["N"], "D": row["D"] / 1e9, "loss": row["loss"]} for row in runs(noise=0.003)]
    out, _ = fit(table("runs.csv", rows), "--replicates", 0)
    assert "is D (or N) in billions? write 20B" in out


def test_widths_are_stated_at_the_epsilons_of_the_command(fit, table):
    name = table("runs.csv", exact(0.003))
    out, _ = fit("isoflop", name, "--epsilon", "2%,0.02", "--replicates", 50)
    widths = [line.split(" dN")[0] for line in out.splitlines() if line.startswith("Within")]
    assert {width.split(",")[0] for width in widths} == {"Within 2 % of L*", "Within 0.02 of L*"}
    assert len(widths) == 4
    for wrong in ("2x", "0", "100%"):
        _, error = fit("isoflop", name, "--epsilon", wrong, code=2)
        assert "write a share of the optimum's value" in error
