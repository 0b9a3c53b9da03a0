"""A ladder: sizes x budgets -> train -> generate -> score -> one table of runs -> fits."""

from cdslm_eval.ladder.execute import LadderRun
from cdslm_eval.ladder.plan import Plan, read_plan
from cdslm_eval.ladder.points import LadderPoint, SampledPoint, TrainedPoint, Training
from cdslm_eval.ladder.training import Outcome, train

__all__ = [
    "LadderPoint",
    "LadderRun",
    "Outcome",
    "Plan",
    "SampledPoint",
    "TrainedPoint",
    "Training",
    "read_plan",
    "train",
]
