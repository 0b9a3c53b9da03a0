"""Suite files: every mistake is found before anything runs, with its line and key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.toml import lines_of_keys
from cdslm_eval.plugin.host import Host
from cdslm_eval.suite import json_schema, load_suite, make_plan

SUITES = Path(__file__).parents[2] / "benchmarks" / "suites"


def problems(path, **options):
    with pytest.raises(UsageError) as caught:
        make_plan(load_suite(path), Host(pinned=[]), **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"head": "undecidd = 'fail'"}, "line 3: undecidd: there is no such key. Did you mean 'undecided'?"),
        ({"head": "seed = -1"}, "line 3: seed: Input should be greater than or equal to 0"),
        ({"head": "recognizer2 = 1"}, "line 3: recognizer2: there is no such key. Did you mean 'recognizer'?"),
        ({"head": "reference = 'rael'"}, "line 3: reference: there is no reference 'rael'. Did you mean 'real'?"),
        ({"systems": "[systems.x]\npath='nera'"}, "line 11: systems.x.path: "),
        (
            {"systems": "[systems.x]\npath='near'\ncount=3"},
            "options, count, seconds, seed and prompts are for generators",
        ),
        ({"systems": "[systems.x]\ngenerator='bable:2'"}, "Did you mean 'babble'?"),
        (
            {"systems": "[systems.x]\ngenerator='babble'\noptions={text='./none.txt'}"},
            "line 11: systems.x.generator: option 'text'",
        ),
        (
            {"systems": "[systems.x]\npath='near'\nbaseline='y'\n[systems.y]\npath='far'\nbaseline='x'"},
            "line 12: systems.x.baseline: goes in a circle: x -> y -> x",
        ),
        ({"gates": "[metrics.pjdsd]"}, "line 13: metrics.pjdsd: There is no metric 'pjdsd'. Did you mean 'pjsd'?"),
        ({"gates": "[[gates]]\ngate='pjsd_9 < 1'"}, "line 14: gates.0.gate: no metric of the suite measures 'pjsd_9'"),
        ({"gates": "[[gates]]\ngate='pjsd_2 < < 1'"}, "line 14: gates.0.gate: 'pjsd_2 < < 1', at character 10"),
        (
            {"gates": "[[gates]]\ngate='pjsd_2 < 1'\nsystems=['nera']"},
            "line 15: gates.0.systems: there is no system 'nera'",
        ),
        ({"gates": "[[gates]]\ngate='pjsd_2 < baseline'"}, "near: has no baseline"),
        ({"gates": "[[gates]]\ngate='pjsd_2 < recorded'"}, "compares with a recorded run; name it with --against"),
        ({"gates": "[[gates]]\ngate='level.corrected < 1'"}, "level has no corrected value; it has: value"),
        ({"gates": "[[gates]]\ngate='level.held_out < 1'"}, "level has no held_out value; it has: value"),
    ],
)
def test_a_mistake_is_reported_with_line_and_key(suite_file, extra, message):
    assert message in problems(suite_file(**extra))


def test_a_file_with_several_mistakes_tells_them_all_in_order(suite_file):
    gates = "[[gates]]\ngate='pjsd_2 <'\n[[gates]]\ngate='pjsd_2 < 1'\nsystems=['a']\n[[gates]]\ngate='x < 1'"
    text = problems(suite_file(gates=gates))
    assert [line.split("line ")[1].split(":")[0] for line in text.splitlines()] == ["14", "17", "19"]


def test_a_missing_weight_file_and_a_broken_toml_are_found(suite_file, tmp_path):
    path = suite_file(head="", gates="[metrics.dnsmos]\nmodel='./none.onnx'")
    assert "metrics.dnsmos" in problems(path)
    path.write_text(path.read_text().replace('recognizer = "sidecar"', 'recognizer = "wav2vec2:model=./none"'))
    assert "line 2: recognizer" in problems(path)
    path.write_text("name = ")
    assert "not TOML" in problems(path)
    assert "Did you mean 'suite.toml'?" in problems(tmp_path / "siute.toml")


def test_a_metric_that_a_set_cannot_feed_is_a_cell_not_an_error_unless_a_gate_asks(suite_file, tmp_path):
    for phones in (tmp_path / "far").glob("*.phones"):
        phones.unlink()
    plan = make_plan(load_suite(suite_file(gates="")), Host(pinned=[]))
    assert {(cell.system, cell.metric) for cell in plan.cells if cell.why_not} == {("far", "pjsd")}
    gated = suite_file(gates="[[gates]]\ngate='pjsd_2 < 1'")
    assert "far: is not measured under pjsd: its clips have no phones" in problems(gated)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_suite_keeps_the_schema(path):
    text = path.read_text()
    jsonschema.validate(tomllib.loads(text), json_schema(), cls=jsonschema.Draft202012Validator)
    assert load_suite(path).spec.name
    written = json.loads((SUITES / "suite.schema.json").read_text())
    assert written == json_schema(), "cdslm-eval run --schema > benchmarks/suites/suite.schema.json"


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_locator_finds_the_keys_that_the_toml_parser_finds(path):
    text = path.read_text()
    lines = text.splitlines()

    def walk(value, at):
        """Yield every table and key; inline tables are values."""
        if isinstance(value, dict):
            for key, inner in value.items():
                yield (*at, key)
                yield from walk(inner, (*at, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, inner in enumerate(value):
                yield (*at, number)
                yield from walk(inner, (*at, number))

    wanted = {at for at in walk(tomllib.loads(text), ()) if "options" not in at[:-1]}
    line_of = lines_of_keys(text)
    keys = {at for at in wanted if len(at) > 1 and isinstance(at[-1], str) and at[:-1] in line_of}
    assert keys
    assert keys <= set(line_of)
    assert all(str(at[-1]) in lines[line - 1] for at, line in line_of.items() if isinstance(at[-1], str))
