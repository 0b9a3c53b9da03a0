"""The result of a suite: judged gates, the cells of its grid, changes, and the scores behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cdslm_eval.results.numbers import to_json
from cdslm_eval.results.score_result import ScoreResult

__all__ = ["Cell", "Change", "Judgement", "PastValue", "SuiteResult"]

Status = Literal["pass", "fail", "undecided", "unmeasured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judgement of one gate for one system.

    Attributes:
        gate: The condition as it was written.
        title: Its name in reports.
        system: The system whose value was judged.
        status: "pass" or "fail" where the interval lies on one side of the bound, "undecided" where it straddles it,
            "unmeasured" where the value is not known.
        counts_as: How the suite counts it.
        quantity: What was compared: "value", "corrected", "difference to NAME".
        value, low, high: The quantity and its interval; NaN where it has none.
        bound: What it was compared with.
        clips: Clips behind the value.
        more_clips: About how many more would decide an undecided gate, if the value stays; None where not known.
        sentence: All of it as one sentence.
    """

    gate: str
    title: str
    system: str
    status: Status
    counts_as: Literal["pass", "fail"]
    quantity: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    bound: float = math.nan
    clips: int = 0
    more_clips: int | None = None
    sentence: str = ""

    @property
    def passed(self) -> bool:
        """Whether the gate lets the suite pass."""
        return self.counts_as == "pass"


@dataclass(frozen=True, slots=True)
class Cell:
    """One system under one metric: whether it can be measured, and why not.

    Attributes:
        system, metric: Which.
        why_not: What prevents it, or "".
        note: What a reader should know before it runs ("downloads ..."), or "".
    """

    system: str
    metric: str
    why_not: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A system's value now against a recorded run.

    Attributes:
        system, name, unit, better, quantity: What was compared.
        recorded, now: Both values; NaN where only the difference is computed.
        difference, low, high: Now minus recorded, with its 95 % interval.
        p_holm: Two-sided p of no change, Holm-corrected over all changes of the run.
        paired: Whether clips were compared key by key.
        same_clips: Whether the audio is the same, clip by clip.
        reason: Why numbers are NaN, or "".
    """

    system: str
    name: str
    unit: str
    better: str
    quantity: str
    difference: float
    low: float
    high: float
    p_holm: float
    paired: bool
    same_clips: bool
    recorded: float = math.nan
    now: float = math.nan
    reason: str = ""

    @property
    def verdict(self) -> str:
        """The conclusion in two words."""
        if self.same_clips:
            return "same audio"
        if not math.isfinite(self.p_holm):
            return self.reason or "not known"
        if self.p_holm > 0.05:
            return "no change shown"
        if self.better == "neither":
            return "changed"
        return "better" if (self.difference < 0) == (self.better == "lower") else "worse"


@dataclass(frozen=True, slots=True)
class PastValue:
    """A value of an earlier, recorded run, for the history.

    Attributes:
        run: Name of the recorded run.
        finished: When it ended, UTC, ISO 8601.
        system, name, identity: The value's system, name and metric identity.
        value, low, high: The value and its interval.
    """

    run: str
    finished: str
    system: str
    name: str
    identity: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """The result of `run`.

    Attributes:
        name: Name of the suite.
        scores: Estimates, failures, contributions, clips to listen to; its settings hold the provenance.
        judgements: Gate by gate, system by system.
        cells: The grid of systems and metrics.
        changes: Against a recorded run.
        over_budget: Sentences on clips that failed beyond the budget.
        past: Values of recorded runs of the same suite, oldest first.
        measured_s: (system, metric) -> seconds that this run spent on its rows, over all workers; 0 where the store had
            them.
        seconds: Wall time of the run; NaN where it is not known. It is no part of the JSON, which repeats bit for bit.
    """

    name: str
    scores: ScoreResult
    judgements: tuple[Judgement, ...] = ()
    cells: tuple[Cell, ...] = ()
    changes: tuple[Change, ...] = ()
    over_budget: tuple[str, ...] = ()
    past: tuple[PastValue, ...] = field(default=())
    measured_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    seconds: float = math.nan

    @property
    def settings(self) -> Mapping[str, Any]:
        """The provenance of the run."""
        return self.scores.settings

    @property
    def exit_code(self) -> int:
        """4 with a failed gate, 1 over the failure budget, else 0."""
        if not all(judgement.passed for judgement in self.judgements):
            return 4
        return 1 if self.over_budget else 0

    def as_json(self) -> dict[str, Any]:
        """Return what `run --json` writes."""
        return {
            "suite": self.name,
            "exit_code": self.exit_code,
            "gates": [to_json(judgement) for judgement in self.judgements],
            "cells": [to_json(cell) for cell in self.cells],
            "changes": [{**to_json(change), "verdict": change.verdict} for change in self.changes],
            "over_budget": list(self.over_budget),
            **self.scores.as_json(),
        }
