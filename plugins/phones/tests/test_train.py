"""A network trained from a manifest learns a made-up language, and its ONNX file computes what torch computes."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import onnxruntime
import pytest
import soundfile as sf
import torch
from cdslm_eval_phones import cli
from cdslm_eval_phones.network import metadata_vocabulary
from cdslm_eval_phones.per import try_recognizer
from cdslm_eval_phones.recognizer import PhoneCtc, PhoneCtcOptions
from cdslm_eval_phones.train.augment import augment, coloured_noise, mu_law
from cdslm_eval_phones.train.export import write_onnx
from cdslm_eval_phones.train.labels import label_clips, matching, split_speakers, vocabulary_of
from cdslm_eval_phones.train.model import PhoneNet, mel_basis

from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.host import Host

RATE_HZ = 16_000
TONES_HZ = {"IY": 400.0, "AA": 1000.0, "S": 2500.0}


def corpus(folder, count, seed):
    """Write clips in which each phone is a tone of 0.12 s, in random order, and its phones next to it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        phones = rng.choice(list(TONES_HZ), 6).tolist()
        times = np.arange(round(0.12 * RATE_HZ)) / RATE_HZ
        gap = np.zeros(round(0.08 * RATE_HZ))
        parts = [part for phone in phones for part in (0.3 * np.sin(2 * np.pi * TONES_HZ[phone] * times), gap)]
        wave = np.concatenate(parts) + 0.002 * rng.standard_normal(sum(map(len, parts)))
        sf.write(folder / f"{number:03d}.wav", wave, RATE_HZ)
        (folder / f"{number:03d}.phones").write_text(" ".join(phones))
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["cdslm-phones", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_the_command_trains_a_network_that_recognizes_new_clips(tmp_path, monkeypatch, capsys):
    train, out = corpus(tmp_path / "train", 60, 0), tmp_path / "net.onnx"
    small = ("--width", 32, "--blocks", 2, "--epochs", 20, "--clean", "--learning-rate", 5e-3, "--device", "cpu")
    torch.set_num_threads(1)
    assert run(monkeypatch, "train", train, "--out", out, *small) == 0
    assert "0.02 M parameters" in capsys.readouterr().out
    recognizer = PhoneCtc(PhoneCtcOptions(model=str(out)))
    trial = try_recognizer(ClipSet.open(corpus(tmp_path / "test", 10, 1)), recognizer)
    assert trial.errors.rate < 0.2, trial
    assert metadata_vocabulary(out).symbols == ("<blank>", "AA", "IY", "S")
    assert metadata_vocabulary(out).languages == ("en",)
    spec = f"phone-ctc:model={out},vocab={out.with_suffix('.vocab.json')}"
    assert Host().make("recognizer", spec).fingerprint()["model"] == recognizer.fingerprint()["model"]


def test_the_onnx_file_computes_what_torch_computes(tmp_path):
    torch.manual_seed(0)
    net = PhoneNet(5, width=16, blocks=5)
    for norm in (net.front_norm, *net.norms):  # statistics as after training
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    net.eval()
    write_onnx(net, tmp_path / "net.onnx", ["<blank>", *"abcd"], ["xx"])
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for length in (400, 4001, 20_000):
        samples = np.random.default_rng(length).normal(0, 0.1, (1, length)).astype(np.float32)
        (scores,) = session.run(None, {"samples": samples})
        with torch.no_grad():
            expected = net(torch.from_numpy(samples)).numpy()
        assert scores.shape[1] == net.frames(torch.tensor([length])).item()
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_padding_in_a_batch_moves_no_log_mel():
    net = PhoneNet(5, width=16, blocks=1)
    clips = [torch.randn(length) for length in (5000, 9000)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = net.log_mels(batch, torch.tensor([5000, 9000]))
    for row, clip in zip(together, clips, strict=True):
        alone = net.log_mels(clip[None])[0]
        torch.testing.assert_close(row[:, : alone.shape[1]], alone, atol=1e-4, rtol=1e-4)
        assert not row[:, alone.shape[1] :].any()


def test_the_fourier_basis_is_that_of_a_windowed_fft():
    basis, mels = mel_basis()
    frame = np.random.default_rng(0).normal(size=400)
    bins = basis[:, 0].astype(np.float64) @ frame
    expected = np.abs(np.fft.rfft(frame * np.hanning(401)[:-1])) ** 2
    np.testing.assert_allclose(bins[:201] ** 2 + bins[201:] ** 2, expected, rtol=1e-3, atol=1e-3)
    assert mels.shape == (64, 402, 1)
    assert (mels.sum((1, 2)) > 0).all()


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_slope_and_unit_power(slope):
    noise = coloured_noise(2**15, slope, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise.astype(np.float64)))[1:] ** 2
    fit = np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0]
    assert fit == pytest.approx(-slope, abs=0.05)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-3)


def test_the_telephone_codec_keeps_speech_and_drops_its_upper_band():
    times = np.arange(RATE_HZ) / RATE_HZ
    low, high = (np.sin(2 * np.pi * hertz * times).astype(np.float32) for hertz in (1000, 6000))
    assert np.corrcoef(low, mu_law(low, RATE_HZ))[0, 1] > 0.999
    assert np.abs(mu_law(low + high, RATE_HZ) - low)[2000:-2000].mean() < 0.05


def test_augmented_clips_differ_and_are_repeatable():
    wave = np.sin(np.arange(RATE_HZ) * 0.3).astype(np.float32)
    draws = [augment(wave, RATE_HZ, np.random.default_rng(seed)) for seed in range(20)]
    assert all(np.isfinite(draw).all() and draw.dtype == np.float32 for draw in draws)
    assert len({len(draw) for draw in draws}) > 10
    np.testing.assert_array_equal(draws[3], augment(wave, RATE_HZ, np.random.default_rng(3)))


def test_labels_come_from_texts_or_from_another_recognizer(tmp_path):
    clips = ClipSet.open(corpus(tmp_path / "set", 4, 0))
    own = label_clips(clips, "text", "en-us")
    assert vocabulary_of(own) == ["<blank>", "AA", "IY", "S"]
    assert [entry.phones for entry in label_clips(clips, "recognizer:sidecar", "en-us")] == [e.phones for e in own]
    for bad in ("words", "phones:x"):
        with pytest.raises(UsageError, match="recognizer:NAME"):
            label_clips(clips, bad, "en-us")
    with pytest.raises(UsageError, match="no path matches"):
        matching(clips, "*/nowhere/*")
    for path in (tmp_path / "set").glob("*.phones"):
        path.unlink()
    with pytest.raises(UsageError, match="no clip has a text or phones"):
        label_clips(ClipSet.open(tmp_path / "set"), "text", "en-us")


def test_no_speaker_is_on_both_sides(tmp_path):
    folder = corpus(tmp_path / "set", 30, 0)
    lines = [f"{path}\ts{number % 5}\tAA IY" for number, path in enumerate(sorted(folder.glob("*.wav")))]
    (tmp_path / "set.tsv").write_text("path\tspeaker\tphones\n" + "\n".join(lines) + "\n")
    labelled = label_clips(ClipSet.open(tmp_path / "set.tsv"), "text", "en-us")
    sides = [Counter(entry.source.speaker for entry in side) for side in split_speakers(labelled)]
    assert not set(sides[0]) & set(sides[1])
    assert sides[0] + sides[1] == Counter({f"s{number}": 6 for number in range(5)})
    with pytest.raises(UsageError, match="one speaker"):
        split_speakers([entry for entry in labelled if entry.source.speaker == "s1"])


def test_without_torch_one_sentence_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert run(monkeypatch, "train", tmp_path, "--out", tmp_path / "x.onnx") == 2
    assert "pip install 'cdslm-eval-phones[train]'" in capsys.readouterr().err


def test_clips_that_are_left_out_are_counted_and_nothing_to_stop_by_is_an_error(tmp_path, monkeypatch, capsys):
    train = corpus(tmp_path / "train", 6, 0)
    (train / "000.wav").write_bytes(b"RIFF, but no more")
    (train / "001.phones").unlink()
    spoilt = corpus(tmp_path / "valid", 1, 1)
    (spoilt / "000.wav").write_bytes(b"")
    small = ("--width", 8, "--blocks", 1, "--epochs", 1, "--clean", "--device", "cpu")
    assert run(monkeypatch, "train", train, "--out", tmp_path / "n.onnx", "--valid", spoilt, *small) == 3
    stderr = capsys.readouterr().err
    assert "1 of 6 clips have no phones and are left out" in stderr
    assert "1 of 5 clips are left out: unreadable" in stderr
    assert "no readable clip of 25 ms to 20 s is left to stop by" in stderr
    assert not (tmp_path / "n.onnx").exists()
