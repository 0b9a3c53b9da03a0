"""What a user should know of a set of clips before its numbers are believed: one sentence a set and kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cdslm_eval.core.levels import SILENCE_DBFS
from cdslm_eval.core.store import FileFacts
from cdslm_eval.plugin.contract import Metric
from cdslm_eval.run.runner import Measurement

__all__ = ["set_notes", "unnamed_speakers"]

_OVERSHOOT = 1.4
"""Largest peak that lossy codecs reach with sound that was within full scale."""
_DC_OFFSET = 0.05
_CANCELLED = 0.9
"""Share of the channels' energy that the mixdown loses (10 dB) from where on the clip is not the sound that was meant;
channels that have nothing in common lose half."""
_SILENT_SHARE = 0.1
_NAMED = 3


def set_notes(measurement: Measurement, metrics: Sequence[Metric]) -> list[str]:
    """Return a sentence for each doubt about the clips of a measured set that its scores do not show.

    Only clips that were decoded from files count. The doubts: peaks over full scale, silence, a DC offset, channels
    that cancel each other, files that end early, and a rate below that of a metric which reads the audio.

    Args:
        measurement: The set.
        metrics: The metrics of the run.
    """
    facts = measurement.facts()
    if not facts:
        return []
    name, total = measurement.request.clips.name, len(facts)

    def count(test: Callable[[FileFacts], bool]) -> list[FileFacts]:
        return [fact for fact in facts if test(fact)]

    notes = []
    if loud := count(lambda fact: fact.peak is not None and fact.peak > _OVERSHOOT):
        peak = max(fact.peak or 0.0 for fact in loud)
        notes.append(f"{_of(loud, total)} over full scale, up to {peak:.3g}; scale them into -1..1")
    silent = count(lambda fact: fact.level_dbfs is not None and fact.level_dbfs < SILENCE_DBFS)
    if len(silent) > _SILENT_SHARE * total:
        notes.append(f"{_of(silent, total)} silent (below {SILENCE_DBFS:g} dBFS)")
    if shifted := count(lambda fact: fact.dc_offset is not None and abs(fact.dc_offset) > _DC_OFFSET):
        offset = max((fact.dc_offset or 0.0 for fact in shifted), key=abs)
        notes.append(f"{_of(shifted, total)} off zero by a DC offset of up to {offset:+.2g}; remove it")
    if opposed := count(lambda fact: fact.cancelled is not None and fact.cancelled > _CANCELLED):
        notes.append(f"{_of(opposed, total)} almost cancelled by averaging the channels; give one channel")
    if cut := count(lambda fact: bool(fact.truncated)):
        notes.append(f"{_of(cut, total)} cut short (the file {cut[0].truncated}), and scored as far as it goes")
    return [f"{name}: {note}" for note in (*notes, *_low_rates(facts, metrics))]


def unnamed_speakers(sets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the one sentence of a run on sets whose clips have no speakers; nothing where all have them.

    Args:
        sets: Name -> "clips" and "speakers" of each set, and "neighbours", the rank correlation of the scores of clips
            next to each other, where it is beyond chance.
    """
    unnamed = [name for name, facts in sets.items() if not facts["speakers"] and facts["clips"] > 1]
    if not unnamed:
        return []
    which = "any set" if len(unnamed) == len(sets) > 1 else _listed(unnamed)
    alike = [f"{name} ({sets[name]['neighbours']:.2f})" for name in unnamed if "neighbours" in sets[name]]
    evidence = f"; neighbouring clips score alike, as those of one speaker do, in {_listed(alike)}" if alike else ""
    sentence = (
        f"no speakers are known of {which}: each clip counts as one, and intervals are too narrow where clips share one"
        f"{evidence}. Use: a speaker column, or --speakers-from spk-chapter-utt (speakers_from in suites)"
    )
    return [sentence]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _low_rates(facts: Sequence[FileFacts], metrics: Iterable[Metric]) -> list[str]:
    """Return one sentence where files have a lower rate than metrics that read their audio."""
    lowest = min(fact.rate_hz for fact in facts)
    needing = sorted(
        {
            f"{metric.name} ({metric.rate_hz} Hz)"
            for metric in metrics
            if "audio" in metric.needs and metric.rate_hz is not None and metric.rate_hz > lowest
        }
    )
    if not needing:
        return []
    low = [fact for fact in facts if fact.rate_hz == lowest]
    blind = f"{', '.join(needing)} finds nothing above {lowest // 2} Hz"
    return [f"{_of(low, len(facts))} at {lowest} Hz: {blind}; compare only with sets of {lowest} Hz"]


def _of(facts: Sequence[FileFacts], total: int) -> str:
    return f"all {total} clips are" if len(facts) == total > 1 else f"{len(facts)} of {total} clips {_is(len(facts))}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
