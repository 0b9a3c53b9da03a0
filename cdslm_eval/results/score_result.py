"""The result of a scoring run: estimates, failures, the n-grams and clips behind them, and the settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.errors import UsageError, did_you_mean
from cdslm_eval.results import export
from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import UNKNOWN, format_number, to_json
from cdslm_eval.results.over_time import Track
from cdslm_eval.results.quotation import quotation, quoted, recorded_citations
from cdslm_eval.results.recognition_gain import RecognitionGain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Exemplar", "Failure", "NgramContribution", "ScoreResult", "Take", "grids"]

_FORMAT = "cdslm-eval score result"


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip that was not scored under a metric, and why."""

    system: str
    clip: str
    metric: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramContribution:
    """An n-gram's part in a system's divergence.

    Attributes:
        system: The system.
        order: n.
        ngram: Its phones.
        generated, reference: Its probability on each side.
        bits: Its contribution to the plug-in divergence.
        clips: Keys of clips that hold it: the system's where it is over-used, the reference's where under-used.
    """

    system: str
    order: int
    ngram: tuple[str, ...]
    generated: float
    reference: float
    bits: float
    clips: tuple[str, ...] = ()

    @property
    def overused(self) -> bool:
        """Whether it is more frequent in the system than in real speech."""
        return self.generated > self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A clip to listen to.

    Attributes:
        system: The system.
        rank: "best", "middle", "worst", or "copy" of a reference clip.
        key: The clip.
        path: Its audio file.
        score: What it was chosen by; higher is more reference-like.
        measure: What the score is, with its unit.
        phones: Phones that were recognized in it.
        original: Audio file of the reference clip that it copies, or "".
    """

    system: str
    rank: str
    key: str
    path: str
    score: float
    measure: str = "bits, mean log2-odds of being reference speech"
    phones: tuple[str, ...] = ()
    original: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A clip whose key other systems have too, to listen to next to theirs.

    Attributes:
        key: The key.
        system: The system; "" for the prompt that they continue.
        path: Its audio file.
        prompt_seconds: Length of the prompt at its beginning, where it is known to hold one.
    """

    key: str
    system: str
    path: str
    prompt_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ScoreResult:
    """Everything that `score` knows at its end.

    Attributes:
        estimates: In the order of the systems, then of the metrics.
        failures: Every clip that was not scored, per metric.
        contributions: n-grams behind the divergences.
        exemplars: Clips to listen to.
        warnings: Sentences that a reader of the numbers must know.
        settings: What was requested, versions, digests of the sets.
        channel: The channels of the sets, where they were measured next to a divergence.
        real: What the reference itself scores under metrics that compare with nothing.
        takes: Clips of the keys that all systems share, key by key.
        recognition_gain: What recognition leaves of divergences inside the reference, where that has texts.
        over_time: Values by position in the clip, where windows were measured.
        citations: Papers and programs behind the metrics and what they read.
        clip_paths: (set, key) -> audio file of the clips that contributions name; the reference is "reference".
    """

    estimates: tuple[Estimate, ...]
    failures: tuple[Failure, ...] = ()
    contributions: tuple[NgramContribution, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    channel: ChannelReport | None = None
    real: tuple[Estimate, ...] = ()
    takes: tuple[Take, ...] = ()
    recognition_gain: tuple[RecognitionGain, ...] = ()
    over_time: tuple[Track, ...] = ()
    citations: tuple[Citation, ...] = ()
    clip_paths: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = list(dict.fromkeys(estimate.name for estimate in self.estimates))
        shown = ", ".join(names[:6]) + (f", +{len(names) - 6} more" if len(names) > 6 else "")
        return f"<ScoreResult of {', '.join(self.systems)}: {shown}; {len(self.failures)} clip results missing>"

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, in order."""
        return tuple(dict.fromkeys(estimate.system for estimate in self.estimates))

    def estimate(self, name: str, system: str | None = None) -> Estimate:
        """Return one value.

        Args:
            name: Name of the value, such as "pjsd_2".
            system: Whose; None where there is one system.

        Raises:
            UsageError: Nothing of that name was measured, or of several systems none was named.
        """
        matches = [e for e in self.estimates if e.name == name and system in (None, e.system)]
        if len(matches) != 1:
            names = dict.fromkeys(estimate.name for estimate in self.estimates)
            what = "several systems have" if matches else "no system has"
            hint = did_you_mean(name, names) if not matches else f" Name one of {', '.join(self.systems)}."
            raise UsageError(f"{what} a value {name!r}.{hint}")
        return matches[0]

    def as_json(self) -> dict[str, Any]:
        """Return what `score --json` writes."""
        return {
            "estimates": [estimate.as_json() for estimate in self.estimates],
            "failures": to_json(self.failures),
            "contributions": [
                {**to_json(contribution), "overused": contribution.overused} for contribution in self.contributions
            ],
            "warnings": list(self.warnings),
            **({"real": [estimate.as_json() for estimate in self.real]} if self.real else {}),
            **({"channel": self.channel.as_json()} if self.channel is not None else {}),
            **({"recognition_gain": to_json(self.recognition_gain)} if self.recognition_gain else {}),
            **({"over_time": to_json(self.over_time)} if self.over_time else {}),
            "quote": self.quote(),
            "settings": dict(self.settings),
        }

    def quote(self) -> dict[str, Any]:
        """Return what can be pasted into a paper: a sentence per system and metric, citations, their BibTeX."""
        version = str(self.settings.get("versions", {}).get("cdslm_eval", ""))
        return quotation(quoted(self.estimates, version), self.citations, version)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per estimate, with every field; unknown numbers are NaN. Needs pandas."""
        return export.frame([estimate.as_json() for estimate in self.estimates])

    def to_latex(self, names: Sequence[str] | None = None) -> str:
        """Return booktabs tables, one per metric, with a row per system.

        Args:
            names: The values to show, such as ("pjsd_1", "pjsd_2"); all by default.

        Raises:
            UsageError: Nothing of such a name was measured.
        """
        return export.latex(grids(self, names))

    def _repr_html_(self) -> str:
        return export.html(grids(self))

    def save(self, path: Path | str) -> Path:
        """Write the result as JSON, with all that `load` needs, and return the path."""
        document = {
            "format": _FORMAT,
            **self.as_json(),
            "exemplars": to_json(self.exemplars),
            "takes": to_json(self.takes),
            "clip_paths": [[*key, path] for key, path in self.clip_paths.items()],
        }
        return export.save(path, document)

    @classmethod
    def load(cls, path: Path | str) -> ScoreResult:
        """Read what `save`, `score --json` or a report's `result.json` holds.

        Raises:
            UsageError: The file is absent, or is no result of this version.
        """
        document = export.load(path, "a result of score", ("estimates", "settings"), _FORMAT)
        contributions = [
            {name: value for name, value in contribution.items() if name != "overused"}
            for contribution in document.pop("contributions", [])
        ]
        document.pop("format", None)
        paths = document.pop("clip_paths", [])
        citations = recorded_citations({"quote": document.pop("quote", None)})
        try:
            for name in ("estimates", "real"):
                document[name] = [dataclasses.asdict(Estimate.from_json(record)) for record in document.get(name, [])]
        except (TypeError, AttributeError) as error:
            raise UsageError(f"{path}: estimates: {error}; the file is damaged or of another version") from error
        result = export.build(cls, {**document, "contributions": contributions, "citations": citations}, path)
        return dataclasses.replace(result, clip_paths={(owner, key): file for owner, key, file in paths})


def grids(result: ScoreResult, names: Sequence[str] | None = None) -> list[export.Grid]:
    """Return one table per metric: a row per system, a column per value with its interval.

    Args:
        result: What was scored.
        names: The values to show; all by default.

    Raises:
        UsageError: Nothing of such a name was measured.
    """
    known = list(dict.fromkeys(estimate.name for estimate in result.estimates))
    if names is not None and (unknown := [name for name in names if name not in known]):
        raise UsageError(f"no system has a value {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
    made = []
    for metric in dict.fromkeys(estimate.metric for estimate in result.estimates):
        own = [e for e in result.estimates if e.metric == metric and (names is None or e.name in names)]
        if not own:
            continue
        columns = {e.name: f"{e.name} {_ARROWS[e.better]}".rstrip() for e in own}
        units = sorted({e.unit for e in own if e.unit})
        cells = {(e.system, e.name): str(e.headline()) for e in own}
        rows = tuple((system, *(cells.get((system, name), "—") for name in columns)) for system in result.systems)
        measured = {e.name: e for e in result.real}
        real = [
            str(measured[name].headline()) if name in measured else _real_speech([e for e in own if e.name == name])
            for name in columns
        ]
        if any(cell != UNKNOWN for cell in real):
            rows = (("real speech", *real), *rows)
        counts = "; ".join(f"{e.system}: {e.n_scored} clips" for e in {e.system: e for e in own}.values())
        reference = max(e.n_reference for e in own)
        notes = (f"{own[0].identity}; {counts}" + (f"; reference: {reference} clips" if reference else ""),)
        title = f"{metric}{f' [{units[0]}]' if len(units) == 1 else ''}"
        made.append(export.Grid(title, ("system", *columns.values()), rows, notes=notes))
    return made


def _real_speech(estimates: Sequence[Estimate]) -> str:
    """Return what real speech scores against real speech: the floor; 0 where that is taken out or bounds hold."""
    floors = [estimate.floor for estimate in estimates if math.isfinite(estimate.floor)]
    if not floors:
        return UNKNOWN
    low, high = format_number(min(floors), 3), format_number(max(floors), 3)
    floor = low if low == high else f"{low} … {high}"
    return f"0 (floor {floor})" if any(estimate.trust for estimate in estimates) else floor


_ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}
