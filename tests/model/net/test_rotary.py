"""Norm and rotation in few passes against their formula, both ways, in every precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdslm_model.net.rotary import RotaryEmbedding, joint_qkv, joint_qkv_reference

HEADS, HEAD_DIM = 2, 8


def drawn(counts, lead, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    projected = [some(*lead, tokens, 3, HEADS, HEAD_DIM) for tokens in counts]
    gains = [(some(HEAD_DIM), some(HEAD_DIM)) for _ in counts]
    exact = torch.promote_types(dtype, torch.float32)
    return projected, gains, RotaryEmbedding(torch.arange(sum(counts)) - counts[0], HEAD_DIM, exact)


def flat(projected, gains):
    return [*projected, *(gain for pair in gains for gain in pair)]


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(sum),
    lead=st.sampled_from([(), (1,), (3,)]),
    seed=st.integers(0, 99),
)
def test_fused_and_reference_agree_in_values_and_gradients(counts, lead, seed):
    projected, gains, rotary = drawn(counts, lead, torch.float64, seed)
    both = [made(projected, gains, rotary) for made in (joint_qkv, joint_qkv_reference)]
    weights = [torch.randn(tensor.shape, dtype=torch.float64) for tensor in both[0]]
    gradients = []
    for outputs in both:
        total = sum((tensor * weight).sum() for tensor, weight in zip(outputs, weights, strict=True))
        gradients.append(torch.autograd.grad(total, flat(projected, gains)))
    for fast, plain in ((both[0], both[1]), tuple(gradients)):
        for tensor, other in zip(fast, plain, strict=True):
            torch.testing.assert_close(tensor, other)


def test_the_gradient_is_that_of_small_differences():
    projected, gains, rotary = drawn((2, 3), (2,), torch.float64)

    def rotated(*values):
        pairs = list(zip(values[2::2], values[3::2], strict=True))
        return joint_qkv(values[:2], pairs, rotary)

    assert torch.autograd.gradcheck(rotated, flat(projected, gains))


def test_rotation_keeps_norms_and_depends_on_distance_in_time_only():
    projected, _, _ = drawn((5,), (), torch.float64)
    ones = [(torch.ones(HEAD_DIM, dtype=torch.float64),) * 2]
    products = []
    for start in (0, 7):
        rotary = RotaryEmbedding(torch.arange(5) + start, HEAD_DIM, torch.float64)
        query, key, _ = joint_qkv(projected, ones, rotary)
        assert query.square().mean(-1).detach().numpy() == pytest.approx(1.0, abs=1e-4)
        products.append(torch.einsum("ihd,jhd->hij", query, key))
    torch.testing.assert_close(*products, rtol=1e-5, atol=1e-5)


def test_half_precision_is_rounded_once():
    projected, gains, rotary = drawn((3, 4), (2,), torch.bfloat16)
    outputs = joint_qkv(projected, gains, rotary)
    exact = joint_qkv_reference(
        [tensor.double() for tensor in projected],
        [tuple(gain.double() for gain in pair) for pair in gains],
        RotaryEmbedding(torch.arange(7) - 3, HEAD_DIM, torch.float64),
    )
    for tensor, other in zip(outputs, exact, strict=True):
        assert tensor.dtype == torch.bfloat16
        torch.testing.assert_close(tensor.double(), other, rtol=2**-8, atol=1e-5)


def test_a_compiler_meets_the_formula():
    projected, gains, rotary = drawn((2, 3), (2,), torch.float32)
    compiled = torch.compile(joint_qkv, backend="aot_eager", fullgraph=True)
    for tensor, other in zip(compiled(projected, gains, rotary), joint_qkv(projected, gains, rotary), strict=True):
        torch.testing.assert_close(tensor, other)
