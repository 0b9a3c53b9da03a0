"""A ladder: sizes x budgets -> train -> generate -> score -> one table of runs -> fits."""

from cdslm_eval.ladder.climb import Climb, Rung, rungs
from cdslm_eval.ladder.plan import Plan, read_plan

__all__ = ["Climb", "Plan", "Rung", "read_plan", "rungs"]
