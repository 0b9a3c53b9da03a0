"""What sampling steps share: the same predictions as whole forward passes, in one compiled graph, in two precisions."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_eval.plugin.host import Host  # noqa: E402 - torch may be absent
from cdslm_model.diffusion import Process  # noqa: E402
from cdslm_model.guess import Moments  # noqa: E402
from cdslm_model.net import flops  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.net.mmdit import MMDiT  # noqa: E402
from cdslm_model.net.parametrization import initialise  # noqa: E402
from cdslm_model.sample import compiling  # noqa: E402
from cdslm_model.sample import denoiser as module  # noqa: E402
from cdslm_model.sample.compiling import CompiledStep  # noqa: E402
from cdslm_model.sample.continuation import Continuer, SamplingConfig  # noqa: E402
from cdslm_model.sample.denoiser import Denoiser  # noqa: E402
from cdslm_model.sample.sampling import SAMPLERS, times  # noqa: E402


def network(**shape) -> MMDiT:
    """Return a network whose modulations and output are not the zeros that they begin with."""
    config = Config(depth=2, width=64, head_dim=32, mels=5, **shape)
    model = MMDiT(config).eval()
    generator = torch.Generator().manual_seed(0)
    initialise(model, config, 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def streams(config: Config, batch: int = 3, context: int = 7, frames: int = 9) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = [(context, config.mels), *((4, own) for own in config.extra_streams), (frames, config.mels)]
    return [torch.randn(batch, *own, generator=generator) for own in features]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("shape", [{}, {"patch": 2}, {"extra_streams": (3,)}], ids=str)
@torch.inference_mode()
def test_a_step_of_shared_parts_is_a_forward_pass(shape, static):
    model, process = network(**shape, static_context=static), Process()
    *conditions, x = streams(model.config)
    moments = Moments(4)
    moments.add(torch.randn(40, 4, 5), torch.randn(40, 4, 5))
    guess = moments.fit()
    denoise = Denoiser(model, process, torch.device("cpu"), guess=guess)
    predict = denoise(tuple(conditions))
    denoise.tabulate([0.3, 1.0])
    for time in (0.3, 1.0, 0.7):  # the last is not in the table
        at = torch.tensor(time, dtype=torch.float64)
        own, times_of = guess(conditions[0], x.shape[1]), at.expand(3)
        read = process.network_input(x, own, times_of)
        whole = process.from_network(model((*conditions, read), times_of.float()), x, own, times_of)
        torch.testing.assert_close(predict(x, at), whole, rtol=0, atol=5e-5)
        torch.testing.assert_close(denoise.predict((*conditions, x), at.expand(3)), whole)
    assert (predict(x, torch.tensor(0.3)) - predict(x, torch.tensor(0.7))).abs().max() > 0.01


@pytest.mark.parametrize("static", [False, True])
@torch.inference_mode()
def test_a_static_context_does_not_depend_on_time_and_continuation(static):
    """What the last frame of x_t and the time change in the context's tokens after a block."""
    model = network(static_context=static)
    context, x = streams(model.config)
    shown = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: shown.append(output))
    for own, time in ((x, 0.2), (x, 0.9), (x + 1, 0.2)):
        model((context, own), torch.full((3,), time))
    for (before, generated), (other, other_generated) in ((shown[0], shown[1]), (shown[0], shown[2])):
        assert torch.allclose(before, other, atol=1e-5) == static
        assert not torch.allclose(generated, other_generated, atol=1e-2)
    # clips of different lengths, without padding
    lengths = [torch.tensor([7, 3, 0]), torch.tensor([9, 4, 9])]
    packed = model((context, x), torch.full((3,), 0.5), lengths)
    for clip, (known, new) in enumerate(zip(*(own.tolist() for own in lengths), strict=True)):
        alone = model((context[clip : clip + 1, :known], x[clip : clip + 1, :new]), torch.tensor([0.5]))
        torch.testing.assert_close(packed[clip, :new], alone[0], rtol=0, atol=5e-5)


@pytest.mark.parametrize("static", [False, True])
def test_flops_of_a_pass_and_of_a_sample_are_those_that_torch_counts(static):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = network(patch=2, static_context=static)
    config = model.config
    context, x = streams(config, batch=1, context=8, frames=10)
    # the fused kernels of a CPU are not counted
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model((context, x), torch.tensor([0.5]))
        assert counter.get_total_flops() == flops.forward(config, 8, 10).total
        denoise = Denoiser(model, Process(), torch.device("cpu"))
        grid = times(Process(), 5)
        denoise.tabulate(grid)
        with FlopCounterMode(display=False) as counter:
            SAMPLERS["ddim"](denoise((context,)), x, grid, Process())
        assert counter.get_total_flops() == flops.sampling(config, 8, 10, 5).total


# torch's own, in what it imports to trace linear layers
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_all_steps_of_all_batches_are_one_graph(monkeypatch):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(module, "CompiledStep", lambda step: CompiledStep(step, count))
    model = network()
    compiled = Denoiser(model, Process(), torch.device("cpu"), compiles=True)
    plain = Denoiser(model, Process(), torch.device("cpu"))
    with torch.inference_mode():
        for shift in (0.0, 1.0):
            *conditions, x = (own + shift for own in streams(model.config))
            for time in (1.0, 0.5, 0.25):
                at = torch.tensor(time, dtype=torch.float64)
                outputs = [denoise(tuple(conditions))(x, at) for denoise in (compiled, plain)]
                torch.testing.assert_close(*outputs, rtol=0, atol=5e-5)
    assert len(graphs) == 1
    # a smaller batch of the same lengths is filled up, and one of other lengths is not
    assert [compiled.batch(2, 7, 9), compiled.batch(3, 7, 9), compiled.batch(4, 7, 9)] == [3, 3, 4]
    assert compiled.batch(2, 6, 9) == plain.batch(2, 7, 9) == 2


class Uncompiled(CompiledStep):
    """Counts shapes as a compiled step does."""

    def __init__(self, step):
        self._step, self._compiled, self._refusal, self.shapes = step, step, RuntimeError, set()


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
@pytest.mark.parametrize(("guidance", "copies"), [(1.0, 1), (2.0, 2)])
def test_a_smaller_batch_is_filled_up_to_the_compiled_one(guidance, copies, trained, shards, monkeypatch):
    """With guidance a step holds each clip twice where one batch makes both predictions, as on a GPU."""
    from cdslm_model.data.windows import Shards

    monkeypatch.setattr(module, "CompiledStep", Uncompiled)
    monkeypatch.setattr(Continuer, "_one_batch", property(lambda self: True))
    model = Continuer(trained, SamplingConfig(steps=2, guidance=guidance), "cpu", compiles=True)
    context = Shards(shards / "valid").read(0, 20)
    for clips in (4, 3, 1):
        assert len(model.continuations([context] * clips, range(clips), 40)) == clips
    assert {shape[0] for shape in model._denoiser._compiled.shapes} == {4 * copies}


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
def test_what_is_not_compiled_is_logged_with_its_reason(caplog, monkeypatch):
    def refuse(graph, inputs):
        raise ValueError("no compiler here")

    model = network()
    *conditions, x = streams(model.config)
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "cdslm_model"):
        modulation, layout = model.modulations(torch.tensor([0.5]))[0], model.layout([7, 9], torch.device("cpu"))
        tokens = model.prepared(conditions, layout)
        plain = model.step(tokens, x, modulation, layout)
        assert torch.equal(CompiledStep(model.step, refuse)(tokens, x, modulation, layout), plain)
        assert "no compiler here" in caplog.text
        caplog.clear()
        monkeypatch.setattr(compiling, "MOST_SHAPES", 1)
        step = CompiledStep(model.step, "eager")
        for batch in (1, 2):
            assert not caplog.text
            rows = x[:1].expand(batch, -1, -1)
            out = step([own[:1].expand(batch, -1, -1) for own in tokens], rows, modulation, layout)
            torch.testing.assert_close(out, plain[:1].expand(batch, -1, -1), rtol=0, atol=5e-5)
        assert "batch 2" in caplog.text


def test_bfloat16_changes_a_sample_by_its_rounding_and_the_identity(trained, shards):
    from cdslm_model.data.windows import Shards

    context = Shards(shards / "valid").read(0, 20)
    exact, rounded = (
        Continuer(trained, SamplingConfig(steps=6), "cpu", dtype=dtype).continuations([context] * 2, [0, 1], 40)
        for dtype in ("float32", "bfloat16")
    )
    assert rounded[0].dtype == torch.float32
    difference = (torch.stack(exact) - torch.stack(rounded)).square().mean().sqrt()
    assert 1e-4 < difference < 0.1 * torch.stack(exact).std()
    spec = f"cdslm:{trained},device=cpu"
    plain, half = (Host().make("generator", spec + more) for more in ("", ",precision=bfloat16"))
    assert plain.options.precision == "float32"
    assert set(plain.fingerprint()) == {"weights", "guess"}
    assert half.fingerprint() == {**plain.fingerprint(), "precision": "bfloat16"}
    assert "bfloat16" in half.info().conventions["sampling"]
