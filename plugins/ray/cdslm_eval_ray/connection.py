"""Connects to a Ray cluster, and reports in one sentence why it cannot."""

from __future__ import annotations

import os
import socket
from typing import Any

from cdslm_eval.core.errors import EvalError, UsageError

__all__ = ["Connection"]

_CONNECT_S = 5.0


class Connection:
    """A connection to a cluster, closed at the end unless the caller had opened it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ours = False

    def __enter__(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if ray.is_initialized():
            return ray
        settings: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
        if self._address == "local":
            settings["include_dashboard"] = False
        try:
            _answers(self._address)
            ray.init(address=self._address, **settings)
        except (OSError, ValueError) as error:
            fix = "Start one: ray start --head; or use: ray:address=local"
            raise UsageError(f"no Ray cluster answers at {self._address!r}. {fix}. ({error})") from error
        except RuntimeError as error:
            # such as another version of Ray or Python, over several lines
            reason = " ".join(str(error).split())
            raise EvalError(f"Ray at {self._address!r} refuses the connection: {reason}") from error
        self._ours = True
        return ray

    def __exit__(self, *exception: object) -> None:
        if self._ours:
            import ray

            ray.shutdown()


def _answers(address: str) -> None:
    """Raise OSError where nothing listens at HOST:PORT: Ray itself would try for two minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
