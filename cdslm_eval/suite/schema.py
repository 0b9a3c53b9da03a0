"""The schema of suite files: sets, systems, metrics, gates, budgets; reads a file into its model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cdslm_eval.core import defaults
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.toml import Problems, parse_toml, read_text, validate

__all__ = [
    "BudgetSpec",
    "GateSpec",
    "ReferenceSpec",
    "RunSpec",
    "SetSpec",
    "Suite",
    "SuiteSpec",
    "SystemSpec",
    "json_schema",
    "load_suite",
    "parse_suite",
]

Undecided = Literal["fail", "pass"]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SetSpec(_Table):
    """A set of clips: existing files, or those that a generator writes."""

    path: str | None = None
    """Directory, manifest (.jsonl .csv .tsv) or Kaldi wav.scp, relative to the suite file."""
    speakers_from: str | None = None
    """Read the speakers of a path's clips from their file names, such as "spk-chapter-utt", or from the "folder"."""
    ignore_columns: list[str] = []
    """Columns of the manifest (of a path, or of prompts) that are passed over; names or patterns such as "meta_*"."""
    allow_truncated: bool = False
    """Score files of the path that end before their header says as far as they go; else these clips fail."""
    generator: str | None = None
    """Generator with options as on the command line, such as "babble:2"; instead of `path`."""
    options: dict[str, str | int | float | bool] = {}
    """Further options of the generator; a text that starts with ./ or ../ is a path relative to the suite file."""
    count: int | None = Field(default=None, ge=1)
    """Number of clips that the generator writes; default: the suite's."""
    seconds: float | None = Field(default=None, gt=0)
    """Their length in seconds; default: the suite's."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the generator; default: the suite's."""
    prompts: str | None = None
    """Clips that it continues or learns from: a reference, a system, or a path; default: the system's reference."""

    @model_validator(mode="after")
    def _one_origin(self) -> SetSpec:
        if (self.path is None) == (self.generator is None):
            raise ValueError("a set has either a path or a generator")
        if self.path is not None and (self.options or self.count or self.seconds or self.seed or self.prompts):
            raise ValueError("options, count, seconds, seed and prompts are for generators; this set has a path")
        for key in ("speakers_from", "allow_truncated"):
            if self.path is None and getattr(self, key):
                raise ValueError(f"{key} is for sets with a path; this set has a generator")
        return self


class ReferenceSpec(SetSpec):
    """Real speech that systems are compared with."""


class SystemSpec(SetSpec):
    """A system under test."""

    reference: str | None = None
    """Name of its reference set; default: the suite's."""
    baseline: str | None = None
    """The system that `baseline` refers to in gates on this one; default: the suite's."""


class GateSpec(_Table):
    """A condition on a value, judged on its confidence bound."""

    gate: str
    """Such as "pjsd_2.high < 0.35", "dnsmos_ovrl >= baseline - 0.1", "pjsd_2 <= recorded + 0.02"."""
    systems: list[str] | None = None
    """Systems that it applies to; default: all (but not a baseline against itself)."""
    name: str | None = None
    """Its name in reports; default: the condition."""
    undecided: Undecided | None = None
    """How it counts when the interval includes the bound; default: the suite's."""
    baseline: str | None = None
    """The baseline system of this gate; default: the system's."""


class BudgetSpec(_Table):
    """Limits of a run: failed clips and time per clip."""

    failures: float = Field(default=0.05, ge=0, le=1)
    """Share of clips (0..1) that may fail under a metric before exit code 1."""
    strict: bool = False
    """No clip may fail or be skipped."""
    clip_seconds: float = Field(default=120.0, gt=0)
    """Seconds that one clip may take under a metric before it is stopped."""


class RunSpec(_Table):
    """Where metrics are measured."""

    executor: str = "local"
    """Executor with options, such as "local"."""
    jobs: int = Field(default=0, ge=0)
    """Worker processes; 0: one per processor."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for metrics with a model."""


class SuiteSpec(_Table):
    """A benchmark suite of cdslm-eval."""

    name: Name
    """Name of the suite in reports."""
    seed: int = Field(default=0, ge=0)
    """Seed of every interval, draw, fold and generator."""
    recognizer: str = defaults.RECOGNIZER
    """Recognizer that provides phones: NAME or NAME:key=value; auto: phone-ctc if usable, else pocketsphinx."""
    transcriber: str | None = None
    """Transcriber for the metrics that read transcripts: NAME or NAME:key=value."""
    channel: bool | None = None
    """Put references through the systems' channels (acoustic floor, matched value); default: where a gate reads
    `matched`, or the recognizer is as fast as phone-ctc."""
    reference: str | None = None
    """The reference set of systems that name none; default: the only one there is."""
    baseline: str | None = None
    """The baseline of systems that name none."""
    undecided: Undecided = "fail"
    """How a gate counts whose interval includes its bound."""
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
    """Conditions that the run is judged by."""
    budget: BudgetSpec = BudgetSpec()
    """Limits of the run."""
    run: RunSpec = RunSpec()
    """Where metrics are measured."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite file and its content.

    Attributes:
        spec: Its content.
        path: The file; relative paths in it start from its folder.
        text: Its text.
    """

    spec: SuiteSpec
    path: Path
    text: str

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.resolve().parent

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def limited_executor(self, memory_gb: float | None) -> str:
        """Return the executor with a memory limit in GiB for each worker, as a spec; "" where there is none to set.

        Raises:
            UsageError: The suite's executor is not "local".
        """
        if memory_gb is None:
            return ""
        name = self.spec.run.executor.partition(":")[0]
        if name != "local":
            raise UsageError(f"{self.path}: run.executor is {name!r}; a memory limit is for the executor 'local' only")
        return f"local:memory_gb={memory_gb}"


def load_suite(path: Path | str) -> Suite:
    """Read a suite file.

    Raises:
        UsageError: It cannot be read, is not TOML, or does not fit the schema; every problem has its line and key.
    """
    path = Path(path)
    return parse_suite(read_text(path, "suite file"), path)


def parse_suite(text: str, path: Path) -> Suite:
    """Parse the text of a suite file.

    Raises:
        UsageError: It is not TOML, or does not fit the schema; every problem has its line and key.
    """
    data = parse_toml(text, path)
    return Suite(validate(SuiteSpec, data, Problems(path, text)), path, text)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of suite files, for editors."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **SuiteSpec.model_json_schema(), "title": "cdslm-eval suite"}
