"""Known truths for pJSD: coverage of the corrected value, short clips, copies of the reference, power."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.calibration.rows import Row
from benchmarks.calibration.sources import SpeakerSource, divergences
from cdslm_eval.stats.jsd import (
    NgramTable,
    PhoneSequences,
    corrected_difference,
    find_copies,
    overlap,
    phoneme_jsd,
)

__all__ = ["JSD_ROWS", "copied_clips", "sources"]


def sources() -> dict[str, SpeakerSource]:
    """Return the reference's source under "identical", and a near and a far one."""
    real, far = (SpeakerSource(np.random.default_rng(seed)) for seed in (0, 1))
    far.rows = np.roll(far.rows, 5, axis=1)
    return {"identical": real, "near": real.mixed(far, 0.25), "far": far}


def corrected_intervals(seeds: int) -> list[Row]:
    """Coverage of the interval of `corrected` at n = 2, by distance and size, where it is printed."""
    rows, kinds = [], sources()
    before = {"identical": ".92 to 1.00", "near": ".86 to .99", "far": ".66 to .84"}
    for name, source in kinds.items():
        truth = divergences(source, kinds["identical"], (2,))[2]
        for clips, phones in ((60, 40), (200, 40), (200, 80)):
            covered, printed, marks = 0, 0, set()
            for seed in range(seeds):
                rng = np.random.default_rng([9, clips, phones, seed])
                (a, _), (b, _) = (of.clips(clips, 1, phones, rng) for of in (source, kinds["identical"]))
                result = phoneme_jsd(a, b, (2,), seed)[2]
                printed += np.isfinite(result.corrected_low)
                covered += result.corrected_low <= truth <= result.corrected_high
                marks.add(result.trust)
            title = f"`corrected` of pJSD_2, {name} sources ({truth:.3f}), {clips} clips of {phones} phones: coverage"
            rows.append(
                Row(9, title, ".95", before[name], f"{covered / max(printed, 1):.3f} ({', '.join(sorted(marks))})")
            )
    return rows


def intervals_of_bounds(seeds: int) -> list[Row]:
    """Share of printed intervals of `corrected` at `bounds_only`: pJSD_3 of far sources, 60 clips."""
    kinds, printed = sources(), 0
    for seed in range(seeds):
        rng = np.random.default_rng([90, seed])
        (a, _), (b, _) = kinds["far"].clips(60, 1, 40, rng), kinds["identical"].clips(60, 1, 40, rng)
        result = phoneme_jsd(a, b, (3,), seed)[3]
        assert result.trust == "bounds_only"
        printed += np.isfinite(result.corrected_low)
    return [Row(9, "`corrected` of pJSD_3 at `bounds_only`: intervals printed", "0", "1", f"{printed / seeds:.3f}")]


def short_clips(seeds: int) -> list[Row]:
    """`corrected` of pJSD_3 for clips of 2 to 4 phones and of 40, about 2,300 3-grams a side, one source."""
    kinds, values = sources(), {"2 to 4": [], "40": []}
    for seed in range(seeds):
        rng = np.random.default_rng([15, seed])
        b, _ = kinds["identical"].clips(60, 1, 40, rng)
        lengths = {"2 to 4": rng.integers(2, 5, (2300, 1)), "40": np.full((60, 1), 40)}
        for name, phones in lengths.items():
            a, _ = kinds["near"].clips_of(phones, rng)
            values[name].append(phoneme_jsd(a, b, (3,), seed)[3].corrected)
    truth = divergences(kinds["near"], kinds["identical"], (3,))[3]
    return [
        Row(
            15,
            f"`corrected` of pJSD_3 (biased, `bounds_only`), clips of {name} phones against 40",
            f"{truth:.3f}",
            ".44 for .245" if name != "40" else ".21 for .245",
            f"{np.mean(value):.3f} ± {np.std(value) / np.sqrt(seeds):.3f}",
        )
        for name, value in values.items()
    ]


def copied_clips(reference: PhoneSequences, clips: np.ndarray, errors: float, rng: np.random.Generator) -> list:
    """Return clips of the reference with a share of their phones replaced."""
    copies = []
    for clip in clips:
        codes = reference.codes[reference.offsets[clip] : reference.offsets[clip + 1]].copy()
        wrong = rng.random(len(codes)) < errors
        codes[wrong] = rng.integers(0, len(reference.inventory), int(wrong.sum()))
        copies.append([reference.inventory[code] for code in codes])
    return copies


def near_copies(seeds: int) -> list[Row]:
    """Order of the bounds and the alarm: a set of copies with 10 % phone errors, a quarter copied, fresh speech."""
    real = sources()["identical"]
    kinds = {"all copied, 10 % phone errors": (60, 0.1), "a quarter copied": (15, 0.0), "fresh speech": (0, 0.0)}
    ordered, warned = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    for seed in range(seeds):
        rng = np.random.default_rng([12, seed])
        (b, _), (fresh, _) = (real.clips(60, 1, 40, rng) for _ in range(2))
        for name, (count, errors) in kinds.items():
            own = copied_clips(b, np.arange(count), errors, rng) + copied_clips(fresh, np.arange(count, 60), 0, rng)
            a = PhoneSequences.from_lists(own)
            results = phoneme_jsd(a, b, (1, 2, 3), seed).values()
            ordered[name] += all(r.low <= r.high and r.held_out <= r.value for r in results)
            table = NgramTable(a, b, 5)
            shared = overlap(table, 5, seed)
            alarm = find_copies(table, np.arange(120)).suspicious or any(r.exceeds for r in results)
            warned[name] += alarm or (shared is not None and shared.suspicious)
    numbers = {"all copied, 10 % phone errors": 12, "a quarter copied": 13, "fresh speech": 13}
    before = {"all copied, 10 % phone errors": "warned", "a quarter copied": "silent", "fresh speech": "silent"}
    rows = [
        Row(
            12,
            f"`low` <= `high` and `held_out` <= `value`, {name}",
            "1",
            "fails" if count else "1",
            f"{hits / seeds:.3f}",
        )
        for (name, hits), (count, _) in zip(ordered.items(), kinds.values(), strict=True)
    ]
    return rows + [
        Row(
            numbers[name],
            f"warned and not ranked, {name}",
            "0" if name == "fresh speech" else "1",
            before[name],
            f"{hits / seeds:.3f}",
        )
        for name, hits in warned.items()
    ]


def detectable_differences(seeds: int) -> list[Row]:
    """`detectable` over 2.8 standard deviations of the difference of two systems of one source, 60 and 200 clips."""
    kinds, rows = sources(), []
    for clips in (60, 200):
        found: dict[int, list[tuple[float, float, bool]]] = {1: [], 2: []}
        for seed in range(seeds):
            rng = np.random.default_rng([8, clips, seed])
            a, b, real = (kinds[name].clips(clips, 1, 40, rng)[0] for name in ("near", "near", "identical"))
            for n, test in corrected_difference(a, b, real, (1, 2), seed=seed).items():
                found[n].append((test.value, test.detectable, test.p_value < 0.05))
        for n, tests in found.items():
            values, least, hits = np.array(tests).T
            ratio = f"{least.mean() / (2.8 * values.std()):.2f}"
            rows.append(
                Row(8, f"`detectable` of pJSD_{n}, {clips} clips, over its true value", "1", "1.3 to 2.0", ratio)
            )
            rows.append(
                Row(
                    1,
                    f"`compare` of pJSD_{n}, {clips} clips, near sources: type I",
                    ".05",
                    ".005 to .015",
                    f"{hits.mean():.3f}",
                )
            )
    return rows


JSD_ROWS: tuple[Callable[[int], list[Row]], ...] = (
    corrected_intervals,
    intervals_of_bounds,
    short_clips,
    near_copies,
    detectable_differences,
)
