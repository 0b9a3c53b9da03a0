"""Continuations: the same clip whatever else is requested, through the contract and the command line."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import ENVIRONMENT, cdslm, vowels  # noqa: E402 - torch may be absent

from cdslm_eval.core.clips import ClipSet  # noqa: E402
from cdslm_eval.core.errors import EvalError, UsageError  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_eval.run.prompts import Prompts  # noqa: E402
from cdslm_model import checkpoint  # noqa: E402
from cdslm_model.data.windows import Shards  # noqa: E402
from cdslm_model.diffusion import Guess  # noqa: E402
from cdslm_model.errors import ModelError  # noqa: E402
from cdslm_model.noise import clip_noise  # noqa: E402
from cdslm_model.sample.continuation import GRID_POWER, Continuer, SamplingConfig  # noqa: E402
from cdslm_model.sample.sampling import times  # noqa: E402


@pytest.fixture(scope="module")
def model(trained):
    return lambda *fields, **named: Continuer(trained, SamplingConfig(*fields, **named), "cpu")


@pytest.fixture(scope="module")
def contexts(shards):
    held = Shards(shards / "valid")
    # The third is shorter than the model's context of 20 frames, the last is none at all
    return [held.read(0, 20), held.read(50, 90), held.read(100, 111), held.read(0, 0)]


@pytest.mark.parametrize("sampling", [("dpm-solver-2m", 4), ("heun", 3, 2.0, 5), ("ddim", 4, 0.0)], ids=str)
def test_a_clip_is_the_same_whatever_else_is_in_the_batch(model, contexts, sampling):
    continuer = model(*sampling)
    together = continuer.continuations(contexts, [7, 1, 3, 9], 55)
    assert [list(clip.shape) for clip in together] == [[55, 80]] * 4
    backwards = continuer.continuations(contexts[::-1], [9, 3, 1, 7], 55)[::-1]
    for index, number in enumerate([7, 1, 3, 9]):
        alone = continuer.continuations([contexts[index]], [number], 55)[0]
        torch.testing.assert_close(alone, together[index], rtol=0, atol=1e-3)
        torch.testing.assert_close(backwards[index], together[index], rtol=0, atol=1e-3)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_seed_clip_and_context_each_matter(model, contexts):
    first = model(steps=4).continuations(contexts[:1], [0], 40)[0]
    for other in (
        model(steps=4, seed=1).continuations(contexts[:1], [0], 40)[0],
        model(steps=4).continuations(contexts[:1], [1], 40)[0],
        model(steps=4).continuations(contexts[1:2], [0], 40)[0],
    ):
        assert (first - other).abs().max() > 0.01
    assert torch.equal(first, model(steps=4).continuations(contexts[:1], [0], 40)[0])


def test_only_the_trained_length_of_a_context_matters(model, contexts):
    for overlap in (0, 16):
        whole, end = contexts[1], contexts[1][-20 - overlap :]
        continuer = model(steps=2, overlap_frames=overlap)
        assert torch.equal(*(continuer.continuations([context], [0], 10)[0] for context in (whole, end)))


def test_longer_than_trained_is_generated_in_rounds(model, contexts):
    """The second round continues the first one, with the noise of its own frames."""
    continuer = model(steps=3)
    long = continuer.continuations(contexts[:1], [4], 100)[0]
    assert len(long) == 100
    torch.testing.assert_close(long[:40], continuer.continuations(contexts[:1], [4], 40)[0], rtol=0, atol=1e-3)
    assert (long[40:80] - long[:40]).abs().max() > 0.1


def test_rounds_join_through_the_frames_that_both_hold(model, contexts, monkeypatch):
    """The first frames of a round are the last ones of the round before, noised to each step's time."""
    continuer = model(steps=3, overlap_frames=8)
    inner = continuer._denoiser._model.step
    shown = []

    def step(conditions, generated, *rest):
        shown.append((conditions[0], generated))
        return inner(conditions, generated, *rest)

    monkeypatch.setattr(continuer._denoiser._model, "step", step)
    long = continuer.continuations(contexts[:1], [4], 60)[0]
    # 32 new frames a round: two rounds of three steps
    assert [tuple(part.shape[1] for part in streams) for streams in shown] == [(12, 40)] * 3 + [(20, 40)] * 3
    values = continuer.normalizer.normalize(long)
    # the second round hears what lies before its overlap, and its own first frames are noised from the last 8
    torch.testing.assert_close(shown[3][0], continuer._denoiser._model.embed(values[None, 4:24]), rtol=0, atol=1e-5)
    noisy, time = shown[-1][1][0, :8], torch.tensor([times(continuer.process, 3, GRID_POWER)[2]])
    alpha, _ = continuer.process.scales(time)
    lead = clip_noise(0, ["overlap 1 of 4"], 8, 80)[0]
    expected = continuer.process.noised(values[None, 24:32], lead[None], time)
    guess = Guess(*(part[..., :8, :] for part in continuer.guess(values[None, 4:24], 40)))
    read = continuer.process.network_input(expected, guess, time)[0]
    torch.testing.assert_close(noisy, read, rtol=0, atol=1e-4)
    assert 0 < float(alpha) < 1


def test_guidance_of_zero_ignores_the_context(model, contexts):
    continuer = model(steps=3, guidance=0.0)
    clips = [continuer.continuations([context], [0], 40)[0] for context in contexts[:2]]
    torch.testing.assert_close(*clips, rtol=0, atol=1e-4)


def test_silence_is_the_corpus_own_unless_digital_is_chosen(model, shards, trained, tmp_path):
    held = Shards(shards / "train")
    frames = held.read(0, held.frames)
    quiet = frames.quantile(0.02, dim=0)
    own = model(guidance=2.0)
    torch.testing.assert_close(
        own.normalizer.denormalize(own._context(frames[:0])), quiet.expand(20, -1), rtol=0, atol=0.02
    )
    digital = model(guidance=2.0, silence="digital")
    torch.testing.assert_close(digital.normalizer.denormalize(digital._silence(3)), torch.full((3, 80), -10.0))
    with pytest.raises(ModelError, match="quiet or digital"):
        model(silence="none")
    # A checkpoint of an earlier version has no quiet frame: it generates where none is needed
    shutil.copytree(trained, tmp_path / "run")
    path = checkpoint.find_checkpoint(tmp_path / "run").folder / "checkpoint.json"
    facts = json.loads(path.read_text())
    facts.pop("digest")
    del facts["normalizer"]["quiet"]
    path.write_text(json.dumps({**facts, "digest": checkpoint._digest(facts)}))
    old = Continuer(tmp_path / "run", SamplingConfig(steps=2), "cpu")
    assert len(old.continuations([frames[:20]], [0], 10)[0]) == 10
    with pytest.raises(ModelError, match="silence=digital"):
        old.continuations([frames[:0]], [0], 10)


def test_the_end_of_a_prompt_is_read_as_far_as_its_windows_are_whole(model, corpus):
    """Frames of a cut prompt are those of the whole recording, but for the last one, whose window the cut shortens."""
    continuer = model()
    samples = ClipSet.open(corpus / "valid")[0].at_rate(24_000).samples
    whole = continuer.log_mel(samples)
    for cut in (12_000, 12_077):
        complete = continuer.spec.complete_frames(cut)
        assert complete == cut // 300 - 1
        part = continuer.log_mel(samples[:cut])
        torch.testing.assert_close(part[:complete], whole[:complete], rtol=0, atol=1e-4)
        assert (part[complete] - whole[complete]).abs().max() > 0.01
    assert continuer.spec.complete_frames(400) == 0


def test_values_lie_where_speech_lies(model, contexts, shards):
    """Samples are de-normalised by the model's own statistics: their mean is that of the speech it learned from."""
    made = torch.cat(model(steps=8).continuations(contexts[:2] * 4, list(range(8)), 40))
    held = Shards(shards / "train")
    real = held.read(0, held.frames)
    assert (made.mean(0) - real.mean(0)).abs().mean() < 0.5 * real.std(0).mean()


def test_the_generator_keeps_the_contract(trained, corpus):
    host = Host()
    assert all(not plugin.problems for plugin in host.plugins if plugin.name == "cdslm-eval:model")
    generator = host.make("generator", f"cdslm:{trained},steps=3,vocoder=griffin-lim:3")
    info = generator.info()
    assert (info.parameters, info.tokens, info.rate_hz) == (597_584, 40 * 4 * 60, 24_000)
    assert info.flops == json.loads((trained / "result.json").read_text())["flops"]
    assert {"tokens", "flops", "6ND", "mel", "vocoder", "sampling"} <= set(info.conventions)
    assert generator.fingerprint()["weights"] == checkpoint.find_checkpoint(trained).facts["files"]["ema.safetensors"]
    prompts = ClipSet.open(corpus / "valid")
    clips = list(generator.clips(prompts, 8, 0.6, 3))
    assert [clip.key for clip in clips] == ["00", "01", "02", "03", "04", "05", "00-1", "01-1"]
    assert all(abs(clip.seconds - 0.6) < 0.01 and clip.rate_hz == 24_000 for clip in clips)
    few = list(generator.clips(prompts, 2, 0.6, 3))
    np.testing.assert_allclose(few[1].samples, clips[1].samples, atol=0.02)
    alone = host.make("generator", f"cdslm:{trained},steps=3,context=none,vocoder=griffin-lim:3")
    assert alone.prompts == frozenset()
    assert len(list(alone.clips([], 2, 0.3, 0))) == 2
    with pytest.raises(UsageError, match="context=none"):
        list(generator.clips([], 1, 1.0, 0))


def test_what_is_loaded_is_what_the_fingerprint_states(trained, tmp_path):
    """A run that is still trained writes a later checkpoint between the two."""
    shutil.copytree(trained, tmp_path / "run")
    first = checkpoint.find_checkpoint(tmp_path / "run")
    generator = Host().make("generator", f"cdslm:{tmp_path / 'run'},device=cpu")
    before = generator.fingerprint()
    moved = {name: 1.01 * tensor for name, tensor in first.tensors("ema").items()}
    parts = [("ema", moved), ("guess", first.tensors("guess"))]
    later = checkpoint.save_checkpoint(tmp_path / "run", first.step + 1, parts, first.facts)
    assert later.facts["files"] != first.facts["files"]
    for own in (generator, pickle.loads(pickle.dumps(generator))):
        assert own.load(0).folder == first.folder
        assert own.fingerprint() == before
    other = Host().make("generator", f"cdslm:{tmp_path / 'run'},device=cpu")
    assert other.load(0).folder == later.folder
    assert other.fingerprint() != before


def test_a_clip_as_long_as_a_window_is_generated_in_one_round(trained, corpus, monkeypatch):
    """The frame that is cut off would cost a second one: the clip ends a frame, 12.5 ms, earlier instead."""
    shapes, plain = [], Continuer._round
    monkeypatch.setattr(
        Continuer, "_round", lambda self, context, *rest: shapes.append(1) or plain(self, context, *rest)
    )
    generator = Host().make("generator", f"cdslm:{trained},steps=2,vocoder=griffin-lim:1")
    lengths = [
        len(next(iter(generator.clips(ClipSet.open(corpus / "valid"), 1, seconds, 0))).samples) // 300
        for seconds in (0.4875, 0.5, 0.5125)
    ]
    assert lengths == [39, 39, 41]
    assert len(shapes) == 1 + 1 + 2


def test_the_end_of_a_long_prompt_continues_as_the_whole_prompt_does(trained, tmp_path):
    """Of 90 s the last ones are decoded, and frames lie where they lie in the whole."""
    sf.write(tmp_path / "long.wav", vowels(np.random.default_rng(3), 90.3), 16_000)
    prompts = Prompts(ClipSet.open(tmp_path), None)
    generator = Host().make("generator", f"cdslm:{trained},steps=3,vocoder=griffin-lim:1,batch=1")
    seconds = generator.context_seconds(generator.load(0))
    assert seconds == 21 / 80
    assert prompts.part(0, seconds, from_end=True).seconds == pytest.approx(90.3 - 89)
    part, whole = (next(iter(generator.clips(own, 1, 0.4, 0))).samples for own in (prompts, list(prompts)))
    np.testing.assert_allclose(part, whole, atol=1e-3)
    assert np.abs(whole).max() > 0.01


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cdslm:/nowhere", "no such folder"),
        ("cdslm:RUN,sampler=dpm", "dpm-solver-2m"),
        ("cdslm:RUN,sampler=euler", "use ddim"),
        ("cdslm:RUN,vocoder=hifi", "hifi"),
        ("cdslm:RUN,device=cuda", "no GPU"),
    ],
)
def test_what_cannot_generate_is_reported_in_one_sentence(trained, corpus, spec, message):
    if "cuda" in spec and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    generator = Host().make("generator", spec.replace("RUN", str(trained)))
    with pytest.raises(EvalError, match=message):
        list(generator.clips(ClipSet.open(corpus / "valid"), 1, 0.2, 0))


def test_a_checkpoint_of_another_mel_spec_is_refused(trained, tmp_path):
    """Its digest is corrected again, so that only the spec keeps it from wrong sound."""
    shutil.copytree(trained, tmp_path / "run")
    path = checkpoint.find_checkpoint(tmp_path / "run").folder / "checkpoint.json"
    facts = json.loads(path.read_text())
    facts.pop("digest")
    facts["mel_spec"]["high_hz"] = 90_000.0
    path.write_text(json.dumps({**facts, "digest": checkpoint._digest(facts)}))
    with pytest.raises(ModelError, match="mel bands"):
        Continuer(tmp_path / "run", device="cpu")


def test_generate_from_the_command_line(trained, corpus, tmp_path):
    """The path of the run holds a comma and an equals sign, which a spec in one text could not."""
    run = tmp_path / "lr=0.1, seed=2"
    shutil.copytree(trained, run)
    out = tmp_path / "clips"
    options = ("--prompts", corpus / "valid", "--count", "3", "--seconds", "0.5", "--steps", "3", "--context", "start")
    options += ("--vocoder", "griffin-lim:3")
    done = cdslm("generate", run, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert cdslm("generate", run, "--out", out, *options).returncode == 2
    clips = ClipSet.open(out)
    assert [clip.key for clip in clips] == ["00", "01", "02"]
    assert all(np.abs(clip.samples).max() > 0 for clip in clips)
    assert (out / "spectrograms.png").stat().st_size > 10_000
    assert json.loads((out / "generator.json").read_text())["info"]["parameters"] == 597_584


def test_listing_and_help_import_no_torch():
    watched = (
        "import sys; from cdslm_eval.plugin.host import Host; Host(); import cdslm_model.cli;"
        "print([name for name in ('torch', 'transformers', 'safetensors', 'scipy.stats') if name in sys.modules])"
    )
    command = [sys.executable, "-c", watched]
    assert subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True).stdout == "[]\n"


def test_params_flops_and_roundtrip(inside, corpus, tmp_path):
    assert json.loads(inside("params", "--depth", "4", "--json").stdout)["parameters"] == 36_056_144
    values = json.loads(inside("flops", "--depth", "2", "--json").stdout)
    assert values["training"] == 3 * values["forward"]
    back = tmp_path / "back"
    done = inside("roundtrip", corpus / "valid", "--count", "2", "--out", back, "--json", "--vocoder", "griffin-lim:20")
    measured = json.loads(done.stdout)
    assert measured["clips"] == 2
    assert 0 < measured["log_mel_rmse_db"] < 12
    samples, rate_hz = sf.read(back / "00.flac")
    assert rate_hz == 24_000
    assert len(samples) / rate_hz == pytest.approx(sf.info(corpus / "valid" / "00.wav").duration, abs=0.02)
