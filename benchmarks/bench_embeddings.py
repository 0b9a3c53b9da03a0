"""Transformers encoders on clips of mixed length: batches by length bucket against one by one; distances of sets."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cdslm_eval.stats.distances import FrechetDistance, KernelMMD, set_distance

pytest.importorskip("cdslm_eval_embeddings", reason="needs plugins/embeddings")

RATE_HZ = 16_000


def mixed_clips(count: int = 64, shortest_s: float = 0.3, longest_s: float = 4.0):
    """Clips of 0.3 to 4 s, most of them short, as a set of utterances is."""
    rng = np.random.default_rng(0)
    seconds = shortest_s * (longest_s / shortest_s) ** rng.random(count)
    return [0.1 * rng.standard_normal(int(s * RATE_HZ)).astype(np.float32) for s in seconds]


def saved(folder, kind: str):
    """Save a network of a quarter of the base models' width, with their depth, kernels and group norm."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, conv_dim=(128,) * 7
    )
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("kind", "encoder"), [("WavLM", "wavlm"), ("Wav2Vec2", "wav2vec2"), ("Hubert", "hubert")])
def test_bucketed_batches_against_one_by_one(benchmark, tmp_path, kind, encoder):
    from cdslm_eval_embeddings.encoder import ENCODERS, Which

    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # a ratio per core, whatever else this machine does
    made = ENCODERS[encoder].make(Which(str(saved(tmp_path, kind))))
    clips = mixed_clips()
    with made.open("cpu"):
        made.encode(clips[:4])
        ratios = []
        for _ in range(3):
            # seconds of this processor, in turn: what else the machine does must not decide
            start = time.process_time()
            alone = np.concatenate([made.encode([clip]) for clip in clips])
            between = time.process_time()
            together = made.encode(clips)
            ratios.append((between - start) / (time.process_time() - between))
        benchmark.pedantic(made.encode, (clips,), rounds=1)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    benchmark.extra_info["ratio"] = float(np.median(ratios))
    assert benchmark.extra_info["ratio"] > 1


@pytest.mark.parametrize("distance", [FrechetDistance, KernelMMD])
def test_a_distance_between_two_thousand_clips_a_side(benchmark, distance):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2000, 256)) + 0.1, rng.standard_normal((2000, 256))
    each = np.arange(2000), np.arange(2000)
    result = benchmark.pedantic(lambda: set_distance(distance.against(y), x, y, each), rounds=3, warmup_rounds=1)
    assert result.corrected_low < result.corrected < result.corrected_high
