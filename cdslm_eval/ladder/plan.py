"""The plan of a ladder: a TOML file of systems, sizes, budgets, and how they are scored."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cdslm_eval.core import defaults
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.scaling.columns import ROLES, usual

__all__ = ["Family", "Fit", "Generation", "Plan", "Preparation", "Scoring", "read_plan"]


_COLUMNS = frozenset(
    {
        "run", "row", "system", "size", "budget", "seed", "val_loss", "val_loss_se", "steps", "epochs", "unique_tokens",
        "six_nd", "line", "lines", "loss",
    }
)  # fmt: skip
"""Columns of every table, and what rules call its lines and val_loss: names that no axis may take."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preparation(_Table):
    """Something made once for all runs: shards of features.

    Attributes:
        name: Its folder is `{NAME}` in later commands.
        command: What makes it; `{out}` is its folder.
        minutes, gigabytes: What it is expected to take, for the costs of what is not made yet.
        speech_hours: Hours of speech in it: epochs of what is trained on it, before it is made.
        if_installed: Whether it is left out where there is no such command.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    command: str
    minutes: float | None = Field(default=None, ge=0)
    gigabytes: float | None = Field(default=None, ge=0)
    speech_hours: float | None = Field(default=None, gt=0)
    if_installed: bool = False


class Family(_Table):
    """Models of one kind that differ in size and training compute.

    Attributes:
        name: Its name in the table.
        train: The command; `{size}`, `{budget}` (FLOPs), `{seed}`, `{device}` and `{run}` (its folder) are filled in.
            The same command again must continue where it stopped, and at its end there must be `{run}/result.json` with
            `parameters`, `tokens`, `flops` and `val_loss`; `steps`, `epochs`, `unique_tokens` and `six_nd` are copied
            into the table where it has them.
            With `{budgets}` instead of `{budget}` one command trains a size at all budgets, as branches of one run: its
            word is repeated per budget (`--target-flops={budgets}`), and `result.json` is that of the largest, with a
            list `branches` of the others, each with its `folder` relative to `{run}`.
        plan_option: The option that makes `train` print, as JSON, what it would cost, and train nothing: an object with
            `parameters`, `tokens`, `flops`, `steps`, `epochs`, `speech_hours` (that it draws), `bytes` (on disk, at its
            end), `rate_hz` (of what it will generate), `evaluation_flops` (of the network, once, over one window) and
            `evaluation_seconds` (of speech that a window generates), each a number, or null or absent where not known;
            with branches `training_flops` (all of them) and optionally `branches`, such an object for each budget with
            `training_flops` and `bytes` of all up to it. "" where there is none.
        generator: Name of the generator with options; `{run}` (the folder of the run or branch) and the axes of
            generation are filled in.
        sizes: What `{size}` takes.
        budgets: What `{budget}` takes, in FLOPs.
        seeds: What `{seed}` takes: as many models of each size and budget; the plan's seed where empty.
        by_size, by_budget: Further placeholders, each with a value per size or per budget: a batch size, a rate.
        min_steps, max_epochs: A model of fewer training steps, or that sees its speech more often, is no evidence
            about scaling. Checked where `plan_option` reports them.
        out_of_bounds: What happens to such a model: the ladder is refused, it is left out with a note, or trained.
        minutes: What each training command is expected to take beyond its FLOPs: start, compilation, validation.
        if_installed: Whether it is left out, with a note, where its command or its generator is not installed;
            otherwise the ladder is refused.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    train: str
    generator: str
    sizes: tuple[int | str, ...] = Field(min_length=1)
    budgets: tuple[float, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = ()
    by_size: Mapping[str, tuple[int | float | str, ...]] = Field(default_factory=dict)
    by_budget: Mapping[str, tuple[int | float | str, ...]] = Field(default_factory=dict)
    if_installed: bool = False
    plan_option: str = ""
    min_steps: int = Field(default=500, ge=0)
    max_epochs: float = Field(default=4.0, gt=0)
    out_of_bounds: Literal["refuse", "omit", "train"] = "refuse"
    minutes: float = Field(default=0.0, ge=0)

    @property
    def places(self) -> list[str]:
        """Placeholders of its training command, in order."""
        return _fields(self.train)

    @property
    def axes(self) -> frozenset[str]:
        """Placeholders of its generator, the axes of generation among them."""
        return frozenset(_fields(self.generator))

    @property
    def is_branched(self) -> bool:
        """Whether one run of a size serves all budgets."""
        return "budgets" in self.places

    @field_validator("budgets")
    @classmethod
    def _positive(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < budget < float("inf") for budget in budgets):
            raise ValueError("budgets are FLOPs, above 0")
        return budgets

    @model_validator(mode="after")
    def _distinct(self) -> Family:
        for what in ("sizes", "budgets", "seeds"):
            values = getattr(self, what)
            if len(set(values)) < len(values):
                raise ValueError(f"{what}: a value stands there twice")
        for what, count in (("by_size", len(self.sizes)), ("by_budget", len(self.budgets))):
            for name, values in getattr(self, what).items():
                if len(values) != count:
                    raise ValueError(f"{what}.{name}: {len(values)} values for {count} {what[3:]}s")
        if self.is_branched and (self.by_budget or "budget" in _fields(self.train)):
            raise ValueError(f"{self.name}.train: with {{budgets}} one run serves all; no value can differ by budget")
        return self


class Generation(_Table):
    """What every trained model generates.

    Attributes:
        prompts: Set of held-out contexts, or None.
        ignore_columns: Columns of its manifest that are passed over, or patterns of them.
        count: Clips of each model.
        seconds: Length of each in seconds.
        axes: Further placeholders of generators, each with several values, such as guidance = [1, 2]: a system whose
            generator names them generates with each combination, and each is a row of the table.
        minutes: What each set of clips is expected to take beyond the network's FLOPs: start, vocoder, writing.
        controls: Generators that are scored next to the models: "noise", "babble:2,text=FILE".
    """

    prompts: str | None = None
    # no part of the text that names the folders of controls: what is not read changes no clip
    ignore_columns: tuple[str, ...] = Field(default=(), repr=False)
    count: int = Field(default=50, ge=1)
    seconds: float = Field(default=10.0, gt=0)
    # as for ignore_columns: controls have none
    axes: Mapping[str, tuple[int | float | str, ...]] = Field(default_factory=dict, repr=False)
    minutes: float = Field(default=0.0, ge=0, repr=False)
    controls: tuple[str, ...] = ()

    @field_validator("axes")
    @classmethod
    def _columns(cls, axes: Mapping[str, tuple[int | float | str, ...]]) -> Mapping[str, tuple[int | float | str, ...]]:
        for name, values in axes.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _COLUMNS or name.startswith("probe_"):
                raise ValueError(f"{name!r} names a column of the table, and cannot be a further one; use another name")
            if roles := [role for role in ROLES if usual(role, [name])]:
                raise ValueError(f"a fit reads a column {name!r} as {roles[0]}; use another name for the axis")
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: needs values, each once")
        return axes


class Scoring(_Table):
    """How the clips are judged.

    Attributes:
        reference: Real speech that no model was trained on, nor chosen by.
        ignore_columns: Columns of its manifest that are passed over, or patterns of them.
        metrics: Names with options.
        if_installed: Further ones, left out with a note where they cannot be used.
        recognizer: The recognizer of phones.
        minutes: What scoring all models is expected to take, and the fits.
    """

    reference: str | None = None
    ignore_columns: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("pjsd", "signal")
    if_installed: tuple[str, ...] = ()
    recognizer: str = defaults.RECOGNIZER
    minutes: float | None = Field(default=None, ge=0)


class Fit(_Table):
    """One `cdslm-eval fit` over the table.

    Attributes:
        metric: A column: "val_loss", "pjsd_2".
        loss: A column, such as "val_loss", through which the metric is fitted too, as `fit downstream` does; its figure
            `ladder` has the loss against compute, and beside it the metric against the loss.
        held_out_from: Budgets from this one on are not fitted but predicted.
        arguments: Further arguments of the command; without `--compute` or `--k` the relation of C to N and D is fitted
            to the table's C.
    """

    metric: str
    loss: str | None = None
    held_out_from: float | None = Field(default=None, gt=0)
    arguments: str = ""


class Plan(_Table):
    """A whole ladder.

    Attributes:
        name: Its name.
        seed: Of generation and intervals, and of training where a system names no seeds.
        devices: What `{device}` takes; models are trained side by side, one per device.
        tflops: Rate of one device in training and generating, for the costs of what is not measured yet.
        paths: Names for places; `{NAME}` in commands and sets. Relative to the plan's folder.
    """

    name: str
    seed: int = 0
    devices: tuple[str, ...] = ()
    tflops: float | None = Field(default=None, gt=0)
    paths: Mapping[str, str] = Field(default_factory=dict)
    prepare: tuple[Preparation, ...] = ()
    systems: tuple[Family, ...] = Field(min_length=1)
    generate: Generation = Generation()
    score: Scoring = Scoring()
    fit: tuple[Fit, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Plan:
        for what, names in (
            ("systems", [family.name for family in self.systems]),
            ("prepare", [step.name for step in self.prepare]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two of {what} have one name")
        known = {*self.paths}
        for step in self.prepare:
            _demand_fields(step.command, known | {"out"}, f"prepare {step.name}")
            known.add(step.name)
        given = {"size", "budget", "budgets", "seed", "run"} | ({"device"} if self.devices else set())
        for family in self.systems:
            values = given | {*family.by_size, *family.by_budget}
            _demand_fields(family.train, known | values, f"{family.name}.train")
            _demand_fields(family.generator, known | {"run", *self.generate.axes}, f"{family.name}.generator")
        for name in self.generate.axes:
            if name in known or not any(name in family.axes for family in self.systems):
                raise ValueError(
                    f"generate.axes.{name}: {'is a path or a step too' if name in known else 'no generator names it'}"
                )
        for template in (self.generate.prompts, self.score.reference, *self.generate.controls):
            _demand_fields(template or "", known, "generate and score")
        return self


def read_plan(path: Path, places: Mapping[str, str] | None = None, devices: Sequence[str] = ()) -> Plan:
    """Read a plan.

    Args:
        path: The TOML file.
        places: Replace entries of its `paths`; relative to the working directory.
        devices: Replace its `devices`.

    Raises:
        UsageError: The file cannot be read, is not TOML, or has a key or value that cannot stand there.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    own = data.get("paths") if isinstance(data.get("paths"), dict) else {}
    unknown = set(places or {}) - set(own or {})
    if unknown:
        name = min(unknown)
        raise UsageError(f"{path}: its [paths] have no {name!r}.{did_you_mean(name, list(own or {}))}")
    if own:
        resolved = {name: str((path.parent / str(folder)).resolve()) for name, folder in own.items()}
        data["paths"] = resolved | {name: str(Path(folder).resolve()) for name, folder in (places or {}).items()}
    if devices:
        data["devices"] = list(devices)
    try:
        return Plan(**data)
    except ValidationError as error:
        raise UsageError(f"{path}: {_problem(error)}") from error


def _problem(error: ValidationError) -> str:
    # a misspelt key also leaves its own missing; the spelling is what the user can fix
    first: Any = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    model: type[BaseModel] = Plan
    for part in first["loc"][:-1]:
        if isinstance(part, str):
            inner: dict[str, type[BaseModel]] = {
                "prepare": Preparation,
                "systems": Family,
                "generate": Generation,
                "score": Scoring,
                "fit": Fit,
            }
            model = inner.get(part, model)
    known = list(model.model_fields)
    return f"{where}: there is no such key.{did_you_mean(str(first['loc'][-1]), known)} Keys: {', '.join(known)}."


def _demand_fields(template: str, known: set[str], where: str) -> None:
    """Refuse a placeholder that nothing fills."""
    for name in _fields(template):
        if name not in known:
            raise ValueError(
                f"{where}: nothing fills {{{name}}}.{did_you_mean(name, sorted(known))} "
                f"Known: {', '.join(sorted(known)) or 'none'}"
            )


def _fields(template: str) -> list[str]:
    """Return the placeholders of a template."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
