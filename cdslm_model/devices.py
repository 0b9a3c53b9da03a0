"""Where tensors are computed, in which precision, and how fast matrix products are there."""

from __future__ import annotations

import time

import torch

from cdslm_model.errors import ModelError

__all__ = ["matrix_rate", "pick_device", "precision"]


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises:
        ModelError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"There is no device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise ModelError(f"the device {name!r} is not supported; use cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"the device {name!r} needs a GPU, and torch finds no GPU here; use --device cpu")
    return device


def precision(name: str, device: torch.device) -> torch.dtype:
    """Return the data type of matrix products and attention in training.

    Args:
        name: "float32", "bfloat16", or "auto": bfloat16 on a GPU that has it, float32 elsewhere. Processors with matrix
            units for bfloat16 train nearly twice as fast with it, others more slowly, so that "auto" never picks it.
        device: Where it is computed.
    """
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    half = name == "bfloat16" or (name == "auto" and on_gpu)
    return torch.bfloat16 if half else torch.float32


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Return the FLOPs a second that matrix products reach here: the denominator of utilisation."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        product = matrix @ matrix
        # Reading a value waits for the device
        float(product[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
