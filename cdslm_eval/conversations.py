"""Two-channel conversations as one clip a speaker: written once, for turn-taking metrics and for training."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdslm_eval.core.audio import write_flac
from cdslm_eval.core.channels import read_channels, same_sound
from cdslm_eval.core.clips import MANIFEST, ClipSet
from cdslm_eval.core.errors import AudioError, UsageError
from cdslm_eval.core.progress import Progress, shown_progress
from cdslm_eval.core.sources import Source

__all__ = ["CONVERSATIONS", "split_channels"]

CONVERSATIONS = "conversations.jsonl"
"""Manifest with a row a conversation: its first channel, paired with the second."""
_ALIKE = 0.9


def split_channels(
    clips: Any,
    out: Path | str,
    *,
    min_seconds: float = 0.0,
    ignore_columns: Sequence[str] = (),
    progress: Progress | bool = False,
) -> tuple[Path, dict[str, str]]:
    """Write both channels of two-channel clips as FLAC, and return the manifest of conversations.

    `manifest.jsonl` has a row a channel, with a speaker of its own, for training on separate streams and for metrics
    of one speaker; `conversations.jsonl` a row a conversation, whose `reference` is the other channel, for
    `turn_taking`.

    Args:
        clips: A path or `ClipSet`.
        out: Folder for the channels.
        min_seconds: Shorter conversations are left out, in seconds.
        ignore_columns: Of a manifest, as for `score`.
        progress: True shows a bar on stderr; or a function called with (clips done, clips to do).

    Returns:
        The manifest of conversations; and why clips were left out, by key.

    Raises:
        UsageError: The folder holds channels already, or no clip has two of them.
    """
    folder = Path(out)
    for name in (CONVERSATIONS, MANIFEST):
        if (folder / name).exists():
            raise UsageError(f"{folder}: holds a {name} already; name an empty folder")
    opened = clips if isinstance(clips, ClipSet) else ClipSet.open(clips, ignore_columns=ignore_columns)
    left_out: dict[str, str] = {}
    names: set[str] = set()
    channels: list[dict[str, Any]] = []
    conversations: list[dict[str, Any]] = []
    with shown_progress(progress, "channels") as bar:
        for number, source in enumerate(opened.sources, 1):
            name = _free_name(re.sub(r"[^A-Za-z0-9._-]+", "_", source.key)[:100] or "clip", names)
            try:
                rows = _written(source, folder, name, min_seconds)
            except AudioError as error:
                left_out[source.key] = str(error)
            else:
                channels += rows
                conversations.append({**rows[0], "key": source.key, "reference": rows[1]["path"]})
            if bar is not None:
                bar(number, len(opened.sources))
    if not conversations:
        key, why = next(iter(left_out.items()))
        raise UsageError(f"{opened.name}: no conversation on two channels in it; {key}: {why}")
    for manifest, records in ((folder / MANIFEST, channels), (folder / CONVERSATIONS, conversations)):
        manifest.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return folder / CONVERSATIONS, left_out


def _free_name(name: str, used: set[str]) -> str:
    """Return a name, with a number where it is used already, and add it to those that are."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    free = next(candidate for candidate in itertools.chain((name,), numbered) if candidate.lower() not in used)
    # some file systems know no case
    used.add(free.lower())
    return free


def _written(source: Source, folder: Path, name: str, min_seconds: float) -> list[dict[str, Any]]:
    """Write both channels of a recording, and return their rows of the manifest.

    Raises:
        AudioError: It cannot be read or written, has not two channels, or is too short.
    """
    both, rate_hz = read_channels(source)
    if len(both) != 2:
        raise AudioError(f"{len(both)} channel{'s' * (len(both) != 1)}; a conversation has 2")
    if len(both[0]) < min_seconds * rate_hz:
        raise AudioError(f"under {min_seconds:g} s")
    if reason := same_sound(both[0], both[1], _ALIKE):
        raise AudioError(reason)
    rows = []
    for side, samples in enumerate(both, 1):
        path = f"channels/{name}-{side}.flac"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_flac(folder / path, samples, rate_hz)
        row = {"path": path, "key": f"{source.key}/{side}", "speaker": f"{source.key}/{side}"}
        rows.append(row | ({"language": source.language} if source.language else {}))
    return rows
