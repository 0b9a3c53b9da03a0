"""phone-ctc puts systems in the order of divergences that are known: babble of orders 1 and 3, and sentences."""

from __future__ import annotations

import pytest

from benchmarks.calibration.babble import babble_sets, divergences


@pytest.fixture(scope="module")
def recovered():
    real, sets = babble_sets(24, real_count=60)
    chosen = {name: sets[name] for name in ("sentences", "babble 3", "babble 1")}
    return {recognizer: divergences(real, chosen, recognizer, jobs=1) for recognizer in ("sidecar", "phone-ctc")}


def test_the_truth_is_that_of_the_phones_that_were_spoken(recovered):
    truth = recovered["sidecar"]
    assert truth["babble 1"]["pjsd_2"] == pytest.approx(0.24, abs=0.05)
    assert abs(truth["sentences"]["pjsd_2"]) < 0.03


def test_the_recognizer_keeps_the_order_and_a_fifth_of_the_divergence(recovered):
    truth, values = ([recovered[name][key]["pjsd_2"] for key in recovered[name]] for name in ("sidecar", "phone-ctc"))
    assert values == sorted(values)
    assert truth == sorted(truth)
    assert 0.2 < values[-1] / truth[-1] < 0.8
    assert abs(values[0]) < 0.02
