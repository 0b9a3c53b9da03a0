"""Papers: what to cite with the transcribers and the metrics of words."""

from __future__ import annotations

from cdslm_eval.core.citation import Citation

__all__ = ["GSLM", "WAV2VEC2", "WHISPER"]

GSLM = Citation(
    key="lakhotia2021gslm",
    title="On Generative Spoken Language Modeling from Raw Audio",
    authors=("Lakhotia, Kushal", "Kharitonov, Eugene", "Hsu, Wei-Ning", "Adi, Yossi", "Polyak, Adam", "others"),
    year=2021,
    kind="article",
    venue="Transactions of the Association for Computational Linguistics",
    doi="10.1162/tacl_a_00430",
)
WHISPER = Citation(
    key="radford2023whisper",
    title="Robust Speech Recognition via Large-Scale Weak Supervision",
    authors=(
        "Radford, Alec",
        "Kim, Jong Wook",
        "Xu, Tao",
        "Brockman, Greg",
        "McLeavey, Christine",
        "Sutskever, Ilya",
    ),
    year=2023,
    kind="inproceedings",
    venue="ICML 2023",
    arxiv="2212.04356",
)
WAV2VEC2 = Citation(
    key="baevski2020wav2vec2",
    title="wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations",
    authors=("Baevski, Alexei", "Zhou, Henry", "Mohamed, Abdelrahman", "Auli, Michael"),
    year=2020,
    kind="inproceedings",
    venue="NeurIPS 2020",
    arxiv="2006.11477",
)
