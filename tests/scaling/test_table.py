"""RunTable: files, units, columns, rules, what is excluded and why."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.core.records import parse_quantity, read_records
from cdslm_eval.core.store import Store
from cdslm_eval.plugin.contract import GeneratorInfo
from cdslm_eval.scaling import fit_law
from cdslm_eval.scaling.table import RunTable

ROWS = [
    {"N": "70M", "D": "1.4B", "C": "5.88e17", "loss": "3.9", "run": "a"},
    {"N": "7B", "D": "1.4T", "C": "5.88e22", "loss": "2.0", "run": "b"},
    {"N": "1e9", "D": "2e10", "C": "1.2e20", "loss": "", "run": "c"},
]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7e9", 7e9),
        ("7B", 7e9),
        ("7 b", 7e9),
        ("1.5T tokens", 1.5e12),
        ("300M params", 3e8),
        ("2.3B", 2.3e9),
        ("1,000,000", 1e6),
        ("1_000", 1e3),
        ("2.5 EFLOPs", 2.5e18),
        (12, 12.0),
        (".5K", 500.0),
    ],
)
def test_quantities(text, value):
    assert parse_quantity(text) == value


@given(st.integers(1, 10**6), st.sampled_from("KMBT"))
def test_a_prefix_is_the_nearest_power_of_ten(number, prefix):
    exponent = {"K": 3, "M": 6, "B": 9, "T": 12}[prefix]
    assert parse_quantity(f"{number / 1000}{prefix}") == float(f"{number / 1000}e{exponent}")


@pytest.mark.parametrize("text", ["seven", "7X", "1e", "--3", "B", "1.2.3M"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="not a count"):
        parse_quantity(text)


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet", "pandas"])
def test_every_kind_of_file_gives_the_same_table(tmp_path, kind):
    frame = pd.DataFrame(ROWS)
    path = tmp_path / f"runs.{kind}"
    writers = {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "json": lambda: path.write_text(json.dumps({"runs": ROWS})),
        "jsonl": lambda: path.write_text("\n".join(map(json.dumps, ROWS))),
        "parquet": lambda: frame.to_parquet(path),
        "pandas": lambda: None,
    }
    writers[kind]()
    table = RunTable.from_pandas(frame) if kind == "pandas" else RunTable.read(path)
    assert table.N.tolist() == [7e7, 7e9, 1e9]
    assert table.metric("loss")[:2].tolist() == [3.9, 2.0]
    assert math.isnan(table.metric("loss")[2])
    assert table.line.tolist() == ([2, 3, 4] if kind in {"csv", "tsv"} else [1, 2, 3])
    assert table.digest == RunTable.from_records(list(zip(table.line.tolist(), ROWS, strict=True))).digest


def test_the_missing_one_of_the_three_is_computed_and_told():
    table = RunTable.from_records([{"params": "1B", "flops": 1.2e20, "loss": 2.5}])
    assert table.D.tolist() == [pytest.approx(2e10)]
    assert table.derived == "D"
    assert "D is computed" in table.compute_check().sentence


def test_compute_that_does_not_fit_is_measured():
    n = np.geomspace(1e7, 1e10, 5)
    rows = [{"N": a, "D": 2e10, "C": 2 * a**0.9 * 2e10 * 1e9**0.1, "loss": 2.0} for a in n]
    check = RunTable.from_records(rows).compute_check()
    assert check.drift == pytest.approx(-0.1)
    assert "misses by up to" in check.sentence


def test_rows_that_cannot_be_used_are_named(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "N,D,loss,split\n1B,2e10,2.5,train\nmany,2e10,2.4,train\n-3,1,2,train\n1B,,2,train\n1B,1e9,x,dev\n2B,1e9,bad,test\n3B,1e9,2,test\n"
    )
    table = RunTable.read(path)
    assert {row.line: row.reason for row in table.excluded} == {
        3: "N: 'many' is not a count (7e9, 7B, 300M, 1.5T are)",
        4: "N must be above 0 and finite, not -3",
        5: "D is missing",
        6: "the split must be train or test, not 'dev'",
        7: "loss: 'bad' is not a number",
    }
    assert table.split.tolist() == ["train", "test", "test"]


def test_a_missing_compute_follows_from_sizes_and_tokens():
    rows = [{"N": 1e8, "D": 1e9, "C": 9e17, "loss": 3.0}, {"N": 1e8, "D": 2e9, "C": "", "loss": 2.9}]
    table = RunTable.from_records(rows)
    assert table.C.tolist() == [9e17, 1.2e18]
    assert table.conventions["C"].startswith("computed as 6 N D in 1 of 2 rows")
    # a size that is missing is not made up, whatever else is known
    assert [row.reason for row in RunTable.from_records([*rows, {"D": 1e9, "C": 1e18, "loss": 3}]).excluded] == [
        "N is missing"
    ]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"N": 1, "loss": 2}], {}, "two of N, D and C are needed"),
        ([{"N": 1, "D": 2}], {"C": "flop"}, "no column 'flop' for C"),
        ([{"Nn": 1, "D": 2}], {"N": "Nnn"}, "Did you mean 'Nn'"),
        ([{"params": 1, "parameters": 2, "D": 3}], {}, "may both be N"),
        ([{"N": 0, "D": 2}], {}, "no row can be used; line 1: N must be above 0"),
        ([], {}, "it has no rows"),
    ],
)
def test_bad_tables_say_what_to_do(rows, columns, message):
    with pytest.raises(UsageError, match=message):
        RunTable.from_records(rows, columns=columns)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "N,N,D\n1,2,3\n", "occurs twice"),
        ("a.csv", "N,D\n1,2,3\n", "line 2: 3 fields where the header names 2"),
        ("a.csv", "", "it is empty"),
        ("a.jsonl", '{"N": 1}\n{"N":', "line 2: not JSON"),
        ("a.json", '{"N": 1}', "list of objects"),
        ("a.json", "[1]", "row 1: an object"),
        ("a.parquet", "nonsense", "not a parquet file"),
        ("a.xlsx", "", "tables are read from"),
    ],
)
def test_broken_files_are_named_with_the_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_records(path)


def test_mixed_conventions_are_told_with_lines():
    rows = [{"N": 1e9, "D": 1e9, "N convention": word, "loss": 2} for word in ("total", "total", "non-embedding")]
    assert "'non-embedding' from line 3" in RunTable.from_records(rows).notes[0]


def test_rules_choose_rows():
    rows = [{"N": 10.0**i, "D": 1e9, "loss": 5 - i, "kind": "ab"[i % 2]} for i in range(6)]
    table = RunTable.from_records(rows)
    assert table.excluding("loss>3.5").line.tolist() == [3, 4, 5, 6]
    assert table.excluding("highest:loss:2", "line=5,6").line.tolist() == [3, 4]
    assert table.only("kind=a", "N>=10^2".replace("10^2", "100")).line.tolist() == [3, 5]
    assert [row.line for row in table.excluding("lowest:N:1").excluded] == [1]
    with pytest.raises(UnknownNameError, match="Did you mean 'loss'"):
        table.excluding("los>3")
    with pytest.raises(UsageError, match="is not a rule"):
        table.excluding("loss")


def test_sizes_of_budgets_are_compared_as_numbers():
    """A budget is a label of its rows, and as texts 9e15 is above 1e17."""
    rows = [{"N": 1e6, "D": 1e9, "loss": 1.0, "budget": budget, "kind": "a"} for budget in ("9e15", "1e17", "3e+17")]
    table = RunTable.from_records(rows)
    assert table.only("isoflop>=1e17").line.tolist() == [2, 3]
    assert table.only("isoflop<1e17").line.tolist() == [1]
    with pytest.raises(UsageError, match="'kind<b': compares by size a column of texts; 'a' is not a count"):
        table.only("kind<b")


def test_records_go_round():
    table = RunTable.from_records(ROWS)
    again = RunTable.from_records(table.to_records())
    assert again.digest == table.digest


def test_a_store_joined_to_what_is_known_of_its_systems(tmp_path):
    estimates = [
        {"system": name, "name": "pjsd_1", "identity": "pjsd@1#x", "value": value, "corrected": value - 0.1}
        for name, value in (("small", 0.4), ("large", 0.2), ("unknown", 0.9))
    ]
    info = {name: GeneratorInfo(parameters=n, flops=c) for name, n, c in (("small", 1e8, 1e18), ("large", 1e9, 1e20))}
    with Store(tmp_path / "s.cdslm") as store:
        store.put_run({}, estimates)
        table = RunTable.from_store(store, info, value="corrected")
        assert dict(zip(table.run.tolist(), table.metric("pjsd_1").tolist(), strict=True)) == pytest.approx(
            {"small": 0.3, "large": 0.1}
        )
        side = tmp_path / "systems.csv"
        side.write_text("system,N,C\nlarge,1B,1e20\n")
        assert RunTable.from_store(store, side).metric("pjsd_1").tolist() == [0.2]
        with pytest.raises(UsageError, match="none of them was scored"):
            RunTable.from_store(store, {"other": {"N": 1, "D": 1}})
        store.put_run({}, [estimates[0], {**estimates[1], "identity": "pjsd@2#y"}])
        with pytest.raises(UsageError, match="different identity"):
            RunTable.from_store(store, info)


def test_tokens_in_billions_are_noticed_and_settings_are_no_metrics():
    rows = [{"N": 1e8 * (1 + i), "D": 2.0 + i % 3, "loss": 3.0 + 0.1 * (i * 7 % 5), "seed": i} for i in range(12)]
    table = RunTable.from_records(rows)
    assert table.metric_names == ("loss",)
    (flag,) = [flag for flag in fit_law(table, "loss").flags if flag.name == "units"]
    assert "is D (or N) in billions? write 20B" in flag.sentence
    billions = RunTable.from_records([{**row, "D": 1e9 * row["D"]} for row in rows])
    assert not [flag for flag in fit_law(billions, "loss").flags if flag.name == "units"]


@pytest.mark.parametrize(("suffix", "mark"), [("csv", "commas"), ("tsv", "tabs")])
def test_fields_between_semicolons_are_named(tmp_path, suffix, mark):
    path = tmp_path / f"runs.{suffix}"
    path.write_text("N;D;loss\n1e8;1e9;3,10\n2e8;2e9;2,95\n")
    with pytest.raises(UsageError, match=f"separated by semicolons; write {mark}, and points for decimals"):
        RunTable.read(path)
