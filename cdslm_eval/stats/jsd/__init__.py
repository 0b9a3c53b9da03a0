"""Jensen-Shannon divergence between phone n-gram distributions, with its errors at a finite sample."""

from __future__ import annotations

from cdslm_eval.stats.jsd.contributions import NgramShare, contributions
from cdslm_eval.stats.jsd.copies import Copies, find_copies
from cdslm_eval.stats.jsd.estimator import (
    MAX_PHONES,
    PhonemeJSD,
    compare_held_out,
    corrected_difference,
    phoneme_jsd,
)
from cdslm_eval.stats.jsd.ngrams import NgramTable, PhoneSequences
from cdslm_eval.stats.jsd.overlap import Overlap, overlap
from cdslm_eval.stats.jsd.plug_in import jsd

__all__ = [
    "MAX_PHONES",
    "Copies",
    "NgramShare",
    "NgramTable",
    "Overlap",
    "PhoneSequences",
    "PhonemeJSD",
    "compare_held_out",
    "contributions",
    "corrected_difference",
    "find_copies",
    "jsd",
    "overlap",
    "phoneme_jsd",
]
