"""Steps of the trainer: what they wait for, how they are compiled, and what a step that is no number leaves behind."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter

import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - torch may be absent

from cdslm_model.data.windows import Shards, Windows  # noqa: E402
from cdslm_model.net.config import Config  # noqa: E402
from cdslm_model.train.distributed import World  # noqa: E402
from cdslm_model.train.execution import Execution  # noqa: E402
from cdslm_model.train.objective import Validation  # noqa: E402
from cdslm_model.train.schedule import WarmupStableDecay  # noqa: E402
from cdslm_model.train.settings import Settings  # noqa: E402
from cdslm_model.train.trainer import Trainer  # noqa: E402

# aten operations whose result the CPU needs before it can go on: each is a wait on a GPU
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "_unique2", "equal"}
SCHEDULE = WarmupStableDecay(100, 1, 0)


class Counted(TorchDispatchMode):
    """Counts the operations that wait for the device."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        del types
        self.counts[function.overloadpacket.__name__] += 1
        return function(*arguments, **(keywords or {}))

    @property
    def waits(self):
        return {name: count for name, count in self.counts.items() if name in WAITS}


@pytest.fixture
def trainer(shards):
    """Return a function that makes a trainer of a network of two blocks."""

    def make(execution=None, **options):
        config = Config(depth=2, width=64, context_frames=20, continuation_frames=40)
        held = Shards(shards / "train")
        windows = Windows(held, 20, 40)
        defaults = {"config": config, "batch_size": 2, "attention_bias": 1.0, "onset_weight": 10.0, "end_share": 0.1}
        settings = Settings(**{**defaults, **options})
        validation = Validation(windows, held.normalizer(), 3)
        world = World(0, 1, torch.device("cpu"))
        return Trainer(settings, world, windows, held.normalizer(), validation, execution)

    return make


def values(trainer, count):
    return [dict(values) for values in trainer.advance(SCHEDULE, trainer.step + count)]


def test_steps_wait_for_nothing_until_their_values_are_read(trainer):
    own = trainer()
    steps = own.advance(SCHEDULE, 10)
    next(steps)  # the first step makes the state of the optimizer
    with Counted() as counted:
        late = [next(steps) for _ in range(3)]
    assert counted.counts["_fused_adamw_"]
    assert counted.waits == {}
    with Counted() as counted:
        read = [step["loss"] for step in late]
    assert len(set(read)) == 3
    assert counted.waits == {"_local_scalar_dense": 3}


def test_a_step_that_is_no_number_leaves_weights_moments_and_step_counts(trainer):
    own = trainer()
    values(own, 2)
    before = {part: {name: value.clone() for name, value in tensors.items()} for part, tensors in own.parts()}
    collate = own._collate
    own._collate = lambda stored: dataclasses.replace(batch := collate(stored), clean=batch.clean * math.nan)
    (step,) = values(own, 1)
    assert math.isnan(step["loss"])
    assert math.isnan(step["grad_norm"])
    after = dict(own.parts())
    for part in ("weights", "optimizer"):
        assert all(torch.equal(tensor, before[part][name]) for name, tensor in after[part].items()), part
    own._collate = collate
    (step,) = values(own, 1)
    assert math.isfinite(step["loss"])


def test_decoding_noise_network_and_loss_are_one_graph(trainer):
    """Compiled by torch's tracer and run without a code generator: no graph break, and one graph for all steps.

    The activations of one of the two blocks are recomputed, in a graph within the graph.
    """
    graphs = []

    def traced(graph, inputs):
        del inputs
        graphs.append(graph)
        return graph.forward

    compiled = values(trainer(Execution(compile=True, backend=traced, recompute=1)), 3)
    assert len(graphs) == 1
    operations = Counter(str(node.target) for node in graphs[0].graph.nodes)
    assert sum(count for name, count in operations.items() if "scaled_dot_product_attention" in name) == 1
    for own, plain in zip(compiled, values(trainer(), 3), strict=True):
        assert own == pytest.approx(plain, rel=1e-4)


def test_every_shape_has_a_graph_of_its_own_beyond_the_limit_of_torch():
    """Nine shapes are one more than the graphs after which torch gives up on a function: lengths come in buckets."""
    graphs = []

    def traced(graph, inputs):
        graphs.append(inputs[0].shape)
        return graph.forward

    world = World(0, 1, torch.device("cpu"))
    double = Execution(compile=True, backend=traced).compiled(lambda x: 2 * x, world)
    sizes = [*range(2, 12), *range(2, 12)]
    assert [len(double(torch.ones(size))) for size in sizes] == sizes
    assert graphs == [(size,) for size in range(2, 12)]


def test_recomputed_activations_change_no_bit(trainer):
    plain, recomputed = trainer(), trainer(Execution(recompute=2))
    assert values(plain, 3) == values(recomputed, 3)
    for own, other in zip(plain.model.parameters(), recomputed.model.parameters(), strict=True):
        assert torch.equal(own, other)


def test_initial_values_depend_on_seed_and_name_only(trainer):
    """A deeper network of one width begins with the same blocks."""
    small, large = trainer(), trainer(config=Config(depth=3, width=64, context_frames=20, continuation_frames=40))
    inner = dict(large.model.named_parameters())
    assert all(torch.equal(value, inner[name]) for name, value in small.model.named_parameters() if "blocks.0" in name)
    other = trainer(seed=1)
    assert not torch.equal(small.model.embed.weight, other.model.embed.weight)
    weights = [small.model.blocks[number].streams[1].up.weight for number in (0, 1)]
    assert not torch.isclose(*weights).all(1).any()


def test_a_run_of_an_earlier_version_is_refused():
    """Its noise was drawn by another generator: continued, it would be validated on other noise than before."""
    settings = Settings(config=Config.from_depth(1))
    earlier = json.loads(json.dumps(settings.as_dict()))
    del earlier["noise"]
    (difference,) = settings.from_dict(earlier).differences(settings)
    assert "noise numpy-philox4x64 (of an earlier version" in difference
    assert settings.from_dict(settings.as_dict()).differences(settings) == []
