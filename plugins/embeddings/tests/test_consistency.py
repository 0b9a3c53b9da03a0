"""One voice throughout is consistent, a switch of voices shows where it is, silence is no voice."""

from __future__ import annotations

import numpy as np
import pytest
from cdslm_eval_embeddings import resemblyzer
from cdslm_eval_embeddings.consistency import ConsistencyOptions, SpeakerConsistency, pieces

from cdslm_eval.core.audio import Clip
from cdslm_eval.plugin.contract import Skipped
from cdslm_eval.testing import METRIC_CHECKS
from cdslm_eval.testing.clips import spoken

torch = pytest.importorskip("torch")
if not resemblyzer.usable():
    pytest.skip("Resemblyzer is not installed", allow_module_level=True)

RATE_HZ = 16_000


def test_pieces_that_are_silent_and_a_short_rest_are_left_out():
    samples = np.concatenate([np.ones(4), np.zeros(4), np.ones(6)]).astype(np.float32)
    starts, parts = pieces(samples, 4)
    assert starts == [0, 8]
    assert [len(part) for part in parts] == [4, 4]
    # the sound of a room in a pause, 40 dB under the speech, is no voice either
    noise = 0.01 * np.where(np.arange(4) % 2, 1, -1)
    assert pieces(np.concatenate([noise, np.ones(4), noise, np.ones(4)]).astype(np.float32), 4)[0] == [4, 12]


def test_a_voice_that_stays_and_one_that_is_switched():
    first, second = (clip.reference.samples[: 2 * RATE_HZ] for clip in (spoken()[1], spoken()[3]))
    silence = np.zeros(2 * RATE_HZ, np.float32)
    clips = {
        "stays": [first] * 4,
        "pauses": [first, silence, first, silence, first],
        "switches": [first, first, second, second],
        "short": [first, first],
    }
    metric = SpeakerConsistency(ConsistencyOptions(piece_s=2.0))
    with metric.open("cpu"):
        made = [Clip(key=key, samples=np.concatenate(parts), rate_hz=RATE_HZ) for key, parts in clips.items()]
        rows = dict(zip(clips, metric.measure(made), strict=True))
        own, other = (vector / np.linalg.norm(vector) for vector in metric.embed([first, second]))
    for name in ("stays", "pauses"):
        assert rows[name]["similarity"] == pytest.approx(1.0, abs=1e-5)
        assert rows[name]["change"] == pytest.approx(0.0, abs=1e-3)
    cosine = float(own @ other)
    assert rows["switches"]["end"] == pytest.approx(cosine, abs=1e-5)
    assert rows["switches"]["similarity"] == pytest.approx((1 + 2 * cosine) / 3, abs=1e-5)
    # a line through 1, cosine, cosine at 2, 4 and 6 s
    assert rows["switches"]["change"] == pytest.approx((cosine - 1) / 2 / (2 / 60), rel=1e-4)
    assert isinstance(rows["short"], Skipped)
    assert "under 3 pieces of 2 s" in rows["short"].reason


# clips are embedded one by one, so that those of repeated and of batched measurements have nothing to find
CHEAP = [check for check in METRIC_CHECKS if check.name in ("declares itself", "empty clip", "statistics are numbers")]


@pytest.mark.parametrize("check", CHEAP, ids=str)
def test_the_contract(check):
    check(SpeakerConsistency(ConsistencyOptions(piece_s=0.5)))
