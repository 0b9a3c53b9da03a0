"""Suites: systems x metrics x gates from one TOML file, planned, measured, judged, recorded."""

from cdslm_eval.suite.execute import run_suite
from cdslm_eval.suite.measure import RunOptions, Shard
from cdslm_eval.suite.plan import Plan, make_plan
from cdslm_eval.suite.schema import json_schema, load_suite, parse_suite

__all__ = ["Plan", "RunOptions", "Shard", "json_schema", "load_suite", "make_plan", "parse_suite", "run_suite"]
