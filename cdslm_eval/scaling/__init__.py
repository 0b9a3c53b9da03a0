"""Scaling: how a metric grows with parameters N, tokens D and compute C, and what follows from it.

`fit_law` fits a law to a `cdslm_eval.table.RunTable`; `fit_isoflops` looks at each budget by itself; `compare_downstream`
relates a metric to the loss; `judge` says whether the metric scales and whether a baseline is reachable; `simulate` draws
tables from a known law and plans budgets. Needs numpy and scipy alone.
"""

from __future__ import annotations

from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.law import Law

__all__ = ["Law", "LawFit", "fit_law"]
