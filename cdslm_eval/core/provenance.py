"""Provenance: versions of everything that can move a number, and what machine it was computed on."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

__all__ = ["host_facts", "host_id", "lost_versions", "versions"]


def versions(plugins: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of this package, of Python, of every plugin and of every installed distribution.

    Args:
        plugins: Name of each plugin in use -> its version.
    """
    import numpy as np
    import scipy

    from cdslm_eval import __version__

    return {
        "cdslm_eval": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "plugins": dict(plugins),
        "distributions": {
            name: distribution.version for distribution in distributions() if (name := distribution.metadata["Name"])
        },
    }


@lru_cache(maxsize=1)
def host_id() -> str:
    """Return an identity of this machine that does not tell its name, 16 hex digits.

    Clones of one image share the machine id and containers of one host its name, so both count.
    """
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:  # no systemd, or no Linux
        machine = ""
    return hashlib.sha256(f"{machine}\n{platform.node()}".encode()).hexdigest()[:16]


def host_facts() -> dict[str, Any]:
    """Return what the machine is, without its name: system, processor, cores, libsndfile."""
    import soundfile

    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libsndfile": soundfile.__libsndfile_version__,
    }


def lost_versions(then: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """Return a sentence for every version that is not what it was.

    Args:
        then, now: As `versions` returns them.
        inside: What to call the part that is compared.
    """
    sentences = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            sentences += lost_versions(before or {}, after or {}, f"{name} ")
        elif before != after:
            sentences.append(f"{inside}{name}: {before or 'not installed'} then, {after or 'not installed'} now")
    return sentences
