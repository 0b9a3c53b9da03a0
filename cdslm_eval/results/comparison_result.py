"""ComparisonResult: the differences of two systems as data, a table, JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.results import export
from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.channel_grid import channel_grids
from cdslm_eval.results.differences import Difference
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import decimals_of, format_interval, format_number, format_p, format_value, to_json
from cdslm_eval.results.quotation import quotation, recorded_citations
from cdslm_eval.results.recognition_gain import RecognitionGain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ComparisonResult"]

_FORMAT = "cdslm-eval comparison"
_COLUMNS = ("name", "of", "difference", "95 % interval", "p (Holm)", "detectable", "verdict")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult:
    """Differences of two systems, A - B, one per value.

    Attributes:
        a, b: Names of the systems.
        differences: In the order of the metrics.
        seed: Seed of every draw and fold.
        warnings: Sentences that a reader of the numbers must know.
        citations: Papers and programs behind the metrics and what they read.
        version: Of this package; "" where it is not known.
        unscored: A sentence with the reasons for every set and metric of which no clip was scored.
        estimates: Of both systems under the values that a channel moves, where channels were measured.
        channel: The channels of the sets, where they were measured.
        recognition_gain: What recognition leaves of divergences inside the reference, where that has texts.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    seed: int = 0
    warnings: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    channel: ChannelReport | None = None
    recognition_gain: tuple[RecognitionGain, ...] = ()
    citations: tuple[Citation, ...] = ()
    version: str = ""

    def __repr__(self) -> str:
        return f"<ComparisonResult {self.a} - {self.b}: {len(self.differences)} differences>"

    def difference(self, name: str) -> Difference:
        """Return the difference of one value, such as "pjsd_2".

        Raises:
            UsageError: Nothing of that name was compared.
        """
        for difference in self.differences:
            if difference.name == name:
                return difference
        names = [difference.name for difference in self.differences]
        raise UsageError(f"no difference of {name!r}.{did_you_mean(name, names) or ' Known: ' + ', '.join(names)}")

    def verdict(self, difference: Difference) -> str:
        """Return which system is better under a value, or why that is not known.

        Where the channel alone explains how far the other system is from real speech, the verdict states that.
        """
        if not math.isfinite(difference.p_holm):
            return difference.reason
        if difference.p_holm > 0.05:
            return "no difference shown"
        if difference.better == "neither":
            return "different"
        a_is_better = (difference.difference < 0) == (difference.better == "lower")
        better, other = (self.a, self.b) if a_is_better else (self.b, self.a)
        trusts = {(estimate.system, estimate.name): estimate.trust for estimate in self.estimates}
        acoustic = trusts.get((other, difference.name)) == "acoustic"
        return f"{better} is better{' (acoustic: compare matched)' * acoustic}"

    @property
    def title(self) -> str:
        """What is subtracted from what, and whether clips were paired."""
        if not (self.differences and self.differences[0].paired):
            return f"{self.a} - {self.b} (two samples)"
        left_out = self.differences[0].n_unpaired
        return f"{self.a} - {self.b} (paired by key{f', {left_out} clips without a partner left out' * bool(left_out)})"

    def grid(self) -> export.Grid:
        """Return the table of differences as text cells."""
        rows = []
        for difference in self.differences:
            digits = decimals_of(difference.low, difference.high)
            interval = format_interval(difference.low, difference.high)
            numbers = [format_number(difference.difference, digits), interval, format_p(difference.p_holm)]
            last = [format_number(difference.detectable, digits), self.verdict(difference)]
            rows.append((difference.name, difference.quantity, *numbers, *last))
        return export.Grid(self.title, _COLUMNS, tuple(rows), left=(0, 1, 6), notes=tuple(self._identities()))

    def as_json(self) -> dict[str, Any]:
        """Return what `compare --json` writes."""
        differences = to_json(self.differences)
        return {
            "a": self.a,
            "b": self.b,
            "differences": differences,
            "seed": self.seed,
            **({"estimates": [estimate.as_json() for estimate in self.estimates]} if self.estimates else {}),
            **({"channel": self.channel.as_json()} if self.channel is not None else {}),
            **({"recognition_gain": to_json(self.recognition_gain)} if self.recognition_gain else {}),
            "version": self.version,
            "quote": self.quote(),
        }

    def quote(self) -> dict[str, Any]:
        """Return what can be pasted into a paper: a sentence per known difference, citations, their BibTeX."""
        known = [difference for difference in self.differences if math.isfinite(difference.difference)]
        return quotation([self._sentence(difference) for difference in known], self.citations, self.version)

    def _sentence(self, difference: Difference) -> str:
        value = format_value(difference.difference, difference.low, difference.high)
        unit = f" {difference.unit}" if difference.unit else ""
        p = f", p {_relation(difference.p_holm)} (Holm)" if math.isfinite(difference.p_holm) else ""
        how = "paired" if difference.paired else "two samples"
        subject = f"{self.a} - {self.b}: {difference.name} ({difference.quantity})"
        program = f"cdslm-eval {self.version}".strip()
        return f"{subject} {value}{unit}{p}, {how}, 95 % interval; {difference.identity}; {program}."

    def _identities(self) -> list[str]:
        return list(dict.fromkeys(difference.identity for difference in self.differences))

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per difference, with every field; needs pandas."""
        return export.frame([dataclasses.asdict(difference) for difference in self.differences])

    def to_latex(self) -> str:
        """Return a booktabs table."""
        return export.latex([self.grid(), *channel_grids(self.channel, self.estimates)])

    def _repr_html_(self) -> str:
        return export.html([self.grid(), *channel_grids(self.channel, self.estimates)])

    def save(self, path: Path | str) -> Path:
        """Write the comparison as JSON, for `load`."""
        return export.save(path, {"format": _FORMAT, **self.as_json(), "warnings": list(self.warnings)})

    @classmethod
    def load(cls, path: Path | str) -> ComparisonResult:
        """Read what `save` or `compare --json` wrote.

        Raises:
            UsageError: The file is absent, or is no comparison.
        """
        document = export.load(path, "a comparison", ("a", "b", "differences"), _FORMAT)
        citations = recorded_citations(document)
        fields = {name: value for name, value in document.items() if name not in ("format", "quote")}
        try:
            records = [Estimate.from_json(record) for record in fields.pop("estimates", [])]
        except (TypeError, AttributeError) as error:
            raise UsageError(f"{path}: estimates: {error}; the file is damaged or of another version") from error
        estimates = [dataclasses.asdict(estimate) for estimate in records]
        return export.build(cls, {**fields, "estimates": estimates, "citations": citations}, path)


def _relation(p: float) -> str:
    text = format_p(p)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"
