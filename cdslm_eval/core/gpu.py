"""Whether this machine has a GPU, without importing what would use it."""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

__all__ = ["count_gpus", "has_gpu"]

_HIDDEN = ("", "-1", "NoDevFiles")


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Return whether a GPU of NVIDIA, AMD or Apple can be used by this process.

    Looks at the device files that the drivers make (a container without them has no access), and at the variable that
    hides GPUs from CUDA; a model library would take seconds to return the same.

    Args:
        devices: The folder of device files.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in _HIDDEN:
        return False
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    if platform.system() == "Windows":
        return (Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll").is_file()
    return any(devices.glob("nvidia[0-9]*")) or (devices / "kfd").exists()


def count_gpus(devices: Path = Path("/dev")) -> int:
    """Return how many GPUs CUDA numbers in this process; by torch where it is installed, else the device files.

    Args:
        devices: The folder of device files.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch

        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in _HIDDEN:
        return 0
    count = len(list(devices.glob("nvidia[0-9]*")))
    return count if visible is None else min(count, len(visible.split(",")))
