"""`samples:PATH`: clips that are on disk already, handed out as a generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import AudioError
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator

__all__ = ["SamplesGenerator", "SamplesOptions"]


class SamplesOptions(Options):
    """Options of `samples`.

    Attributes:
        path: Directory, manifest or `wav.scp`.
        ignore_columns: Columns of the manifest that are passed over, or patterns of them, with blanks between.
    """

    path: str
    ignore_columns: str = ""


class SamplesGenerator(RangeGenerator):
    """Yields the clips of a set in their order; `count` takes the first of them."""

    name = "samples"
    version = "1"
    positional = "path"
    Options = SamplesOptions

    def info(self) -> GeneratorInfo:
        """Return the rate of the first clip; nothing else is known."""
        try:
            rate_hz = self._opened()[0].rate_hz
        except AudioError:
            rate_hz = None
        return GeneratorInfo(rate_hz=rate_hz)

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield clips as they are; their number and duration are what the set holds."""
        del prompts, seconds, seed
        yield from self._opened()[numbers.start : numbers.stop]

    def _opened(self) -> ClipSet:
        return ClipSet.open(self.options.path, ignore_columns=self.options.ignore_columns.split())
