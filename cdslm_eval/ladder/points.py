"""The models of a ladder, the commands that train them, and the results that these leave."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cdslm_eval.core.errors import EvalError
from cdslm_eval.ladder.plan import Family, Plan

__all__ = [
    "RESULT",
    "LadderPoint",
    "SampledPoint",
    "Sampling",
    "TrainedPoint",
    "Training",
    "ladder_trainings",
    "sampled_name",
    "samplings",
    "trained_points",
]

RESULT = "result.json"
_FACTS = ("parameters", "tokens", "flops", "val_loss")
_TOLERANCE = math.log(1.25)
"""How far the FLOPs of a branch may lie from its budget: half a step, which is little from a few steps on."""


@dataclass(frozen=True, slots=True)
class LadderPoint:
    """One model: a size of a family at a budget.

    Attributes:
        family: The family.
        size: Its size, as the plan writes it.
        budget: FLOPs.
        seed: Of its training.
    """

    family: Family
    size: int | str
    budget: float
    seed: int

    @property
    def name(self) -> str:
        """Its name in the table: "cdslm-2-4e+13", "cdslm-2-4e+13-seed1" where there are several seeds."""
        return f"{self.family.name}-{self.size}-{self.budget:.3g}{_seed_suffix(self.family, self.seed)}"


@dataclass(frozen=True, slots=True)
class Training:
    """One training command: a model, or the branches of one run, which differ in their budget alone.

    Attributes:
        points: Its models, by budget.
    """

    points: tuple[LadderPoint, ...]

    @property
    def name(self) -> str:
        """The name of its model, "cdslm-2" where it has branches."""
        first = self.points[0]
        if first.family.is_branched:
            return f"{first.family.name}-{first.size}{_seed_suffix(first.family, first.seed)}"
        return first.name

    @property
    def budgets(self) -> tuple[float, ...]:
        """FLOPs of each model."""
        return tuple(point.budget for point in self.points)

    def values(self) -> dict[str, str]:
        """Return the values of the placeholders of its command, `{budgets}` and places excepted."""
        first = self.points[0]
        family = first.family
        values = {"size": str(first.size), "budget": f"{first.budget:g}", "seed": str(first.seed)}
        values |= {name: str(of_size[family.sizes.index(first.size)]) for name, of_size in family.by_size.items()}
        values |= {name: str(of[family.budgets.index(first.budget)]) for name, of in family.by_budget.items()}
        return values


@dataclass(frozen=True, slots=True)
class TrainedPoint:
    """A trained model.

    Attributes:
        point: Which one.
        folder: Of its run or branch.
        result: What its training left in `result.json`.
    """

    point: LadderPoint
    folder: Path
    result: Mapping[str, Any]


Sampling = tuple[tuple[str, int | float | str], ...]
"""A value of each axis of generation that a system has."""


@dataclass(frozen=True, slots=True)
class SampledPoint:
    """A trained model and how it generates: a row of the table.

    Attributes:
        trained: The model.
        sampling: Values of the axes of generation.
    """

    trained: TrainedPoint
    sampling: Sampling = ()

    @property
    def name(self) -> str:
        """Its name in the table: "cdslm-2-4e+13-guidance2"."""
        return sampled_name(self.trained.point, self.sampling)


def sampled_name(point: LadderPoint, sampling: Sampling) -> str:
    """Return the name of a row of the table."""
    return point.name + "".join(f"-{name}{value}" for name, value in sampling)


def samplings(plan: Plan, family: Family) -> list[Sampling]:
    """Return the combinations of the axes of generation that the generator of a family has; one, (), without any."""
    axes = {name: values for name, values in plan.generate.axes.items() if name in family.axes}
    return [tuple(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def ladder_trainings(plan: Plan, omitted: frozenset[str] = frozenset()) -> list[Training]:
    """Return the training commands of a plan, the cheapest first.

    Args:
        plan: The plan.
        omitted: Names of models that are left out.
    """
    trainings = []
    for family in plan.systems:
        budgets = sorted(family.budgets) if family.is_branched else family.budgets
        for size in family.sizes:
            for seed in family.seeds or (plan.seed,):
                points = [LadderPoint(family, size, budget, seed) for budget in budgets]
                points = [point for point in points if point.name not in omitted]
                if family.is_branched:
                    trainings += [Training(tuple(points))] if points else []
                else:
                    trainings += [Training((point,)) for point in points]
    return sorted(trainings, key=lambda training: max(training.budgets))


def trained_points(training: Training, run: Path) -> Iterator[TrainedPoint]:
    """Yield the models that a finished training left.

    Raises:
        EvalError: `result.json` is absent, lacks a fact, or has no branch for a budget.
    """
    result = _result(run)
    if not training.points[0].family.is_branched:
        yield TrainedPoint(training.points[0], run, result)
        return
    runs = [(run, result), *_branches(run, result)]
    taken: dict[Path, LadderPoint] = {}
    for point in training.points:
        folder, of_branch = min(runs, key=lambda pair: _distance(pair[1], point.budget))
        if _distance(of_branch, point.budget) > _TOLERANCE:
            raise EvalError(f"{run / RESULT}: no branch has a budget of {point.budget:g} FLOPs")
        if folder in taken:
            raise EvalError(
                f"{run / RESULT}: the budgets {taken[folder].budget:g} and {point.budget:g} are the same run of "
                f"{of_branch['flops']:g} FLOPs; leave one of them out"
            )
        taken[folder] = point
        yield TrainedPoint(point, folder, of_branch)


def _distance(result: Mapping[str, Any], budget: float) -> float:
    return abs(math.log(result["flops"] / budget))


def _branches(run: Path, result: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    branches = result.get("branches", [])
    for branch in branches if isinstance(branches, Sequence) else []:
        folder = branch.get("folder") if isinstance(branch, dict) else None
        if not isinstance(folder, str) or PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
            raise EvalError(f"{run / RESULT}: each of its branches must name its folder, relative to the run's")
        _require(branch, run / RESULT)
        yield run / folder, branch


def _result(run: Path) -> dict[str, Any]:
    path = run / RESULT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvalError(f"{path}: the training command must leave it, as JSON, when it is done: {error}") from error
    _require(record, path)
    return dict(record)


def _require(record: object, path: Path) -> None:
    """Raise where a result lacks a fact that the table is made of."""
    lacking = [name for name in _FACTS if not isinstance(record, dict) or name not in record]
    if lacking:
        raise EvalError(f"{path}: lacks {', '.join(lacking)}")
    assert isinstance(record, dict)
    flops = record["flops"]
    if isinstance(flops, bool) or not isinstance(flops, int | float) or not 0 < flops < math.inf:
        raise EvalError(f"{path}: flops must be a number above 0, not {flops!r}")


def _seed_suffix(family: Family, seed: int) -> str:
    return f"-seed{seed}" if len(family.seeds) > 1 else ""
