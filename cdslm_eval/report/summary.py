"""The first screen of a page: which systems are distinguished, how far each is from real speech, one table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.numbers import UNKNOWN, format_number
from cdslm_eval.results.ranking import ranked
from cdslm_eval.results.recognition_gain import gain_lines
from cdslm_eval.results.sample_size import Needed, clips_for_width
from cdslm_eval.results.score_result import ScoreResult
from cdslm_eval.stats.resampling import pooled_error, t_half_width
from cdslm_eval.stats.standing import Standing, standings

__all__ = ["Summary", "SummaryCell", "real_cell", "sentences", "summarise_page"]

_ORDER = re.compile(r"(.*)_(\d+)")
_MAIN_ORDER = 2
_MAX_COLUMNS = 6
"""What fits on a screen; the matrix below has all."""


@dataclass(frozen=True, slots=True)
class SummaryCell:
    """One cell of the summary table.

    Attributes:
        text: The value; the bounds where there is no point.
        interval: Its interval, or "".
        note: Trust, or the kind of number.
        why: Why the number is of this kind, or unknown.
    """

    text: str
    interval: str = ""
    note: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The first screen.

    Attributes:
        main: The value that orders the page.
        systems: The systems in that order.
        sentences: The answer in words.
        columns: (value name, unit, arrow) of the table.
        real: Cells of the row of real speech.
        rows: (system, cells, clips) of the others.
    """

    main: str
    systems: tuple[str, ...]
    sentences: tuple[str, ...]
    columns: tuple[tuple[str, str, str], ...]
    real: tuple[SummaryCell, ...]
    rows: tuple[tuple[str, tuple[SummaryCell, ...], str], ...]

    @property
    def has_real(self) -> bool:
        """Whether anything is known of real speech."""
        return any(cell.text != UNKNOWN for cell in self.real)


def summarise_page(result: ScoreResult) -> Summary | None:
    """Return the first screen of a result; None where nothing was estimated."""
    by_name: dict[str, list[Estimate]] = {}
    for estimate in result.estimates:
        by_name.setdefault(estimate.name, []).append(estimate)
    names = _headline_names(by_name)[:_MAX_COLUMNS]
    if not names:
        return None
    main = names[0]
    order = [estimate.system for estimate in ranked(by_name[main])]
    order += [system for system in result.systems if system not in order]
    cells = {(estimate.system, estimate.name): estimate for estimate in result.estimates}
    first = {name: by_name[name][0] for name in names}
    real = {estimate.name: estimate for estimate in result.real}
    rows = []
    for system in order:
        estimates = [cells.get((system, name)) for name in names]
        known = [estimate for estimate in estimates if estimate is not None]
        rows.append((system, tuple(_cell(estimate) for estimate in estimates), _clips(known)))
    return Summary(
        main=main,
        systems=tuple(order),
        sentences=(*sentences(by_name[main]), *(f"{_capital(line)}." for line in gain_lines(result.recognition_gain))),
        columns=tuple((name, first[name].unit, _arrow(first[name])) for name in names),
        real=tuple(real_cell(by_name[name], real.get(name)) for name in names),
        rows=tuple(rows),
    )


def _headline_names(by_name: dict[str, list[Estimate]]) -> list[str]:
    """Return the values of the first screen, the main one first: of orders one each, those without a good side last."""
    families: dict[str, list[str]] = {}
    for name, estimates in by_name.items():
        match = _ORDER.fullmatch(name)
        is_order = match is not None and any(estimate.interval == "bounds" for estimate in estimates)
        families.setdefault(match[1] if match and is_order else name, []).append(name)
    chosen = []
    for family, names in families.items():
        wanted = f"{family}_{_MAIN_ORDER}"
        chosen.append(wanted if wanted in names else names[0])
    return sorted(
        chosen,
        key=lambda name: (
            # one number for all systems distinguishes none
            len({estimate.value for estimate in by_name[name]}) == 1 < len(by_name[name]),
            by_name[name][0].better == "neither",
            not _is_calibrated(by_name[name]),
        ),
    )


def _is_calibrated(estimates: Sequence[Estimate]) -> bool:
    return any(estimate.trust for estimate in estimates)


def _arrow(estimate: Estimate) -> str:
    return {"lower": "↓", "higher": "↑"}.get(estimate.better, "")


def _clips(estimates: Sequence[Estimate]) -> str:
    if not estimates:
        return UNKNOWN
    most = max(estimates, key=lambda estimate: estimate.n_scored)
    return f"{most.n_scored}/{most.n_failed}/{most.n_skipped}"


def real_cell(estimates: Sequence[Estimate], real: Estimate | None) -> SummaryCell:
    """Return what real speech scores: itself, or against real speech, which is the floor at this sample size."""
    if real is not None:
        return _cell(real)
    floors = [estimate.floor for estimate in estimates if math.isfinite(estimate.floor)]
    if not floors:
        return SummaryCell(UNKNOWN, why="this metric is not measured on the reference")
    low, high = format_number(min(floors), 3), format_number(max(floors), 3)
    floor = low if low == high else f"{low} … {high}"
    # a corrected value has the floor taken out, and bounds hold for the true divergence: real speech is at 0 there
    return SummaryCell("0", note=f"floor {floor}") if _is_calibrated(estimates) else SummaryCell(floor, note="floor")


def _cell(estimate: Estimate | None) -> SummaryCell:
    if estimate is None:
        return SummaryCell(UNKNOWN, why="not measured")
    headline = estimate.headline()
    if not headline.known:
        return SummaryCell(UNKNOWN, why=headline.why or estimate.reason)
    note = estimate.trust.replace("_", " ") or ("" if headline.kind == "value" else headline.kind)
    if not math.isfinite(headline.value):
        return SummaryCell(headline.interval, "", note, headline.why)
    interval = headline.interval if math.isfinite(headline.low) or math.isfinite(headline.high) else ""
    return SummaryCell(format_number(headline.value, headline.decimals), interval, note, headline.why)


def sentences(estimates: Sequence[Estimate]) -> list[str]:
    """Return the answer in words: which systems a value distinguishes, and whether they are as real speech is.

    Args:
        estimates: Of one value, all systems.
    """
    known = [estimate for estimate in ranked(estimates) if estimate.headline().known]
    if not known:
        return [f"No system has a known {estimates[0].name}: {estimates[0].reason or 'no clip was scored'}."]
    fair = [estimate for estimate in known if not estimate.outside]
    answers = [_order_sentence(fair)] if len(fair) > 1 and known[0].better != "neither" else [_single(fair or known)]
    apart = [f"{estimate.system} is not ranked: {estimate.outside}." for estimate in known if estimate.outside]
    return [*answers, *apart, *_distance_sentences(fair)]


def _single(known: Sequence[Estimate]) -> str:
    parts = (f"{estimate.system} {estimate.headline()}" for estimate in known)
    unit = f" {known[0].unit}" if known[0].unit else ""
    return f"{known[0].name}: {'; '.join(parts)}{unit}."


def _order_sentence(known: Sequence[Estimate]) -> str:
    """Name the systems that share the best place, and how many clips would tell the closest two apart."""
    places: dict[str, Standing] = {system: standing for (system, _), standing in standings(known).items()}
    best, name = known[0], known[0].name
    ties = [estimate for estimate in known[1:] if estimate.system in places[best.system].ties]
    clips = min(estimate.n_scored for estimate in known)
    if not ties:
        rest = _listed([estimate.system for estimate in known[1:]])
        return f"{best.system} is the best under {name}, shown to be better than {rest}."
    group = _listed([best.system, *(estimate.system for estimate in ties)])
    needed = _needed(best, ties[0])
    hint = ""
    if needed:
        grown = f"a reference of about {needed.reference} clips and " if needed.reference else ""
        hint = f"; {grown}about {needed.more} more each would do for the first two, if the values stay"
    tail = ""
    if len(ties) < len(known) - 1:
        others = [e.system for e in known[1:] if e.system not in places[best.system].ties]
        tail = f" {best.system} is shown to be better than {_listed(others)}."
    return f"{group} are not distinguished by {name} at {clips} clips{hint}.{tail}"


def _needed(a: Estimate, b: Estimate) -> Needed | None:
    """Return which clips would show the present difference of two systems; None where that is not known."""
    one, two = a.headline(), b.headline()
    if one.kind == "bounds" or two.kind == "bounds":
        return None
    half = t_half_width(*pooled_error((a.se, b.se), (a.degrees, b.degrees)))
    distance = abs(one.value - two.value)
    if not half > 0 or not distance > 0:
        return None
    # ranks take both systems as independent, with the reference's share in each
    share = max(a.reference_share, b.reference_share) if a.n_reference else 0.0
    shrink = distance / half
    return clips_for_width(shrink, min(a.n_scored, b.n_scored), a.n_reference, share)


def _distance_sentences(known: Sequence[Estimate]) -> list[str]:
    """Name the systems that are further from real speech than real speech is from itself."""
    corrected = [estimate for estimate in known if estimate.headline().kind == "corrected"]
    bounded = [estimate for estimate in known if estimate.headline().kind == "bounds"]
    lines = []
    acoustic = [estimate.system for estimate in corrected if estimate.trust == "acoustic"]
    far = [e.system for e in corrected if e.headline().low > 0 and e.trust != "acoustic"]
    near = [estimate.system for estimate in corrected if not estimate.headline().low > 0]
    if far:
        verb = "is" if len(far) == 1 else "are"
        lines.append(f"{_listed(far)} {verb} further from real speech than real speech is from itself.")
    if acoustic:
        verb = "is" if len(acoustic) == 1 else "are"
        lines.append(
            f"{_listed(acoustic)} {verb} no further from real speech than their channel alone takes it; "
            "compare the matched values."
        )
    if near:
        verb = "is" if len(near) == 1 else "are"
        lines.append(f"{_listed(near)} {verb} not shown to differ from real speech (no proof of likeness).")
    if bounded:
        names = _listed([estimate.system for estimate in bounded])
        lines.append(f"For {names} there is too little speech for a point value: only bounds hold.")
    return lines


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _listed(names: Sequence[str]) -> str:
    """Join names as English does; many are counted."""
    if len(names) > 5:
        return f"{', '.join(names[:4])} and {len(names) - 4} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
