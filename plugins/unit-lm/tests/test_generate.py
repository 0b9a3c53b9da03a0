"""From a checkpoint to clips: the contract, sameness, what units sound like, and checkpoints that are refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")

from cdslm_eval_unit_lm.units import Units, runs  # noqa: E402

from cdslm_eval.core.clips import ClipSet  # noqa: E402 - torch may be absent
from cdslm_eval.core.errors import EvalError  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_eval.testing import GENERATOR_CHECKS  # noqa: E402
from cdslm_model.data.windows import Shards  # noqa: E402

PITCHES_HZ = (200, 500, 1100, 2300)


def make(spec):
    return Host().make("generator", spec)


def spoken(spec, prompts, count, seconds=0.6, seed=0):
    return {clip.key: clip.samples for clip in make(spec).clips(prompts, count, seconds, seed)}


@pytest.fixture(scope="session")
def held_out(corpus):
    return ClipSet.open(corpus / "valid")


@pytest.fixture(scope="session")
def in_runs(unit_lm, shards, short, tmp_path_factory) -> Path:
    """Return a GPT-2 over units whose repetitions are one token."""
    folder = tmp_path_factory.mktemp("runs") / "runs"
    more = ("--family", "gpt2", "--run-length", "--steps", "60")
    done = unit_lm("train", "--data", shards, "--out", folder, *short, *more)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["unit-lm", "unit-resynthesis"])
@pytest.mark.parametrize("check", GENERATOR_CHECKS, ids=str)
def test_the_contract(check, name, trained):
    check(make(f"{name}:{trained}"))


@pytest.mark.parametrize("which", ["trained", "in_runs"])
def test_a_clip_is_the_same_in_any_batch_and_order(which, held_out, request):
    run = request.getfixturevalue(which)
    alone = spoken(f"unit-lm:{run},batch=1", held_out, 5)
    together = spoken(f"unit-lm:{run},batch=4", held_out, 5)
    assert alone.keys() == together.keys()
    for key, samples in alone.items():
        np.testing.assert_allclose(samples, together[key], atol=1e-4)
    fewer = spoken(f"unit-lm:{run}", held_out, 2)
    for key, samples in fewer.items():
        np.testing.assert_allclose(samples, alone[key], atol=1e-4)
    unit, other = (spoken(f"unit-lm:{run},temperature=3", held_out, 1, seed=seed) for seed in (0, 1))
    assert all(not np.array_equal(samples, other[key]) for key, samples in unit.items())


def loudest_pitch(samples, rate_hz):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate_hz)[spectrum.argmax()])


@pytest.mark.parametrize("which", ["trained", "in_runs"])
def test_it_goes_on_with_the_order_that_it_was_taught(which, held_out, request):
    """Clips end with a whole tone, so that the next 0.2 s are the tone after it, and so on."""
    run = request.getfixturevalue(which)
    right = total = 0
    for clip, generated in zip(held_out, make(f"unit-lm:{run}").clips(held_out, len(held_out), 0.8, 0), strict=True):
        last = loudest_pitch(clip.samples[-2000:], clip.rate_hz)
        at = min(range(4), key=lambda index: abs(PITCHES_HZ[index] - last))
        for step in range(4):
            part = generated.samples[int((step + 0.25) * 4800) : int((step + 0.75) * 4800)]
            wanted = PITCHES_HZ[(at + step + 1) % 4]
            right += abs(loudest_pitch(part, generated.rate_hz) - wanted) < 0.15 * wanted
            total += 1
    assert right >= 0.7 * total, f"{right} of {total}; by chance one in four"


def test_more_seconds_than_the_window_and_no_context_go_on(trained, held_out):
    (clip,) = make(f"unit-lm:{trained}").clips(held_out, 1, 3.0, 0)
    assert len(clip.samples) == 3 * clip.rate_hz
    tail = clip.samples[-clip.rate_hz :]
    assert np.abs(tail).max() > 0.01, "it is still saying something"
    (alone,) = make(f"unit-lm:{trained},context=none").clips([], 1, 1.0, 0)
    assert len(alone.samples) == alone.rate_hz


def test_units_of_constant_tones_sound_like_the_tones(unit_lm, prepare, short, tmp_path):
    folder = tmp_path / "tones"
    for split, shift in (("train", 0), ("valid", 7)):
        (folder / split).mkdir(parents=True)
        for pitch in (300, 1000, 3000):
            wave = 0.2 * np.sin(2 * np.pi * (pitch + shift) * np.arange(128_000) / 16_000)
            sf.write(folder / split / f"{pitch}.wav", wave.astype(np.float32), 16_000)
    ready = prepare(folder)
    more = ("--units", "3", "--stride", "2", "--steps", "2")
    done = unit_lm("train", "--data", ready, "--out", tmp_path / "run", *short, *more)
    assert done.returncode == 0, done.stderr
    from cdslm_eval_unit_lm.codec import UnitCodec, find_unit_checkpoint

    codec = UnitCodec(find_unit_checkpoint(tmp_path / "run"), "cpu")
    assert codec.units.mels.shape == (3, 2, 80)
    speech = Shards(ready / "train")
    seen = set()
    for index, clip in enumerate(ClipSet.open(folder / "train")):
        generated = codec.encode(clip)
        middle = generated[len(generated) // 2]
        seen.add(int(middle))
        tone = speech.read(640 * index + 40, 640 * index + 600).numpy()
        # where clips begin and end, a few frames are no tone and count among those of some unit
        np.testing.assert_allclose(codec.units.mels[middle], tone.reshape(-1, 2, 80).mean(0), atol=0.15)
    assert seen == {0, 1, 2}


def test_each_frame_is_generated_by_the_unit_that_lies_over_it():
    """With 1.6 frames a unit, as of an encoder of 50 units a second under 80 frames a second."""
    sounds = np.arange(3 * 2, dtype=np.float32).reshape(3, 2, 1)
    units = Units(np.zeros((3, 1), np.float32), sounds, np.ones((3, 64), np.float32), 50.0, 80.0)
    generated = units.log_mel(np.array([0, 1, 2, 0, 1]), 9)[:, 0].tolist()
    # centres of frames, in units: 0.31 0.94 1.56 2.19 2.81 3.44 4.06 4.69 5.31; the last lies behind the last unit
    assert generated == [0, 1, 3, 4, 5, 0, 2, 3, 3]


def test_runs_last_as_long_as_they_were_seen_to():
    seen = np.zeros((2, 64), np.float32)
    seen[0, [0, 3]] = (1, 3)
    units = Units(np.zeros((2, 1), np.float32), np.zeros((2, 1, 80), np.float32), seen, 40.0, 80.0)
    lasts = np.array([units.draw_run(0, draw) for draw in np.linspace(0, 1, 4000, endpoint=False)])
    assert {int(unit): int((lasts == unit).sum()) for unit in np.unique(lasts)} == {1: 1000, 4: 3000}
    assert units.draw_run(1, 0.5) == 1
    tokens, lengths = runs(np.repeat([5, 1, 5], [2, 1, 3]))
    assert np.repeat(tokens, lengths).tolist() == [5, 5, 1, 5, 5, 5]


def test_round_trip_keeps_the_words_and_how_long(unit_lm, trained, corpus, tmp_path):
    out = tmp_path / "back"
    done = unit_lm("roundtrip", corpus / "valid", "--run", trained, "--out", out, "--pictures", "2")
    assert done.returncode == 0, done.stderr
    assert (out / "spectrograms.png").is_file()
    back = {clip.key: clip for clip in ClipSet.open(out)}
    assert len(back) == 5
    for clip in ClipSet.open(corpus / "valid"):
        again = back[clip.key]
        assert abs(len(again.samples) / again.rate_hz - len(clip.samples) / clip.rate_hz) < 0.02
        for step in range(12):
            start, stop = (step + 0.3) * 0.2, (step + 0.7) * 0.2
            pitches = [
                loudest_pitch(unit.samples[int(start * unit.rate_hz) : int(stop * unit.rate_hz)], unit.rate_hz)
                for unit in (clip, again)
            ]
            assert pitches[1] == pytest.approx(pitches[0], rel=0.15)
    facts = json.loads((out / "generator.json").read_text())
    assert facts["info"]["conventions"]["seconds"] == "as long as each prompt is"


def test_the_command_line_draws_and_writes_a_manifest(unit_lm, trained, corpus, tmp_path):
    run, out = tmp_path / "lr=0.1, seed=2", tmp_path / "clips"
    shutil.copytree(trained, run)
    options = ("--prompts", corpus / "valid", "--count", "3", "--seconds", "0.5", "--top-k", "3", "--pictures", "1")
    done = unit_lm("generate", run, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert len(ClipSet.open(out)) == 3
    info = json.loads((out / "generator.json").read_text())["info"]
    assert info["tokens"] == 120 * 8 * 20
    assert "top k 3" in info["conventions"]["sampling"]


@pytest.mark.parametrize(
    ("damage", "generated"),
    [
        (lambda folder: os.truncate(folder / "ema.safetensors", 1000), "ema.safetensors: truncated or altered"),
        (lambda folder: flipped(folder / "units.safetensors"), "units.safetensors: truncated or altered"),
        (lambda folder: (folder / "units.safetensors").unlink(), "units.safetensors: cannot be read"),
        (lambda folder: os.truncate(folder / "checkpoint.json", 100), "not JSON"),
        (lambda folder: edited(folder / "checkpoint.json", '"step": 120', '"step": 119'), "digest does not fit"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_a_sentence(trained, held_out, tmp_path, damage, generated):
    shutil.copytree(trained, tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "step-000000120")
    with pytest.raises(EvalError, match=generated):
        spoken(f"unit-lm:{tmp_path / 'run'}", held_out, 1)


def test_another_program_s_checkpoint_is_refused(held_out, tmp_path):
    from cdslm_model import checkpoint

    checkpoint.save_checkpoint(tmp_path, 3, [("weights", {"w": torch.zeros(2)})], {"settings": {}})
    with pytest.raises(EvalError, match="not a unit language model"):
        spoken(f"unit-lm:{tmp_path}", held_out, 1)
    with pytest.raises(EvalError, match="no such folder"):
        spoken(f"unit-lm:{tmp_path / 'nowhere'}", held_out, 1)


def test_a_prompt_shorter_than_a_unit_is_named(trained, tmp_path):
    sf.write(tmp_path / "tick.wav", np.full(300, 0.1, np.float32), 16_000)
    with pytest.raises(EvalError, match="tick: shorter than one unit"):
        spoken(f"unit-resynthesis:{trained}", ClipSet.open(tmp_path), 1)


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(bytes(data))


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
