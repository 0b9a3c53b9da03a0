"""The run table of a ladder: one row per model with N, D, C, its loss, and every value with its interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cdslm_eval.ladder.points import SampledPoint
from cdslm_eval.results.estimate import Estimate

__all__ = ["PARTS", "as_csv", "estimate_columns", "probe_columns", "run_rows"]

PARTS = ("low", "high", "corrected", "corrected_low", "corrected_high", "held_out_common")
"""Of an estimate: each is a column after its name, such as `pjsd_2_corrected`."""
_COUNTS = ("steps", "epochs", "unique_tokens", "six_nd", "val_loss_se")
"""Columns of what a training result has beyond the required facts."""


def run_rows(sampled: Sequence[SampledPoint], estimates: Iterable[Estimate]) -> list[dict[str, str | float]]:
    """Return the rows of the run table, in the order of the models.

    N, D, C and val_loss are in the conventions of each row's own `system`: a frame and a unit are not one token, and
    their losses are of different kinds. Systems are never to be pooled into one fit.

    Args:
        sampled: The models, each with how it generated: "run" is the model's name, "row" that of its clips.
        estimates: Of their clips; systems are the names of rows. Controls are no rows, having no N, D and C.
    """
    by_system: dict[str, list[Estimate]] = {}
    for estimate in estimates:
        by_system.setdefault(estimate.system, []).append(estimate)
    rows = []
    for clips in sampled:
        point, result = clips.trained.point, clips.trained.result
        row: dict[str, str | float] = {
            # rows of one model are no independent runs: a fit resamples what has one name together
            "run": point.name,
            "row": clips.name,
            "system": point.family.name,
            "size": str(point.size),
            "budget": point.budget,
            "seed": point.seed,
            **dict(clips.sampling),
            "N": result["parameters"],
            "D": result["tokens"],
            "C": result["flops"],
            "val_loss": result["val_loss"],
        }
        row |= {name: float(result[name]) for name in _COUNTS if isinstance(result.get(name), int | float)}
        row |= probe_columns(result.get("probe"))
        rows.append(row | estimate_columns(by_system.get(clips.name, [])))
    return rows


def estimate_columns(estimates: Iterable[Estimate]) -> dict[str, str | float]:
    """Return the columns of one system's estimates: each value under its name, and its finite parts, such as `_low`.

    Where an estimate is trusted for its bounds only, its corrected value is no column: a fit would take it for a point.
    """
    columns: dict[str, str | float] = {}
    for estimate in estimates:
        columns[estimate.name] = estimate.value
        for part in PARTS:
            value = getattr(estimate, part)
            unknown = part.startswith("corrected") and estimate.trust == "bounds_only"
            if isinstance(value, float) and math.isfinite(value) and not unknown:
                columns[f"{estimate.name}_{part}"] = value
    return columns


def probe_columns(probe: Any) -> dict[str, float]:
    """Return the numbers of a training result's probe: `probe_NAME`, or `probe_NAME_FRAME` for a list over frames.

    Args:
        probe: "frames", the frames of a continuation at which it was measured, and numbers or lists of as many numbers
            under any other name; anything else in it is no column.
    """
    if not isinstance(probe, Mapping):
        return {}
    frames = probe.get("frames", [])
    columns: dict[str, float] = {}
    for name, value in probe.items():
        if name == "frames":
            continue
        if isinstance(value, int | float):
            columns[f"probe_{name}"] = float(value)
        elif isinstance(value, list) and len(value) == len(frames):
            pairs = zip(frames, value, strict=True)
            columns |= {f"probe_{name}_{frame}": float(own) for frame, own in pairs if isinstance(own, int | float)}
    return columns


def as_csv(rows: Sequence[Mapping[str, str | float]]) -> str:
    """Return rows as CSV with full precision; what is not known is an empty field."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _field(value) for name, value in row.items()})
    return text.getvalue()


def _field(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return repr(float(value)) if math.isfinite(value) else ""
