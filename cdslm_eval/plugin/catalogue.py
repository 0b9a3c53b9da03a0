"""Catalogue: the names that this project's own plugins provide, for hints when they are not installed."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OWN_PLUGINS", "how_to_install", "owner_of"]

OWN_PLUGINS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cdslm-eval-aesthetics": {"metric": ("aesthetics",)},
    "cdslm-eval-asr": {
        "metric": ("auto_bleu", "cer", "gen_ppl", "language_consistency", "vert", "wer"),
        "recognizer": ("asr-phonemes", "wav2vec2"),
        "transcriber": ("faster-whisper", "whisper"),
    },
    "cdslm-eval-embeddings": {"metric": ("diversity", "fad", "kad", "speaker_consistency", "speaker_similarity")},
    "cdslm-eval-laws": {"law": ("broken", "loss-to-loss", "moe", "repetition", "shifted")},
    "cdslm-eval-perceptual": {
        "metric": ("activity", "distillmos", "dnsmos", "estoi", "nisqa", "pesq", "si_sdr", "stoi", "turn_taking")
    },
    "cdslm-eval-phones": {"recognizer": ("phone-ctc",)},
    "cdslm-eval-ray": {"executor": ("ray",)},
    "cdslm-eval-unit-lm": {"generator": ("unit-lm", "unit-resynthesis")},
}
"""Distribution -> kind -> names; its source is in plugins/, in a folder named like what follows "cdslm-eval-"."""


def owner_of(kind: str, name: str) -> str:
    """Return the own distribution that provides a component, or ""."""
    return next((owner for owner, provides in OWN_PLUGINS.items() if name in provides.get(kind, ())), "")


def how_to_install(distribution: str) -> str:
    """Return the pip command that installs a distribution: ours are unreleased and come from a checkout."""
    if distribution == "cdslm-eval":
        return "pip install . (in a checkout of cdslm-eval)"
    if distribution in OWN_PLUGINS:
        folder = distribution.removeprefix("cdslm-eval-")
        return f"pip install ./plugins/{folder} (in a checkout of cdslm-eval)"
    return f"pip install --upgrade {distribution}"
