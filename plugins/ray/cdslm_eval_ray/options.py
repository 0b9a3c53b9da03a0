"""Options of the executor `ray`."""

from __future__ import annotations

from pydantic import Field

from cdslm_eval.plugin.contract import Options

__all__ = ["RayOptions"]


class RayOptions(Options):
    """Where and with which share of a node each worker runs.

    Attributes:
        address: "auto" (a running cluster that this machine belongs to), HOST:PORT, ray://HOST:PORT, or "local" to
            start one on this machine for the length of the run.
        cpus: CPUs that Ray reserves for each worker.
        gpus: GPUs for each worker; .25 lets four share one.
        workers: How many workers; 0 takes as many as the cluster has resources for.
    """

    address: str = "auto"
    cpus: float = Field(1.0, gt=0.0)
    gpus: float = Field(0.0, ge=0.0)
    workers: int = Field(0, ge=0)
