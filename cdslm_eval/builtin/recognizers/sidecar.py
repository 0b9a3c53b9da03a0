"""Phones that somebody else wrote: `.phones` sidecars or the `phones` column of a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Failed, Options, Recognizer, Skipped

__all__ = ["SidecarOptions", "SidecarRecognizer"]


class SidecarOptions(Options):
    """Options of `sidecar`.

    Attributes:
        inventory: What the phone set is called; it only keeps sets of different phones apart.
    """

    inventory: str = "sidecar"


class SidecarRecognizer(Recognizer):
    """Hands out the phones that came with a clip, for alignments and recognizers of one's own."""

    name = "sidecar"
    version = "1"
    inventory = "sidecar"
    needs = frozenset({"phones"})
    positional = "inventory"
    batch_clips = 64
    Options = SidecarOptions

    def recognize(self, clips: Sequence[Clip]) -> Iterator[Sequence[str] | Skipped | Failed]:
        """Yield each clip's own phones."""
        for clip in clips:
            yield Skipped("no phones beside the clip") if clip.phones is None else clip.phones
