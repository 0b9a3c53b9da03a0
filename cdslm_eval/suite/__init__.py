"""Suites: systems x metrics x gates from one TOML file, planned, measured, judged, recorded."""

from cdslm_eval.suite.execute import Wish, run_suite
from cdslm_eval.suite.load import load_suite, schema
from cdslm_eval.suite.plan import Plan
from cdslm_eval.suite.planning import make_plan

__all__ = ["Plan", "Wish", "load_suite", "make_plan", "run_suite", "schema"]
