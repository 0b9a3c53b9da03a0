"""How log-mels are stored: the error stays within the bound of each storage, whatever the values are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.data.storage import STORAGES

LOG_MELS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 50), st.integers(1, 4)),
    elements=st.floats(-10, 3, width=32, allow_subnormal=False),
)


def back(name, values):
    """Return values as a reader of the shard would find them, and their scale."""
    storage = STORAGES[name]
    stored, scale = storage.encode(values.astype(storage.gathered))
    assert stored.dtype == storage.dtype
    scale = {key: np.array(steps, np.float32) for key, steps in json.loads(json.dumps(scale)).items()}
    return storage.decode(stored, scale), scale


@given(LOG_MELS)
def test_int8_is_off_by_half_a_step_of_its_band_at_most(values):
    found, scale = back("int8", values)
    span = values.max(0).astype(np.float64) - values.min(0)
    np.testing.assert_allclose(scale["step"], span / 254, rtol=1e-6, atol=1e-44)
    assert (np.abs(found - values.astype(np.float64)) <= span / 508 + 4e-6).all()
    still = span == 0
    assert np.array_equal(found[:, still], values[:, still]), "a band that never moves is kept as it is"


@given(LOG_MELS)
def test_what_was_stored_is_stored_the_same_again(values):
    """Preparing speech that went through a storage loses nothing more."""
    for name in STORAGES:
        once, _ = back(name, values)
        again, _ = back(name, once)
        np.testing.assert_allclose(again, once, rtol=0, atol=1e-5)


@given(LOG_MELS)
def test_float16_is_off_by_what_its_docstring_says(values):
    assert np.abs(back("float16", values)[0] - values).max() <= 0.004
