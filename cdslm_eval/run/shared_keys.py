"""Clips of one key in several systems: the same prompt, continued by each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.remote.addresses import is_remote
from cdslm_eval.core.spans import Address
from cdslm_eval.results.score_result import Take

__all__ = ["shared_takes"]

_MOST_KEYS = 8


def shared_takes(systems: Sequence[ClipSet], prompts: ClipSet | None = None) -> tuple[Take, ...]:
    """Return the clips of the keys that all systems share, key by key, each after the prompt of its key.

    Args:
        systems: The systems.
        prompts: What they continued; its clips are found by their keys.

    Returns:
        The first eight shared keys in the order of the first system; nothing of a single system.
    """
    if len(systems) < 2:
        return ()
    by_key = [{source.key: source for source in system.sources} for system in systems]
    keys = [key for key in by_key[0] if all(key in sources for sources in by_key)]
    prompt_of = {source.key: source for source in prompts.sources} if prompts is not None else {}
    takes = []
    for key in keys[:_MOST_KEYS]:
        if key in prompt_of:
            takes.append(Take(key=key, system="", path=str(prompt_of[key].address)))
        takes += [
            Take(
                key=key, system=system.name, path=str(sources[key].address), prompt_seconds=sources[key].prompt_seconds
            )
            for system, sources in zip(systems, by_key, strict=True)
        ]
    # clips in memory have no file that a page could play
    return tuple(takes) if all(_is_file(take.path) for take in takes) else ()


def _is_file(address: str) -> bool:
    """Return whether an address lies in a file that is there; a file may have a name that ends like a span."""
    return is_remote(address) or Path(address).is_file() or Path(Address.parse(address).path).is_file()
