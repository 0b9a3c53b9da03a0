"""espeak-ng in another process at another second: the same samples, also from voices with noise in them."""

from __future__ import annotations

import subprocess
import sys
import time

from cdslm_eval.builtin.generators.espeak import VARIANTS

PROGRAM = """
import hashlib
from cdslm_eval.builtin.generators.espeak import VARIANTS, open_espeak
with open_espeak() as espeak:
    for variant in VARIANTS:
        samples = espeak.say("The sizzling fish was thrown back.", voice=f"en-us+{variant}")
        print(hashlib.sha256(samples.tobytes()).hexdigest())
"""


def spoken():
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()


def test_the_clock_is_not_heard():
    first = spoken()
    time.sleep(1.05)
    assert spoken() == first
    assert len(set(first)) == len(VARIANTS)
