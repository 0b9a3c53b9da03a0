"""The bundled espeak-ng as a function: text or phonemes in, samples out, the same samples every time."""

from __future__ import annotations

import _ctypes
import ctypes
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.builtin.recognizers.phonemize import SPEECH_EXTRA
from cdslm_eval.core.audio import Samples
from cdslm_eval.core.errors import EvalError, UsageError

__all__ = ["RATE_HZ", "VARIANTS", "Espeak", "open_espeak"]

RATE_HZ = 22_050
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8")
"""Speakers of espeak-ng that sound alike in clarity; used as "en-us+f3"."""

# espeak_ng/speak_lib.h
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH = 1, 3
_UTF8, _PHONEMES = 1, 0x100
_BUFFER_MS = 500
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A private copy of the library; made by `open_espeak`.

    Args:
        library: The copy, which nobody else has loaded.
        data: Folder of espeak-ng's data.
    """

    def __init__(self, library: str, data: str) -> None:
        self._library = library
        self._data = data

    def say(
        self, text: str, *, voice: str = "en-us", rate: int = 160, pitch: int = 50, phonemes: bool = False
    ) -> Samples:
        """Speak one utterance.

        espeak-ng keeps oscillator phases and noise in static variables that its own reset leaves alone, so an
        utterance would depend on those before it; the library is loaded again for each, which costs about 3 ms.

        Args:
            text: The text to speak; with `phonemes`, espeak-ng's mnemonics without their brackets.
            voice: Name of a voice, with or without a variant: "en-us+f3".
            rate: Words per minute, 80..450.
            pitch: 0..99.
            phonemes: Whether `text` is mnemonics.

        Returns:
            float32 `[samples]` at `RATE_HZ`, in [-1, 1].

        Raises:
            UsageError: There is no such voice.
            EvalError: espeak-ng does not start or refuses to speak.
        """
        blocks: list[np.ndarray[Any, Any]] = []

        def keep(wave: Any, count: int, events: Any) -> int:
            del events
            if wave and count > 0:
                blocks.append(np.ctypeslib.as_array(wave, (count,)).astype(np.float32))
            return 0

        callback = _CALLBACK(keep)
        library = ctypes.CDLL(self._library)
        try:
            if library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, self._data.encode(), _DONT_EXIT) != RATE_HZ:
                raise EvalError(
                    "espeak-ng does not start; reinstall it with pip install --force-reinstall espeakng-loader"
                )
            # left alone, it seeds the noise in its voices by the clock
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            library.espeak_SetSynthCallback(callback)
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise UsageError(f"espeak-ng has no voice {voice!r}; names look like 'en-us' or 'en-us+f3'")
            library.espeak_SetParameter(_RATE, rate, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            encoded = (f"[[{text}]]" if phonemes else text).replace("\0", " ").encode()
            flags = _UTF8 | (_PHONEMES if phonemes else 0)
            if library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, flags, None, None) != 0:
                raise EvalError(f"espeak-ng does not speak {text[:40]!r}")
            library.espeak_Terminate()
        finally:
            _unload(library)
        samples: Samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        return samples / np.float32(32768)


@contextmanager
def open_espeak() -> Iterator[Espeak]:
    """Hand out the bundled espeak-ng, under a temporary copy so that unloading it unloads nobody else's."""
    try:
        import espeakng_loader
    except ModuleNotFoundError as error:
        raise UsageError(f"nothing can be spoken: {error}. Install: pip install {SPEECH_EXTRA!r}") from error

    with tempfile.TemporaryDirectory(prefix="cdslm-eval-", ignore_cleanup_errors=True) as folder:
        copy = shutil.copy(espeakng_loader.get_library_path(), Path(folder))
        yield Espeak(str(copy), str(espeakng_loader.get_data_path()))


def _unload(library: ctypes.CDLL) -> None:
    """Give the library back to the system, its static variables with it."""
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)  # noqa: SLF001 - ctypes has no public way to unload
    else:
        _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes has no public way to unload
