"""Jensen-Shannon divergence between phone n-gram distributions, with what a finite sample lets one say of it."""

from __future__ import annotations

from cdslm_eval.divergence.carriers import NgramShare, carriers
from cdslm_eval.divergence.estimator import (
    MAX_PHONES,
    Comparison,
    PhonemeJSD,
    compare_held_out,
    corrected_difference,
    phoneme_jsd,
)
from cdslm_eval.divergence.ngrams import NgramTable, PhoneSequences
from cdslm_eval.divergence.overlap import Overlap, overlap
from cdslm_eval.divergence.plugin import jsd

__all__ = [
    "MAX_PHONES",
    "Comparison",
    "NgramShare",
    "NgramTable",
    "Overlap",
    "PhoneSequences",
    "PhonemeJSD",
    "carriers",
    "compare_held_out",
    "corrected_difference",
    "jsd",
    "overlap",
    "phoneme_jsd",
]
