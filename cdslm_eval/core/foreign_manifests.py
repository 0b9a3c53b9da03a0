"""Manifests of other toolkits, row by row in the fields of ours: NeMo's and Lhotse's cuts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import OVERSHOOT_S

__all__ = ["FOREIGN", "ForeignManifest", "LhotseCuts", "NemoManifest"]


class ForeignManifest(ABC):
    """One kind of manifest that another toolkit writes; a further kind is a class in `FOREIGN`."""

    @abstractmethod
    def reads(self, names: Collection[str]) -> bool:
        """Return whether a row with these fields is of this kind."""

    @abstractmethod
    def translated(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with the fields of a manifest of ours; fields that are not known keep their names.

        Raises:
            ValueError: The row is of the kind, and names no audio file that can be read.
        """


class NemoManifest(ForeignManifest):
    """A manifest of NVIDIA NeMo: `audio_filepath`, `duration`, `offset`, `text`, `lang`, one object a line.

    Source: NeMo documentation, "ASR datasets". A duration without an offset is that of the whole file.
    """

    _NAMES: ClassVar[Mapping[str, str]] = {"audio_filepath": "path", "lang": "language"}

    def reads(self, names: Collection[str]) -> bool:
        """Return whether a row names its audio as NeMo does."""
        return "audio_filepath" in names and "path" not in names

    def translated(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row under our names."""
        plain = {self._NAMES.get(name, name): value for name, value in record.items()}
        if record.get("offset") is None:
            # the length of a whole file is written rounded, and is no end to cut at
            plain.pop("duration", None)
        return plain


class LhotseCuts(ForeignManifest):
    """Cuts of Lhotse: one `MonoCut` a line, of a recording that is a file of one channel.

    Source: Lhotse 1.x, `lhotse.cut.mono.MonoCut.to_dict`. Text, speaker and language are those of the supervisions;
    features and custom fields are passed over.
    """

    def reads(self, names: Collection[str]) -> bool:
        """Return whether a row is a cut."""
        return "type" in names and "id" in names and "path" not in names

    def translated(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the cut as a part of its recording."""
        if record["type"] != "MonoCut":
            raise ValueError(
                f"a cut of type {str(record['type'])[:40]!r}; MonoCut is read: save cuts one recording each"
            )
        recording = record.get("recording")
        sources = recording.get("sources") if isinstance(recording, dict) else None
        if not isinstance(sources, list) or len(sources) != 1 or not isinstance(sources[0], dict):
            raise ValueError("a cut without a recording of one source; write cuts with their recordings")
        source = sources[0]
        if source.get("type") != "file" and not (source.get("type") == "url" and is_remote(source.get("source"))):
            raise ValueError(
                f"a source of type {str(source.get('type'))[:40]!r}; files are read, and commands are not run"
            )
        if source.get("channels") != [record.get("channel")]:
            raise ValueError("a cut of one channel of several; write that channel to a file of its own")
        start, length = record.get("start"), record.get("duration")
        plain: dict[str, Any] = {"path": source.get("source"), "key": record["id"]}
        if not _is_whole(start, length, recording):
            plain |= {"offset": start, "duration": length}
        return plain | _supervised(record.get("supervisions"))


def _is_whole(start: Any, length: Any, recording: Any) -> bool:
    try:
        return not start and float(length) >= float(recording["duration"]) - OVERSHOOT_S
    except (KeyError, TypeError, ValueError):
        return False


def _supervised(supervisions: Any) -> dict[str, Any]:
    """Return text, speaker and language of a cut: texts joined, the others where its supervisions agree."""
    if not isinstance(supervisions, list) or not all(isinstance(entry, dict) for entry in supervisions):
        return {}
    plain: dict[str, Any] = {}
    texts = [entry["text"] for entry in supervisions if entry.get("text")]
    if texts and all(isinstance(text, str) for text in texts):
        plain["text"] = " ".join(texts)
    for name in ("speaker", "language"):
        values = [entry.get(name) for entry in supervisions]
        if values and values[0] and all(value == values[0] for value in values):
            plain[name] = values[0]
    return plain


FOREIGN: tuple[ForeignManifest, ...] = (NemoManifest(), LhotseCuts())
