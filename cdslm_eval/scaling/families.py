"""Families: groups of runs fitted each and jointly with shared exponents, and the compute one needs against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cdslm_eval.core.errors import UnknownNameError, UsageError
from cdslm_eval.scaling.axis import Axis, make_axis
from cdslm_eval.scaling.bootstrap import Bootstrap
from cdslm_eval.scaling.fit import LawFit, fit_law
from cdslm_eval.scaling.flags import distrusted
from cdslm_eval.scaling.frontier import Resampling
from cdslm_eval.scaling.isoflop import IsoFlops, fit_isoflops
from cdslm_eval.scaling.joint import JointFit, joint_fits
from cdslm_eval.scaling.law import LawSpec
from cdslm_eval.scaling.multiplier import Multiplier, multiplier
from cdslm_eval.scaling.rows import usable_rows
from cdslm_eval.scaling.table import Excluded, RunTable

__all__ = ["Families", "Member", "fit_families", "plausible", "probability"]

Floats = npt.NDArray[np.float64]
_LEVEL, _LEAST_P = 0.01, 1e-16


def probability(p: float) -> str:
    """Return a probability in words: "= 0.02", or "< 1e-16" where its digits mean nothing."""
    return f"= {p:.1g}" if p >= _LEAST_P else f"< {_LEAST_P:g}"


@dataclass(frozen=True, eq=False)
class Member:
    """A group by itself; a part that cannot be computed is None, with its reason in `missing`.

    Attributes:
        name: The group's text in the column.
        table: Its rows.
        fit, bootstrap: Its own law and replicates.
        isoflops: Its budgets, each by itself.
        missing: Why the law or the budgets are None, or "".
    """

    name: str
    table: RunTable
    fit: LawFit | None = None
    bootstrap: Bootstrap | None = None
    isoflops: IsoFlops | None = None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Families:
    """Groups of a table, each by itself and together.

    Attributes:
        metric, column: The metric, and the column that names the groups.
        spec: Which law, and how.
        level: Of the intervals.
        members: Each group.
        table: All rows that are of a group.
        excluded: Rows that are not used, and why.
        joint: The joint fits, from one law for all to a law of each group.
        chosen: The joint fit of least criterion; None where none could be made.
        compared: The joint fit behind the multipliers: the best of those that tell groups apart.
        why: Why that one, and what follows for the multipliers; "" without.
        multipliers: Of every other group against the first, or the one that was named.
        missing: Why there is no joint fit, or "".
    """

    metric: str
    column: str
    spec: LawSpec
    level: float
    members: tuple[Member, ...]
    table: RunTable
    excluded: tuple[Excluded, ...] = ()
    joint: tuple[JointFit, ...] = ()
    chosen: JointFit | None = None
    compared: JointFit | None = None
    why: str = ""
    multipliers: tuple[Multiplier, ...] = ()
    missing: str = ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why what groups need is not to be trusted, of each group whose own law does not fit its rows."""
        laws = [(m.name, distrusted(m.fit.flags, within=True)) for m in self.members if m.fit is not None]
        return tuple(f"of {name}, {'; '.join(flag.sentence for flag in flags)}" for name, flags in laws if flags)

    @property
    def headline(self) -> str:
        """The first line."""
        text = f"NOT TO BE TRUSTED: {'; '.join(self.doubts)}. " if self.doubts else ""
        text += f"{len(self.members)} groups of {self.column!r}, {sum(len(m.table) for m in self.members)} rows"
        if self.chosen is None:
            return f"{text}: no joint fit ({self.missing})"
        p = self.joint[0].p
        differ = "they follow one law" if self.chosen.shared == "all" else f"shared: {self.chosen.shared}"
        apart = f"one law for all is {'' if p < _LEVEL else 'not '}refused (p {probability(p)})"
        if self.joint[0].unknown:
            apart = f"NOT TO BE TRUSTED: {self.joint[0].unknown}"
        parts = [f"{text}: {differ} (by AICc); {apart}", *(multiplier.sentence for multiplier in self.multipliers[:3])]
        return "; ".join(parts)


def fit_families(
    table: RunTable,
    metric: str,
    column: str,
    spec: LawSpec | None = None,
    resampling: Resampling | None = None,
    *,
    against: str | None = None,
    at: Sequence[float] = (),
    law: bool = True,
) -> Families:
    """Fit the groups of a column each by itself, jointly, and compare the compute that they need.

    Four joint fits share all, E and exponents, exponents, or nothing; the least corrected Akaike criterion chooses,
    with the objective in the unit in which it is a likelihood. The multiplier of two groups is the ratio of the budgets
    whose optima are equally good; with E and exponents shared it is (A'/A)^(1/alpha) (B'/B)^(1/beta) at every budget.

    Args:
        table: The runs; rows of split "test", and those whose cell in the column is empty, are left out.
        metric: Name of the metric.
        column: Column of the groups, or several, as "dataset,decay".
        spec: The law; None takes the defaults.
        resampling: How intervals are made; rows are drawn within each group.
        against: The group with which the others are compared; None takes the first in the table.
        at: Values of the metric at which multipliers are stated besides; none takes three within the data.
        law: Whether laws are fitted; else only the budgets of each group.

    Raises:
        UnknownNameError: No such metric, column or group.
        UsageError: The column holds one text only.
    """
    spec, how = spec or LawSpec(), resampling or Resampling()
    table = _of_groups(table, column)
    texts = table.labels_of(column)
    # in the order of the table, so that the first is what the writer of the table put first
    names = [str(name) for name in dict.fromkeys(texts.tolist())]
    if len(names) < 2:
        raise UsageError(f"{table.source}: every row has {column} = {names[0]}; --group needs two groups at least")
    if against is not None and against not in names:
        raise UnknownNameError(f"group of {column!r}", against, names)
    values = table.metric(metric)
    axis = make_axis(spec.linked(), values[np.isfinite(values)], spec.better, spec.bounds)
    spec = replace(spec, link=axis.link.name)
    members = tuple(_member(table.select(texts == name), name, metric, spec, how, law=law) for name in names)
    usable = usable_rows(table, metric, axis)
    families = Families(metric, column, spec, how.level, members, table, usable.excluded)
    if not law:
        return replace(families, missing="no law was requested")
    try:
        return _joined(families, usable, axis, how, against or names[0], at)
    except UsageError as error:
        return replace(families, missing=str(error))


def _of_groups(table: RunTable, column: str) -> RunTable:
    """Return the rows of which every column of groups has a value; the others are listed in `excluded`."""
    for name in (part.strip() for part in column.split(",")):
        # a column of numbers has NaN where a cell is empty
        named = ~np.isin(np.char.lower(table.labels_of(name)), ["", "nan"])
        if not named.any():
            raise UsageError(f"{table.source}: no row has a value of {name!r}, by which --group would group them")
        if not named.all():
            table = table.select(named, f"{name} is empty, so that the row is of no group")
    return table


def _member(table: RunTable, name: str, metric: str, spec: LawSpec, how: Resampling, *, law: bool) -> Member:
    missing = []
    fit = draws = isoflops = None
    try:
        if law:
            fit = fit_law(table, metric, spec)
            draws = how.draws(fit)
    except UsageError as error:
        missing.append(str(error))
    try:
        isoflops = fit_isoflops(table, metric, bounds=spec.bounds, better=spec.better, link=spec.link, seed=how.seed)
    except UsageError as error:
        missing.append(str(error))
    return Member(name, table, fit, draws, isoflops, "; ".join(missing))


def _joined(
    families: Families, rows: RunTable, axis: Axis, how: Resampling, against: str, at: Sequence[float]
) -> Families:
    """Return the families with their joint fits and multipliers."""
    train = rows.select(rows.split == "train")
    members = {member.name: member for member in families.members}
    names = list(members)
    label = np.array([names.index(text) for text in train.labels_of(families.column).tolist()], np.intp)
    starts = {name: None if m.fit is None else m.fit.parameters for name, m in members.items()}
    fits = joint_fits(train, families.metric, starts, label, axis, families.spec, how)
    chosen = min(fits, key=lambda fit: fit.criterion)
    apart = [fit for fit in fits if fit.shared != "all"]
    compared = min(apart, key=lambda fit: fit.criterion) if apart else chosen
    multipliers = tuple(
        multiplier(
            plausible(fits, compared),
            name,
            against,
            member.table,
            members[against].table,
            how.level,
            at,
            metric=families.metric,
            unknown=compared.unknown,
        )
        for name, member in members.items()
        if name != against
    )
    why = _why(compared, fits)
    return replace(families, joint=fits, chosen=chosen, compared=compared, why=why, multipliers=multipliers)


def plausible(fits: Sequence[JointFit], compared: JointFit) -> list[JointFit]:
    """Return the fit that groups are compared by, and the others that have replicates."""
    return [compared, *(fit for fit in fits if fit.draws and fit is not compared)]


def _why(compared: JointFit, fits: Sequence[JointFit]) -> str:
    """Return why the groups are compared by that fit, and whether the multiplier is one number."""
    others = [fit for fit in fits if fit.shared not in {"all", compared.shared}]
    above = ", ".join(f"{fit.shared} +{fit.criterion - compared.criterion:.1f}" for fit in others)
    text = f"compared by the fit in which groups share {compared.shared}"
    if others:
        text += f": of those that tell groups apart it has the least AICc ({above})"
    doubtful = [fit.shared for fit in plausible(fits, compared)[1:]]
    if doubtful:
        text += f"; intervals hold those of the fits within 7 of it as well ({', '.join(doubtful)})"
    if compared.shared == "E and exponents":
        ends = ", though not its interval" if doubtful else ""
        return f"{text}; a multiplier is then the same at every value of the metric{ends}"
    return text if compared.shared == "all" else f"{text}; a multiplier then depends on the value of the metric"
