"""The metrics that come with the host, arriving through the same hook as anyone's."""

from __future__ import annotations

from cdslm_eval.plugin.contract import Metric
from cdslm_eval.plugin.hookspecs import hookimpl

__all__ = ["cdslm_metrics"]


@hookimpl
def cdslm_metrics() -> list[type[Metric]]:
    """Return the built-in metrics."""
    from cdslm_eval.builtin.metrics.channel import ChannelMetric
    from cdslm_eval.builtin.metrics.join import JoinJump
    from cdslm_eval.builtin.metrics.pjsd import PJSD
    from cdslm_eval.builtin.metrics.repetition import Repetition
    from cdslm_eval.builtin.metrics.signal import Signal

    return [ChannelMetric, JoinJump, PJSD, Repetition, Signal]
