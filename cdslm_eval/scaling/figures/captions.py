"""What stands under each figure."""

from __future__ import annotations

ISOFLOP = (
    "The metric against parameters N, one colour per budget C: rows, the law under each budget, the optimum of each "
    "budget's own curve (star), and the optima of the law (dots)."
)
OPTIMA = (
    "Compute-optimal parameters N*, tokens D* and their ratio r* against compute: the law with its interval, and each "
    "budget by itself. Whiskers of budgets with few rows leave the frame."
)
CURVATURE = (
    "Curvature of the isoFLOP at its optimum, in the metric's units per (ln N)². A law with exponents above "
    "0 makes it fall with compute by construction; the budgets' own curves do not know the law."
)
NEAR_OPTIMAL = (
    "Models that stay within a share of the optimum's value, as multiples of N* and D*: what a wrong size costs. "
    "Bands: intervals of the ends."
)
RESIDUALS = (
    "What the law leaves over, against N, D and C; triangles: rows beyond the frame. A running median away from 0 "
    "says that the form is wrong there."
)
PREDICTED = "Predicted against measured values; held-out rows are hollow."
ROLLOUT = (
    "Each budget predicted by a law fitted to the smaller ones alone: median error and the middle 90 % of its rows."
)
METRIC_LOSS = "The metric against the loss, fitted as a function of the loss and jointly with it; dashes: real data."
BOOTSTRAP = (
    "Parameters over the bootstrap's replicates, the estimate as a cross: a narrow ridge is a combination the data "
    "fix better than each of the two."
)
