#!/usr/bin/env bash
# A plugin author's path: a metric from one file, then the same as a distribution with tests, installed and found by name.
set -euo pipefail
export CDSLM_EVAL_STORE=$PWD/rows.cdslm
cdslm-eval generate silence --count 4 --seconds 1 --out samples

# first without packaging: a class in a file
cat > crest.py <<'PYTHON'
"""Crest factor of each clip."""

import numpy as np

from cdslm_eval import Mean, Metric


class Crest(Metric):
    """Peak over root mean square, 1 for silence."""

    name = "crest"
    version = "1"
    statistics = {"crest": Mean("crest")}

    def measure(self, clips):
        for clip in clips:
            rms = np.sqrt(np.mean(np.square(clip.samples, dtype=np.float64)))
            yield {"crest": float(np.abs(clip.samples).max() / rms) if rms > 0 else 1.0}
PYTHON
cdslm-eval score samples --metrics ./crest.py:Crest

# then as a distribution: written, installed, its tests run, found by name
cdslm-eval new-plugin loudness --kind metric
python -m pip install -q ./loudness
python -m pytest -q -p no:cacheprovider loudness/tests
cdslm-eval plugins
