"""`speak:FILE`: each line of a text file, spoken by the bundled espeak-ng."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np

from cdslm_eval.builtin.generators.espeak import RATE_HZ, VARIANTS, open_espeak
from cdslm_eval.builtin.generators.making import clip_rng, made_clip
from cdslm_eval.builtin.recognizers.phonemize import SPEECH_EXTRA
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import GeneratorInfo, Options, RangeGenerator, text_file

__all__ = ["SpeakGenerator", "SpeakOptions", "drawn_manner", "engine", "read_lines"]


class SpeakOptions(Options):
    """Options of `speak`.

    Attributes:
        path: UTF-8 text, one utterance a line.
        voice: espeak-ng's voice; its variant is drawn per clip.
    """

    path: str = text_file()
    voice: str = "en-us"


class SpeakGenerator(RangeGenerator):
    """Reads a text aloud; speaker, rate and pitch vary from clip to clip with the seed."""

    name = "speak"
    version = "1"
    requires: ClassVar[Mapping[str, str]] = {"espeakng_loader": SPEECH_EXTRA}
    positional = "path"
    Options = SpeakOptions

    def info(self) -> GeneratorInfo:
        """Return rate and engine."""
        return GeneratorInfo(rate_hz=RATE_HZ, conventions={"engine": engine()})

    def clip_range(self, prompts: Sequence[Clip], numbers: range, seconds: float, seed: int) -> Iterator[Clip]:
        """Yield the lines in order, starting over at the end; the text decides the duration."""
        del prompts, seconds
        lines = read_lines(self.options.path, "speak")
        with open_espeak() as espeak:
            for index in numbers:
                variant, rate, pitch = drawn_manner(clip_rng(seed, index))
                text = lines[index % len(lines)]
                samples = espeak.synthesize(text, voice=f"{self.options.voice}+{variant}", rate=rate, pitch=pitch)
                yield made_clip(f"{index:05d}", samples, RATE_HZ, text=text, speaker=variant)


def drawn_manner(rng: np.random.Generator) -> tuple[str, int, int]:
    """Return a variant, a rate in words per minute (140..190) and a pitch (35..65)."""
    return VARIANTS[rng.integers(len(VARIANTS))], int(rng.integers(140, 191)), int(rng.integers(35, 66))


def engine() -> str:
    """Return the name and version of what speaks."""
    return f"espeak-ng of espeakng-loader {version('espeakng-loader')}"


def read_lines(path: str, generator: str) -> list[str]:
    """Return the lines of a UTF-8 text that are not empty.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read by {generator}: {reason}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"{path}: holds no text for {generator} to use")
    return lines
