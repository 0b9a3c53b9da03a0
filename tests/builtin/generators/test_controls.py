"""Controls keep what they promise to keep, and lose what they promise to lose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdslm_eval.builtin.generators import cdslm_generators
from cdslm_eval.builtin.generators.controls import (
    NoiseGenerator,
    ResampleGenerator,
    ReversedGenerator,
    ShuffledGenerator,
    SilenceGenerator,
    shuffled,
)
from cdslm_eval.builtin.generators.samples import SamplesGenerator, SamplesOptions
from cdslm_eval.core.audio import Clip, content_digest, write_flac
from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.levels import level_dbfs
from cdslm_eval.plugin.host import Host

ALTERED = [NoiseGenerator, ReversedGenerator, ShuffledGenerator]


@pytest.fixture
def prompts():
    rng = np.random.default_rng(1)
    return [
        Clip(
            key=f"speaker/{i}",
            samples=(rng.normal(0, 0.02 * (i + 1), 5_000 + 777 * i)).astype(np.float32),
            rate_hz=16_000,
            speaker=f"s{i}",
        )
        for i in range(3)
    ]


def made(kind, prompts, count=5, seconds=1.0, seed=0):
    return list(kind().clips(prompts, count, seconds, seed))


@pytest.mark.parametrize("kind", [*ALTERED, ResampleGenerator, SilenceGenerator])
def test_a_seed_gives_the_same_clips_whatever_their_number(kind, prompts):
    clips = made(kind, prompts)
    assert [clip.samples.tobytes() for clip in made(kind, prompts, count=3)] == [
        clip.samples.tobytes() for clip in clips[:3]
    ]
    assert len({clip.key for clip in clips}) == 5
    if kind is not ResampleGenerator:
        assert all(clip.digest == content_digest(clip.samples, clip.rate_hz) for clip in clips)


@pytest.mark.parametrize("kind", [NoiseGenerator, ShuffledGenerator, ResampleGenerator])
def test_another_seed_gives_other_clips(kind, prompts):
    first, second = (b"".join(clip.samples.tobytes() for clip in made(kind, prompts, seed=seed)) for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("kind", ALTERED)
def test_altered_clips_keep_duration_level_rate_speaker_and_key(kind, prompts):
    for clip, prompt in zip(made(kind, prompts, count=3), prompts, strict=True):
        assert (clip.key, clip.rate_hz, clip.speaker) == (prompt.key, prompt.rate_hz, prompt.speaker)
        assert len(clip.samples) == len(prompt.samples)
        assert level_dbfs(clip.samples) == pytest.approx(level_dbfs(prompt.samples), abs=0.3)
        assert not np.array_equal(clip.samples, prompt.samples)


def test_noise_has_exactly_the_level_of_its_prompt_and_survives_silence(prompts):
    silent = Clip(key="z", samples=np.zeros(100, np.float32), rate_hz=8_000)
    empty = Clip(key="e", samples=np.zeros(0, np.float32), rate_hz=8_000)
    noise = made(NoiseGenerator, [*prompts, silent, empty])
    assert level_dbfs(noise[0].samples) == pytest.approx(level_dbfs(prompts[0].samples), abs=1e-4)
    assert not noise[3].samples.any()
    assert len(noise[4].samples) == 0


def test_reversed_twice_is_the_clip(prompts):
    twice = made(ReversedGenerator, made(ReversedGenerator, prompts, count=3), count=3)
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(twice, prompts, strict=True))


@given(st.integers(0, 500), st.integers(1, 40), st.integers(0, 2**31))
def test_shuffling_without_a_fade_is_a_permutation_of_whole_pieces(length, segment, seed):
    samples = np.arange(length, dtype=np.float32)
    out = shuffled(samples, segment, 0, np.random.default_rng(seed))
    assert sorted(out) == sorted(samples)
    whole = out[: length // segment * segment].reshape(-1, segment)
    assert np.all(np.diff(whole, axis=1) == 1)


@given(st.integers(0, 500), st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**31))
def test_cross_fades_add_up_to_one(length, segment, fade, seed):
    fade = min(fade, segment)
    out = shuffled(np.ones(length, np.float32), segment, fade, np.random.default_rng(seed))
    assert len(out) == length
    assert out.max(initial=0) <= 1 + 1e-6
    inner = out[fade : max(fade, length // segment * segment - fade)]
    if length // segment >= 2:
        # the source's last piece has nothing beyond its end to fade out with, wherever it lands
        assert np.sum(np.abs(inner - 1) > 1e-6) <= fade


def test_resample_draws_real_clips_with_replacement(prompts):
    drawn = made(ResampleGenerator, prompts, count=60)
    counts = [sum(clip.samples is prompt.samples for clip in drawn) for prompt in prompts]
    assert sum(counts) == 60
    assert min(counts) >= 8


def test_silence_needs_no_prompts_and_has_the_wanted_duration():
    (clip,) = made(SilenceGenerator, [], count=1, seconds=0.5)
    assert clip.seconds == 0.5
    assert not clip.samples.any()


@pytest.mark.parametrize("kind", [*ALTERED, ResampleGenerator])
def test_no_prompts_is_told_in_one_sentence(kind):
    with pytest.raises(UsageError, match=f"{kind.name} works on real clips"):
        made(kind, [])


def test_samples_are_the_set_on_disk(tmp_path, prompts):
    for i, prompt in enumerate(prompts):
        write_flac(tmp_path / f"{i}.flac", prompt.samples, prompt.rate_hz)
    generator = SamplesGenerator(SamplesOptions(path=str(tmp_path)))
    assert [clip.key for clip in generator.clips([], 2, 1.0, 0)] == ["0", "1"]
    assert len(list(generator.clips([], 99, 1.0, 0))) == 3
    assert generator.info().rate_hz == 16_000
    with pytest.raises(UsageError, match="no such file or directory"):
        list(SamplesGenerator(SamplesOptions(path=str(tmp_path / "no"))).clips([], 1, 1.0, 0))


def test_columns_of_a_manifest_of_samples_can_be_passed_over(tmp_path, prompts):
    write_flac(tmp_path / "a.flac", prompts[0].samples, prompts[0].rate_hz)
    (manifest := tmp_path / "m.csv").write_text("path,mood,meta_age\na.flac,glad,3\n")
    with pytest.raises(UsageError, match="--ignore-columns mood,meta_age"):
        list(Host().make("generator", f"samples:{manifest}").clips([], 1, 1.0, 0))
    generator = Host().make("generator", f"samples:{manifest},ignore_columns=mood meta_*")
    assert [clip.key for clip in generator.clips([], 1, 1.0, 0)] == ["a"]


def test_hook_names_the_generators():
    assert {kind.name for kind in cdslm_generators()} == {
        *("babble", "grammar", "noise", "resample", "reversed", "samples", "shuffled", "silence", "speak", "stationary")
    }
