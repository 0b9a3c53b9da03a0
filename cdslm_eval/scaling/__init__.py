"""Scaling: how a metric grows with parameters N, tokens D and compute C, and what follows from it.

`fit_law` fits a law to a `cdslm_eval.scaling.table.RunTable`; `fit_isoflops` looks at each budget by itself;
`compare_downstream` relates a metric to the loss; `judge` says whether the metric scales and whether a baseline is
within reach; `simulate` and `plan_intervals` draw tables from a known law. Needs numpy and scipy alone.
"""

from __future__ import annotations

from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.curve import NearOptimal, Optimum
from cdslm_eval.scaling.downstream import Downstream, compare_downstream
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.isoflop import IsoFlop, IsoFlops, fit_isoflops
from cdslm_eval.scaling.law import Law
from cdslm_eval.scaling.power_law import PowerLaw, fit_power_law
from cdslm_eval.scaling.prediction import Prediction
from cdslm_eval.scaling.reach import Reach
from cdslm_eval.scaling.simulate import Plan, PlanIntervals, plan_intervals, plan_runs, simulate
from cdslm_eval.scaling.validation import Holdout
from cdslm_eval.scaling.verdict import Verdict, judge

__all__ = [
    "Bootstrap",
    "Downstream",
    "Flag",
    "Holdout",
    "IsoFlop",
    "IsoFlops",
    "Law",
    "LawFit",
    "NearOptimal",
    "Optimum",
    "Plan",
    "PlanIntervals",
    "PowerLaw",
    "Prediction",
    "Reach",
    "Verdict",
    "compare_downstream",
    "fit_isoflops",
    "fit_law",
    "fit_power_law",
    "judge",
    "plan_intervals",
    "plan_runs",
    "simulate",
]
