"""Phones that somebody wrote down: `.phones` files beside the audio, or a manifest's column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdslm_eval.audio import Clip
from cdslm_eval.contract import Options, Recognizer

__all__ = ["SidecarRecognizer"]


class SidecarOptions(Options):
    """Options of the sidecar recognizer."""

    label: str = ""
    """Who made the phones and in which inventory; part of the identity, so that different ones are not compared."""


class SidecarRecognizer(Recognizer):
    """Phones as they stand in `NAME.phones` (white space between them) or in a manifest, for your own recognizer."""

    name = "sidecar"
    version = "1"
    inventory = "as written"
    needs = frozenset({"phones"})
    batch_clips = 64
    positional = "label"
    Options = SidecarOptions

    def recognize(self, clips: Sequence[Clip]) -> Iterator[list[str]]:
        """Yield the phones that came with each clip."""
        for clip in clips:
            yield list(clip.phones or ())
