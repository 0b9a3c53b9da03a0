"""A ladder: sizes x budgets -> train -> generate -> score -> one table of runs -> fits."""

from cdslm_eval.ladder.execute import LadderPoint, LadderRun, ladder_points
from cdslm_eval.ladder.plan import Plan, read_plan

__all__ = ["LadderPoint", "LadderRun", "Plan", "ladder_points", "read_plan"]
