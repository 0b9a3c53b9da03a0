"""The actors of a run: started while there is work, checked before they get any, replaced when they are lost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from importlib.metadata import distributions, entry_points
from typing import Any

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.host import GROUP
from cdslm_eval_ray.actor import ClipWorker, Report, installed_versions
from cdslm_eval_ray.options import RayOptions

__all__ = ["Crew"]

_logger = logging.getLogger("cdslm_eval")
_LOOK_S = 1.0


def _compared() -> tuple[str, ...]:
    """Return the distributions whose versions must be the same: Ray, the packages of this project, and all plugins."""
    ours = (d.name for d in distributions() if d.name and d.name.startswith("cdslm-eval"))
    plugins = (entry.dist.name for entry in entry_points(group=GROUP) if entry.dist)
    return ("ray", *sorted({*ours, *plugins}))


class Crew:
    """The actors of a run: started as there is work, checked before they get any, replaced when they are lost.

    Args:
        ray: The connected module.
        options: What each actor reserves.
        worker: The pickled worker of the run.

    Attributes:
        free: Actors that wait for a task.
        starting: Reference of the pending check of an actor -> the actor.
        reports: Of the actors that were checked.
    """

    def __init__(self, ray: Any, options: RayOptions, worker: bytes) -> None:
        self._ray, self._options, self._worker = ray, options, worker
        self._distributions = _compared()
        self._remote = ray.remote(
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(ClipWorker)
        self._capacity, self._looked = 0, -math.inf
        if self.capacity() < 1:
            need = f"{options.cpus:g} CPUs" + (f" and {options.gpus:g} GPUs" if options.gpus else "")
            raise UsageError(f"no node of the Ray cluster has {need} for one worker: {dict(ray.cluster_resources())}")
        self.actors: list[Any] = []
        self.free: list[Any] = []
        self.starting: dict[Any, Any] = {}
        self.reports: dict[Any, Report] = {}

    def capacity(self) -> int:
        """Return how many workers fit on the nodes that were alive within the last second."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._capacity, self._looked = self._fitting(), time.monotonic()
        return self._capacity

    def _fitting(self) -> int:
        """Return how many workers fit on the nodes that are alive, each node for itself."""
        options, capacity = self._options, 0
        for node in self._ray.nodes():
            if node["Alive"]:
                resources: Mapping[str, float] = node["Resources"]
                fits = resources.get("CPU", 0.0) / options.cpus
                if options.gpus:
                    fits = min(fits, resources.get("GPU", 0.0) / options.gpus)
                capacity += math.floor(fits + 1e-9)
        return min(capacity, options.workers) if options.workers else capacity

    def start(self) -> None:
        """Request one more actor; it is usable once its check arrives."""
        actor = self._remote.remote(self._worker)
        self.actors.append(actor)
        self.starting[actor.check.remote(self._distributions)] = actor

    def admit(self, check: Any) -> None:
        """Take an actor whose check has arrived into the free ones.

        Raises:
            EvalError: Its node lacks a plugin, or has other versions than this machine.
        """
        actor = self.starting.pop(check)
        try:
            report: Report = self._ray.get(check)
        except self._ray.exceptions.RayActorError:
            self.drop(actor)
            return
        where = f"the node {report.node} of the Ray cluster"
        here = installed_versions(self._distributions)
        differing = [
            f"{name} {here[name]} here, {report.versions.get(name) or 'not installed'} there"
            for name in here
            if report.versions.get(name) != here[name]
        ]
        if differing:
            raise EvalError(f"{where} has other versions: {'; '.join(differing)}")
        if report.problem:
            raise EvalError(f"{where} cannot measure: {report.problem}")
        self.reports[actor] = report
        self.free.append(actor)

    def where(self) -> str:
        """Return how many nodes, workers and GPUs are at work."""
        nodes = len({report.node_id for report in self.reports.values()})
        gpus = len({(report.node_id, gpu) for report in self.reports.values() for gpu in report.gpus})
        counts = [(nodes, "node"), (len(self.reports), "worker"), *([(gpus, "GPU")] if gpus else [])]
        return ", ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in counts)

    def drop(self, actor: Any) -> None:
        """Forget an actor that was lost."""
        if report := self.reports.pop(actor, None):
            _logger.warning("the node %s of the Ray cluster lost a worker; its clips go to others", report.node)
        self.actors = [other for other in self.actors if other is not actor]

    def end(self) -> None:
        """End all actors and with them their processes."""
        for actor in self.actors:
            self._ray.kill(actor)
