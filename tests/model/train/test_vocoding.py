"""A vocoder of one's own: its network, its critics, and its training through the command line."""

from __future__ import annotations

import json
import math
import shutil
import signal

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402 - torch may be absent

from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_model.checkpoint import find_checkpoint  # noqa: E402
from cdslm_model.data.mel import MelSpec  # noqa: E402
from cdslm_model.errors import CheckpointError, ModelError  # noqa: E402
from cdslm_model.net.istft import IstftConfig, IstftNetwork  # noqa: E402
from cdslm_model.sample import istft_vocoder  # noqa: E402
from cdslm_model.sample.vocoder import find_vocoder  # noqa: E402
from cdslm_model.train.vocoding.critics import (  # noqa: E402
    Critics,
    critic_loss,
    deceiving_loss,
    feature_distance,
    spectral_distance,
)
from cdslm_model.train.vocoding.trainer import VocoderTrainer  # noqa: E402

SMALL = ("--width", "24", "--blocks", "1", "--batch-size", "2", "--excerpt-frames", "16", "--critic-width", "1")
SMALL += ("--critics-from", "36", "--lr", "1e-2", "--jobs", "1")
STEPS = ("--steps", "42", "--valid-every", "20", "--save-every", "100")


@pytest.fixture(scope="module")
def vocoder(corpus, tmp_path_factory):
    """Return a short run, trained through the command line without a break."""
    from cdslm_model.cli import app

    folder = tmp_path_factory.mktemp("vocoders") / "whole"
    # the same bits need the same number of threads, which `one_thread` sets for tests and not for this
    torch.set_num_threads(1)
    with pytest.raises(SystemExit) as end:
        app(["vocoder", "train", str(corpus), "--out", str(folder), *SMALL, *STEPS])
    assert not end.value.code
    return folder


def test_sizes_flops_and_reach_are_as_declared():
    network = IstftNetwork(IstftConfig())
    assert 2.5e6 < sum(parameter.numel() for parameter in network.parameters()) < 3.5e6
    network = IstftNetwork(IstftConfig(width=32, hidden=96, blocks=2)).eval()
    assert network.config.reach == 11
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        whole = network(torch.zeros(1, 40, 80))
    # the frame after the last one is computed too
    assert counter.get_total_flops() == network.config.flops(41)
    assert whole.shape == (1, 40 * 300)
    moved = torch.zeros(1, 40, 80)
    moved[:, 20] = 1.0
    with torch.no_grad():
        difference = (network(moved) - whole)[0]
    changed = difference.abs().reshape(40, 300).amax(1) > 0
    assert changed.nonzero().min() >= 20 - 11
    assert changed.nonzero().max() <= 20 + 11
    # frame n of a log-mel is centred on sample 300 n
    power = difference.square()
    assert float((power * torch.arange(12_000)).sum() / power.sum()) == pytest.approx(20 * 300, abs=100)


def test_a_long_clip_is_made_in_pieces_that_join_without_a_seam(vocoder, monkeypatch):
    made = find_vocoder(f"istft:{vocoder}", MelSpec())
    mels = torch.randn(1, 90, 80, generator=torch.Generator().manual_seed(0)) - 2
    whole = made(mels)
    monkeypatch.setattr(istft_vocoder, "_PIECE_FRAMES", 16)
    torch.testing.assert_close(made(mels), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(made(mels.repeat(3, 1, 1))[2:], whole, rtol=0, atol=1e-6)
    assert made(mels[:, :0]).shape == (1, 0)


def test_distances_and_hinges_have_their_known_values():
    noise = torch.randn(2, 4096, generator=torch.Generator().manual_seed(1))
    assert float(spectral_distance(noise, noise)) == 0
    # twice the sound: a convergence of 1, and a log ratio of ln 2 in every bin
    assert float(spectral_distance(2 * noise, noise)) == pytest.approx(1 + math.log(2), rel=1e-5)
    undecided = [[torch.zeros(2, 3)]]
    assert float(critic_loss(undecided, undecided)) == 2
    assert float(deceiving_loss(undecided)) == 1
    assert float(critic_loss([[torch.ones(2, 3)]], [[-torch.ones(2, 3)]])) == 0
    critics = Critics(1).requires_grad_(False)
    layers = critics(noise)
    assert len(layers) == 8
    assert float(feature_distance(layers, layers)) == 0
    assert float(feature_distance(layers, critics(noise.flip(1)))) > 0


def test_a_silent_excerpt_has_a_finite_gradient():
    silence = torch.zeros(1, 4096, requires_grad=True)
    critics = Critics(1)
    (spectral_distance(silence, torch.zeros(1, 4096)) + deceiving_loss(critics(silence))).backward()
    assert silence.grad.isfinite().all()


def test_it_learns_and_is_a_vocoder_of_every_command(vocoder, corpus, trained, inside):
    lines = [json.loads(line) for line in (vocoder / "log.jsonl").read_text().splitlines()]
    held_out = [line["val_loss"] for line in lines if "val_loss" in line]
    assert held_out[-1] < 0.95 * held_out[0]
    assert [("critic_loss" in line) for line in lines if "loss" in line] == [False] * 36 + [True] * 6
    done = inside("roundtrip", corpus / "valid", "--count", "2", "--json", "--vocoder", f"istft:{vocoder}")
    assert json.loads(done.stdout)["log_mel_rmse_db"] > 0
    plain = Host().make("generator", f"cdslm:{trained}")
    through = Host().make("generator", f"cdslm:{trained},vocoder=istft:{vocoder}")
    digest = find_checkpoint(vocoder).facts["files"]["weights.safetensors"]
    assert through.fingerprint() == {**plain.fingerprint(), "vocoder": digest}
    # a checkpoint, and no run that may have a later one when it is loaded
    assert through.vocoder() == f"istft:{find_checkpoint(vocoder).folder}"


def test_digital_silence_is_no_held_out_excerpt(corpus, inside, tmp_path):
    shutil.copytree(corpus, tmp_path / "speech")
    burst = 0.1 * np.random.default_rng(0).choice([-1.0, 1.0], 800)
    for path in (tmp_path / "speech" / "valid").iterdir():
        sf.write(path, np.r_[np.zeros(80_000), burst * len(path.stem), np.zeros(80_000 + ord(path.stem[-1]))], 16_000)
    done = inside("vocoder", "train", tmp_path / "speech", "--out", tmp_path / "run", *SMALL, "--steps", "1")
    assert done.returncode == 0, done.stderr
    assert np.isfinite(json.loads((tmp_path / "run" / "result.json").read_text())["val_loss"])


def test_an_interrupted_run_resumes_bit_for_bit(vocoder, corpus, inside, tmp_path, monkeypatch):
    command = ("vocoder", "train", corpus, "--out", tmp_path / "run", *SMALL, *STEPS)
    validate = VocoderTrainer.validate

    def interrupted(self):
        if self.step == 40:
            signal.raise_signal(signal.SIGTERM)
        return validate(self)

    monkeypatch.setattr(VocoderTrainer, "validate", interrupted)
    stopped = inside(*command)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "the same command resumes" in stopped.stderr
    monkeypatch.setattr(VocoderTrainer, "validate", validate)
    assert inside(*command).returncode == 0
    whole, resumed = find_checkpoint(vocoder), find_checkpoint(tmp_path / "run")
    for name in ("weights", "critics", "weights-optimizer", "critics-optimizer"):
        first, second = whole.tensors(name), resumed.tensors(name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), f"{name} differ"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--valid", "{corpus}/train"), "12 recordings are in the training and the held-out speech"),
        (("--excerpt-frames", "500"), "no clip has 6.25 s"),
        (("--excerpt-frames", "8", "--batch-size", "1"), None),
        (("--lr", "nan"), "lr = nan must be positive"),
    ],
)
def test_bad_settings_are_refused(corpus, inside, tmp_path, options, message):
    options = [option.format(corpus=corpus) for option in options]
    done = inside("vocoder", "train", corpus, "--out", tmp_path / "run", *SMALL, "--steps", "1", *options)
    assert (done.returncode, message is None or message in done.stderr) == (0 if message is None else 2, True)


def test_other_speech_settings_and_kinds_are_refused(vocoder, corpus, trained, inside, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(vocoder, run)
    for options, message in (
        (("--width", "32"), "width 24, not 32"),
        (("--valid", corpus / "train"), "was trained on other recordings"),
        (("--steps", "60"), "is at step 42 of 42"),
    ):
        done = inside("vocoder", "train", corpus, "--out", run, *SMALL, *STEPS, *options)
        assert done.returncode == 2
        assert message in done.stderr
    done = inside("vocoder", "train", corpus / "valid", "--out", tmp_path / "new", *SMALL)
    assert "name held-out speech with --valid" in done.stderr
    with pytest.raises(CheckpointError, match="another kind"):
        find_vocoder(f"istft:{trained}", MelSpec())
    with pytest.raises(ModelError, match="needs the folder"):
        find_vocoder("istft", MelSpec())
    weights = next((run / "checkpoints").glob("*/weights.safetensors"))
    weights.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(CheckpointError, match="truncated or altered"):
        find_vocoder(f"istft:{run}", MelSpec())
