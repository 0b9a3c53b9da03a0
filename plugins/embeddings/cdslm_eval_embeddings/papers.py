"""Papers: what to cite with the metrics of embeddings."""

from __future__ import annotations

from cdslm_eval.core.citation import Citation

__all__ = ["FAD", "GE2E", "KAD"]

FAD = Citation(
    key="kilgour2019fad",
    title="Fréchet Audio Distance: A Reference-Free Metric for Evaluating Music Enhancement Algorithms",
    authors=("Kilgour, Kevin", "Zuluaga, Mauricio", "Roblek, Dominik", "Sharifi, Matthew"),
    year=2019,
    kind="inproceedings",
    venue="Interspeech 2019",
    doi="10.21437/Interspeech.2019-2219",
)
KAD = Citation(
    key="chung2025kad",
    title="KAD: No More FAD! An Effective and Efficient Evaluation Metric for Audio Generation",
    authors=("Chung, Yoonjin", "Eu, Pilsun", "Lee, Junwon", "Choi, Keunwoo", "Nam, Juhan", "Chon, Ben Sangbae"),
    year=2025,
    arxiv="2502.15602",
)
GE2E = Citation(
    key="wan2018ge2e",
    title="Generalized End-to-End Loss for Speaker Verification",
    authors=("Wan, Li", "Wang, Quan", "Papir, Alan", "Lopez Moreno, Ignacio"),
    year=2018,
    kind="inproceedings",
    venue="ICASSP 2018",
    doi="10.1109/ICASSP.2018.8462665",
)
