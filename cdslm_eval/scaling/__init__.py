"""Scaling: how a metric grows with parameters N, tokens D and compute C, and what follows from it.

`fit_law` fits a law to a `cdslm_eval.scaling.table.RunTable`; `fit_isoflops` fits each budget by itself;
`compare_downstream` relates a metric to the loss; `judge` decides whether the metric scales and whether a baseline is
within reach; `simulate` and `plan_intervals` draw tables from a known law. Needs numpy and scipy alone.
"""

from __future__ import annotations

from cdslm_eval.scaling.bootstrap import Bootstrap, bootstrap
from cdslm_eval.scaling.curves import NearOptimal, Optimum
from cdslm_eval.scaling.downstream import Downstream, compare_downstream
from cdslm_eval.scaling.evidence import Reach
from cdslm_eval.scaling.families import Families, fit_families
from cdslm_eval.scaling.fit import LawFit, fit_law, refit, residuals
from cdslm_eval.scaling.flags import Flag
from cdslm_eval.scaling.isocurve import PowerLaw, fit_power_law
from cdslm_eval.scaling.isoflop import IsoFlop, IsoFlops, fit_isoflops
from cdslm_eval.scaling.law import Law, LawSpec
from cdslm_eval.scaling.multiplier import Multiplier
from cdslm_eval.scaling.prediction import Prediction, Profile, predict, profile
from cdslm_eval.scaling.simulate import Plan, PlanIntervals, plan_intervals, plan_runs, simulate
from cdslm_eval.scaling.staged import Staged, bootstrap_staged
from cdslm_eval.scaling.validation import Holdout, hold_out, roll_out
from cdslm_eval.scaling.verdict import Verdict, judge

__all__ = [
    "Bootstrap",
    "Downstream",
    "Families",
    "Flag",
    "Holdout",
    "IsoFlop",
    "IsoFlops",
    "Law",
    "LawFit",
    "LawSpec",
    "Multiplier",
    "NearOptimal",
    "Optimum",
    "Plan",
    "PlanIntervals",
    "PowerLaw",
    "Prediction",
    "Profile",
    "Reach",
    "Staged",
    "Verdict",
    "bootstrap",
    "bootstrap_staged",
    "compare_downstream",
    "fit_families",
    "fit_isoflops",
    "fit_law",
    "fit_power_law",
    "hold_out",
    "judge",
    "plan_intervals",
    "plan_runs",
    "predict",
    "profile",
    "refit",
    "residuals",
    "roll_out",
    "simulate",
]
