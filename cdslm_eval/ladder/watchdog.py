"""Runs a command that ends when its parent process is gone: `python -m cdslm_eval.ladder.watchdog COMMAND`.

A ladder that was killed would otherwise leave its trainer running, and the next one would find the run folder taken.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

_LOOK_S = 1.0
_GRACE_S = 60.0
"""How long an orphan may take to write its checkpoint."""


def main(command: Sequence[str]) -> int:
    """Run a command to its end, or to the end of the parent; return its exit code (128 + signal if it died of one)."""
    parent = os.getppid()
    child = subprocess.Popen(command)

    def pass_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the child by itself
    while True:
        try:
            code = child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.terminate()
                try:
                    child.wait(_GRACE_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                return 143
        else:
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
