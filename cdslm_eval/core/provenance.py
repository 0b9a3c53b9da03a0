"""Provenance: versions of everything that can move a number, and what machine it was computed on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import distributions
from typing import Any

from cdslm_eval.plugin.host import Host

__all__ = ["host_facts", "lost_versions", "versions"]


def versions(host: Host) -> dict[str, Any]:
    """Return the versions of this package, of Python, of every plugin and of every installed distribution."""
    import numpy as np
    import scipy

    from cdslm_eval import __version__

    return {
        "cdslm_eval": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "plugins": {plugin.name: plugin.version for plugin in host.plugins if not plugin.problems},
        "distributions": {name: one.version for one in distributions() if (name := one.metadata["Name"])},
    }


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
        then, now: As `versions` gives them.
        inside: What to call the part that is compared.
    """
    found = []
    for name in sorted({*then, *now}):
        before, after = then.get(name), now.get(name)
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            found += lost_versions(before or {}, after or {}, f"{name} ")
        elif before != after:
            found.append(f"{inside}{name}: {before or 'not installed'} then, {after or 'not installed'} now")
    return found
