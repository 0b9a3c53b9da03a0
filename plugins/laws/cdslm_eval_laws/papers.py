"""The papers that the laws rest on."""

from __future__ import annotations

from cdslm_eval import Citation

__all__ = ["BROKEN", "LOSS_TO_LOSS", "RECONCILING", "REPETITION", "ROUTED"]

BROKEN = Citation(
    key="caballero2023broken",
    title="Broken Neural Scaling Laws",
    authors=("Caballero, Ethan", "Gupta, Kshitij", "Rish, Irina", "Krueger, David"),
    year=2023,
    kind="inproceedings",
    venue="ICLR 2023",
    arxiv="2210.14891",
)
RECONCILING = Citation(
    key="pearce2024reconciling",
    title="Reconciling Kaplan and Chinchilla Scaling Laws",
    authors=("Pearce, Tim", "Song, Jinyeop"),
    year=2024,
    kind="article",
    venue="Transactions on Machine Learning Research",
    arxiv="2406.12907",
)
REPETITION = Citation(
    key="muennighoff2023dataconstrained",
    title="Scaling Data-Constrained Language Models",
    authors=("Muennighoff, Niklas", "Rush, Alexander M.", "Barak, Boaz", "Le Scao, Teven", "others"),
    year=2023,
    kind="inproceedings",
    venue="NeurIPS 2023",
    arxiv="2305.16264",
)
ROUTED = Citation(
    key="clark2022routed",
    title="Unified Scaling Laws for Routed Language Models",
    authors=("Clark, Aidan", "de las Casas, Diego", "Guy, Aurelia", "Mensch, Arthur", "others"),
    year=2022,
    kind="inproceedings",
    venue="ICML 2022",
    arxiv="2202.01169",
)
LOSS_TO_LOSS = Citation(
    key="brandfonbrener2025losstoloss",
    title="Loss-to-Loss Prediction: Scaling Laws for All Datasets",
    authors=("Brandfonbrener, David", "Anand, Nikhil", "Vyas, Nikhil", "Malach, Eran", "Kakade, Sham"),
    year=2025,
    kind="article",
    venue="Transactions on Machine Learning Research",
    arxiv="2411.12925",
)
