"""Keyed noise: Philox by its published answers, the normal quantile, and values that belong to seed, clip and frame."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model.noise import Noise, _quantiles, clip_noise, noise_keys, philox  # noqa: E402 - torch may be absent

ONES = 0xFFFFFFFF
# Random123, examples/kat_vectors, "philox4x32 10": counter, key, words
ANSWERS = (
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def test_philox_returns_the_published_words():
    counters, keys, words = (torch.tensor(column).T for column in zip(*ANSWERS, strict=True))
    assert torch.equal(torch.stack(philox(tuple(counters), tuple(keys))), words)


def philox_in_python(counter, key):
    """Philox4x32-10 with Python's unbounded integers, as its paper writes it."""
    (a, b, c, d), (k, l) = counter, key  # noqa: E741
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (right >> 32) ^ b ^ k, right & ONES, (left >> 32) ^ d ^ l, left & ONES
        k, l = (k + 0x9E3779B9) & ONES, (l + 0xBB67AE85) & ONES  # noqa: E741
    return a, b, c, d


def test_each_value_is_the_quantile_of_its_own_word():
    """By scipy's quantile, from words of a Philox in plain Python: band 4 g + i of a frame is word i of counter g."""
    from scipy.special import ndtri

    keys = noise_keys(3, [11, "b"])
    values = clip_noise(3, [11, "b"], 3, 10, first=7)
    for clip, key in enumerate(keys.tolist()):
        for frame in range(3):
            words = [philox_in_python((g, 7 + frame, key[2], key[3]), key[:2]) for g in range(3)]
            words = np.array(words).ravel()[:10]
            expected = -ndtri((words | 1) / 2**33) * (1.0 - 2.0 * (words & 1))
            np.testing.assert_allclose(values[clip, frame].numpy(), expected, rtol=0, atol=4e-7)


def test_the_ends_of_the_quantile_are_those_of_33_bits():
    words = torch.tensor([1, 0, ONES, ONES - 1])
    values = Noise(1).quantile(words)
    assert values[:2].tolist() == pytest.approx([-6.3380, 6.3380], abs=1e-4)
    assert values[2:].abs().max() < 1e-7


def test_the_table_is_the_same_on_every_machine():
    """Entries are rounded, and none is so near a tie that the last digits of a library's quantile could turn it."""
    from scipy.special import ndtri

    table = _quantiles()
    index = np.arange(len(table) - 1)
    exact = -ndtri((1 + index % 512 / 512) * 2.0 ** (index // 512 - 33)) * 2**26
    assert np.abs(exact - table.numpy()[:-1]).max() < 0.5
    assert np.abs(exact - np.floor(exact) - 0.5).min() > 1e-5, "errors of either quantile are under 3e-7 here"
    digest = hashlib.sha256(table.numpy().astype("<i4").tobytes()).hexdigest()
    assert digest[:16] == "1851d5aea9854faa"


def test_the_compiled_graph_computes_with_words_of_64_bits():
    """torch.compile may compute with the values of a range in 32 bits, which loses bits of the products."""
    source, keys = Noise(50), noise_keys(0, range(3))
    graphs = []

    def inspected(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda keys: source(keys, 50, 18), fullgraph=True, backend=inspected)
    assert torch.equal(compiled(keys), source(keys, 50, 18))
    assert "philox" in str(graphs[0].print_readable(print_output=False))
    assert not [node for node in graphs[0].graph.nodes if "arange" in str(node.target)]


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_noise_belongs_to_seed_clip_and_frame(seed, clip, frames, more):
    own = clip_noise(seed, [clip], frames, 80)
    together = clip_noise(seed, [clip - 1, clip], frames + more, 80)
    assert torch.equal(own[0], together[1, :frames])
    assert torch.equal(together[1:, frames:], clip_noise(seed, [clip], more, 80, first=frames))
    for other in (clip_noise(seed + 1, [clip], frames, 80), clip_noise(seed, [clip + 1], frames, 80)):
        assert not torch.isclose(own, other).any(2).all()


def test_noise_is_standard_normal_and_independent_across_clips():
    from scipy import stats

    noise = clip_noise(7, range(50), 50, 80).numpy()
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    flat = noise.reshape(50, -1)
    correlations = np.corrcoef(flat)[np.triu_indices(50, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(flat.shape[1])


def test_more_frames_than_the_tables_are_refused():
    with pytest.raises(ValueError, match="100 frames of 80 bands from tables for 64"):
        Noise(10)(noise_keys(0, [1]), 100, 80)
