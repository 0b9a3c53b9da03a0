"""A scoring run slow enough to be killed half-way: SYSTEM REFERENCE STORE; prints JSON."""

import json
import sys

import hostile_metrics

from cdslm_eval.builtin.metrics.pjsd import PJSD
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.store import Store
from cdslm_eval.run import Runner
from cdslm_eval.run.executors.local import LocalExecutor
from cdslm_eval.run.scoring import score

if __name__ == "__main__":
    system, reference, path = sys.argv[1:]
    with Store(path) as store:
        runner = Runner(store, LocalExecutor(), SidecarRecognizer(), jobs=2)
        metrics = [PJSD(), hostile_metrics.Slow()]
        result = score(runner, [ClipSet.open(system)], ClipSet.open(reference, name="reference"), metrics)
        print(json.dumps({"estimates": result.as_json()["estimates"], "measured": runner.measured}))
