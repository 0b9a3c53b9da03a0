"""What a suite file may say: sets, systems, metrics, gates, budgets; every key is described for editors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cdslm_eval.core import defaults

__all__ = ["BudgetSpec", "GateSpec", "ReferenceSpec", "RunSpec", "SetSpec", "SuiteSpec", "SystemSpec"]

Undecided = Literal["fail", "pass"]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SetSpec(_Table):
    """A set of clips: files that are there, or what a generator writes."""

    path: str | None = None
    """Directory, manifest (.jsonl .csv .tsv) or Kaldi wav.scp, relative to the suite file."""
    generator: str | None = None
    """Generator with options as on the command line, such as "babble:2"; instead of `path`."""
    options: dict[str, str | int | float | bool] = {}
    """Further options of the generator; a text that starts with ./ or ../ is a path relative to the suite file."""
    count: int | None = Field(default=None, ge=1)
    """How many clips the generator writes; default: the suite's."""
    seconds: float | None = Field(default=None, gt=0)
    """How long they are, in seconds; default: the suite's."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the generator; default: the suite's."""
    prompts: str | None = None
    """Clips that it continues or learns from: a reference, a system, or a path; default: the system's reference."""

    @model_validator(mode="after")
    def _one_origin(self) -> SetSpec:
        if (self.path is None) == (self.generator is None):
            raise ValueError("give either a path or a generator")
        if self.path is not None and (self.options or self.count or self.seconds or self.seed or self.prompts):
            raise ValueError("options, count, seconds, seed and prompts are for generators; this set has a path")
        return self


class ReferenceSpec(SetSpec):
    """Real speech that systems are compared with."""


class SystemSpec(SetSpec):
    """A system under test."""

    reference: str | None = None
    """Name of its reference set; default: the suite's."""
    baseline: str | None = None
    """The system that `baseline` means in gates on this one; default: the suite's."""


class GateSpec(_Table):
    """A condition that the suite is judged by, on the confidence bound."""

    gate: str
    """Such as "pjsd_2.high < 0.35", "dnsmos_ovrl >= baseline - 0.1", "pjsd_2 <= recorded + 0.02"."""
    systems: list[str] | None = None
    """Systems that it holds for; default: all (but not a baseline against itself)."""
    name: str | None = None
    """What it is called in reports; default: the condition."""
    undecided: Undecided | None = None
    """Which way it counts when the interval straddles the bound; default: the suite's."""
    baseline: str | None = None
    """The baseline system of this gate; default: the system's."""


class BudgetSpec(_Table):
    """What a run may cost and lose."""

    failures: float = Field(default=0.05, ge=0, le=1)
    """Share of clips (0..1) that may fail under a metric before exit code 1."""
    strict: bool = False
    """No clip may fail or be skipped."""
    clip_seconds: float = Field(default=120.0, gt=0)
    """Seconds that one clip may take under a metric before it is ended."""


class RunSpec(_Table):
    """Where measuring runs."""

    executor: str = "local"
    """Executor with options, such as "local"."""
    jobs: int = Field(default=0, ge=0)
    """Worker processes; 0: one per processor."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for metrics with a model."""


class SuiteSpec(_Table):
    """A benchmark suite of cdslm-eval."""

    name: Name
    """What the suite is called in reports."""
    seed: int = Field(default=0, ge=0)
    """Seed of every interval, draw, fold and generator."""
    recognizer: str = defaults.RECOGNIZER
    """Gives the phones: NAME or NAME:key=value."""
    transcriber: str | None = None
    """Gives transcripts to the metrics that read them: NAME or NAME:key=value."""
    reference: str | None = None
    """The reference set of systems that name none; default: the only one there is."""
    baseline: str | None = None
    """The baseline of systems that name none."""
    undecided: Undecided = "fail"
    """Which way a gate counts whose interval straddles its bound."""
    count: int = Field(default=100, ge=1)
    """Clips that a generator writes."""
    seconds: float = Field(default=10.0, gt=0)
    """Their length in seconds."""
    references: dict[Name, ReferenceSpec] = {}
    """Reference sets by name."""
    systems: dict[Name, SystemSpec] = Field(min_length=1)
    """Systems by name."""
    metrics: dict[Name, dict[str, Any]] = Field(min_length=1)
    """Metrics by name, each with its options; an empty table takes the defaults."""
    gates: list[GateSpec] = []
    """What the run is judged by."""
    budget: BudgetSpec = BudgetSpec()
    """What the run may cost and lose."""
    run: RunSpec = RunSpec()
    """Where measuring runs."""
