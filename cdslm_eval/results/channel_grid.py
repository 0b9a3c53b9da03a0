"""The channels of a run as tables: a row per set, and what each channel explains of the divergences."""

from __future__ import annotations

from collections.abc import Sequence

from cdslm_eval.results.channel import ChannelReport
from cdslm_eval.results.estimate import Estimate
from cdslm_eval.results.export import Grid
from cdslm_eval.results.numbers import format_interval, format_number, format_value

__all__ = ["channel_grids"]

_ORDERS = 2
_COLUMNS = ("system", "band kHz", "SNR dB", "decay dB/s", "dBFS", "phones/s", "posterior")


def channel_grids(report: ChannelReport | None, estimates: Sequence[Estimate]) -> list[Grid]:
    """Return the table of channels, and that of what they explain; none where they were not measured.

    The second has the lowest two orders of a divergence; JSON and CSV hold all.

    Args:
        report: The channels of a run.
        estimates: Its values.
    """
    if report is None:
        return []
    rows = tuple(
        (
            entry.name,
            format_number(entry.bandwidth_hz / 1000, 1),
            format_number(entry.snr_db, 0),
            format_number(entry.decay_db_s, 0),
            format_number(entry.level_dbfs, 0),
            format_number(entry.phones_per_s, 1),
            format_number(entry.confidence, 2),
        )
        for entry in report.sets
    )
    return [Grid("channel, medians over clips", _COLUMNS, rows), _explained(report, estimates)]


def _explained(report: ChannelReport, estimates: Sequence[Estimate]) -> Grid:
    by_name: dict[str, list[Estimate]] = {}
    for estimate in estimates:
        if estimate.acoustics is not None:
            by_name.setdefault(estimate.name, []).append(estimate)
    rows = [
        (
            estimate.system,
            estimate.name,
            format_value(estimate.corrected, estimate.corrected_low, estimate.corrected_high),
            format_interval(own.acoustic_floor_low, own.acoustic_floor_high, 3),
            format_value(own.matched, own.matched_low, own.matched_high),
            f"{format_number(own.audible, 3)} of {format_number(own.audible_clean, 3)}",
            estimate.trust,
        )
        for name in list(by_name)[:_ORDERS]
        for estimate in by_name[name]
        if (own := estimate.acoustics) is not None
    ]
    columns = ("system", "value", "corrected", "acoustic floor", "matched", "backwards", "trust")
    audio = f"{report.clips} reference clips, {report.seconds:.0f} s"
    title = f"what the channel explains: {audio}, through each system's channel"
    return Grid(title, columns, tuple(rows), left=(0, 1, 6), notes=(*_acoustic(estimates), *report.lines()))


def _acoustic(estimates: Sequence[Estimate]) -> list[str]:
    """Return a sentence for each value whose system's channel alone explains it."""
    systems: dict[str, list[str]] = {}
    for estimate in estimates:
        if estimate.trust == "acoustic":
            systems.setdefault(estimate.name, []).append(estimate.system)
    return [
        f"{name} of {', '.join(owners)}: no more than the channel alone makes of real speech; compare matched values"
        for name, owners in systems.items()
    ]
