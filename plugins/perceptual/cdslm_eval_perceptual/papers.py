"""Papers: what to cite with the perceptual metrics."""

from __future__ import annotations

from cdslm_eval.core.citation import Citation

__all__ = ["DISTILLMOS", "DNSMOS", "DNSMOS_P835", "ESTOI", "NISQA", "PESQ", "SILERO", "SI_SDR", "STOI"]

DNSMOS = Citation(
    key="reddy2021dnsmos",
    title="DNSMOS: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors",
    authors=("Reddy, Chandan K. A.", "Gopal, Vishak", "Cutler, Ross"),
    year=2021,
    kind="inproceedings",
    venue="ICASSP 2021",
    doi="10.1109/ICASSP39728.2021.9414878",
)
DNSMOS_P835 = Citation(
    key="reddy2022dnsmos",
    title="DNSMOS P.835: A Non-Intrusive Perceptual Objective Speech Quality Metric to Evaluate Noise Suppressors",
    authors=("Reddy, Chandan K. A.", "Gopal, Vishak", "Cutler, Ross"),
    year=2022,
    kind="inproceedings",
    venue="ICASSP 2022",
    doi="10.1109/ICASSP43922.2022.9746108",
)
NISQA = Citation(
    key="mittag2021nisqa",
    title="NISQA: A Deep CNN-Self-Attention Model for Multidimensional Speech Quality Prediction with Crowdsourced "
    "Datasets",
    authors=("Mittag, Gabriel", "Naderi, Babak", "Chehadi, Assmaa", "Möller, Sebastian"),
    year=2021,
    kind="inproceedings",
    venue="Interspeech 2021",
    doi="10.21437/Interspeech.2021-299",
)
DISTILLMOS = Citation(
    key="stahl2025distillation",
    title="Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality Assessment",
    authors=("Stahl, Benjamin", "Gamper, Hannes"),
    year=2025,
    kind="inproceedings",
    venue="ICASSP 2025",
    arxiv="2502.05356",
)
PESQ = Citation(
    key="rix2001pesq",
    title="Perceptual evaluation of speech quality (PESQ): a new method for speech quality assessment of telephone "
    "networks and codecs",
    authors=("Rix, Antony W.", "Beerends, John G.", "Hollier, Michael P.", "Hekstra, Andries P."),
    year=2001,
    kind="inproceedings",
    venue="ICASSP 2001",
    doi="10.1109/ICASSP.2001.941023",
)
STOI = Citation(
    key="taal2011stoi",
    title="An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech",
    authors=("Taal, Cees H.", "Hendriks, Richard C.", "Heusdens, Richard", "Jensen, Jesper"),
    year=2011,
    kind="article",
    venue="IEEE Transactions on Audio, Speech, and Language Processing",
    doi="10.1109/TASL.2011.2114881",
)
ESTOI = Citation(
    key="jensen2016estoi",
    title="An Algorithm for Predicting the Intelligibility of Speech Masked by Modulated Noise Maskers",
    authors=("Jensen, Jesper", "Taal, Cees H."),
    year=2016,
    kind="article",
    venue="IEEE/ACM Transactions on Audio, Speech, and Language Processing",
    doi="10.1109/TASLP.2016.2585878",
)
SI_SDR = Citation(
    key="leroux2019sdr",
    title="SDR - Half-baked or Well Done?",
    authors=("Le Roux, Jonathan", "Wisdom, Scott", "Erdogan, Hakan", "Hershey, John R."),
    year=2019,
    kind="inproceedings",
    venue="ICASSP 2019",
    doi="10.1109/ICASSP.2019.8683855",
)
SILERO = Citation(
    key="silero_vad",
    title="Silero VAD: pre-trained enterprise-grade Voice Activity Detector",
    authors=("Silero Team",),
    year=2024,
    kind="software",
    url="https://github.com/snakers4/silero-vad",
)
