"""Which GPUs `--device` names on this machine."""

from __future__ import annotations

import re

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.gpu import count_gpus

__all__ = ["named_devices", "names_several"]


def names_several(device: str) -> bool:
    """Return whether `--device` is a list, or all GPUs."""
    return "," in device or "*" in device


def named_devices(device: str) -> tuple[str, ...]:
    """Return the GPUs that are named by number, each once; none for "auto", "cpu" and "cuda".

    Args:
        device: "cuda:1", "cuda:0,cuda:1", or "cuda:*" for all there are.

    Raises:
        UsageError: There is no such GPU.
    """
    names = [name.strip() for name in device.split(",")]
    if names[0] in ("auto", "cpu", "cuda") and len(names) == 1:
        return ()
    if not all(re.fullmatch(r"cuda:([0-9]{1,4}|\*)", name) for name in names):
        raise UsageError(f"--device {device}: no such device; Use: auto, cpu, cuda, cuda:N, cuda:0,cuda:1 or cuda:*")
    present = [f"cuda:{number}" for number in range(count_gpus())]
    if not present:
        raise UsageError(f"--device {device}: there is no GPU here that this process may use; Use: --device cpu")
    chosen: list[str] = []
    for name in names:
        chosen += present if name == "cuda:*" else [f"cuda:{int(name.partition(':')[2])}"]
    if absent := [name for name in chosen if name not in present]:
        raise UsageError(f"--device {device}: there is no {absent[0]} here, only {', '.join(present)}")
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"--device {device}: names a GPU twice")
    return tuple(chosen)
