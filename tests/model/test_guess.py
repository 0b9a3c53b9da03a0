"""The first guess: a regression of known processes, and its use in the diffusion process where the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_model import checkpoint  # noqa: E402 - torch may be absent
from cdslm_model.diffusion import Guess, Process  # noqa: E402
from cdslm_model.errors import CheckpointError  # noqa: E402
from cdslm_model.guess import CONTEXT_FRAMES, FirstGuess, Moments  # noqa: E402


def autoregressive(windows, frames, mels=3, memory=0.9, seed=0):
    """Return x_t = memory x_t-1 + e of deviation 1, `[windows, frames, mels]`."""
    generator = torch.Generator().manual_seed(seed)
    speech = [torch.randn(windows, mels, generator=generator)]
    for _ in range(frames - 1):
        speech.append(memory * speech[-1] + (1 - memory**2) ** 0.5 * torch.randn(windows, mels, generator=generator))
    return torch.stack(speech, 1)


def fitted(speech, frames):
    """Return the guess of the frames after the first 6, fitted in three parts."""
    moments = Moments(frames)
    for part in torch.tensor_split(speech, 3):
        moments.add(part[:, :6], part[:, 6:])
    return moments.fit()


def test_an_autoregressive_process_is_guessed_up_to_its_limit():
    """Of x_t = .9 x_t-1 + e frame f is .9^(f + 1) times the last one, leaving 1 - .9^(2 (f + 1)) of its variance."""
    guess = fitted(autoregressive(6000, 14), 5)
    context = autoregressive(4, 6, seed=1)
    mean, spread = guess(context, 8)
    powers = 0.9 ** torch.arange(1.0, 6.0)
    torch.testing.assert_close(mean[:, :5], context[:, -1:] * powers[:, None], rtol=0, atol=0.12)
    torch.testing.assert_close(spread[:5], (1 - powers[:, None] ** 2).sqrt().expand(5, 3), rtol=0, atol=0.03)
    # beyond the 5 frames of the fit the guess falls by e over 5, and what it explains by the square of that
    falls = torch.exp(-torch.arange(1.0, 4.0) / 5)[:, None]
    torch.testing.assert_close(mean[:, 5:], mean[:, 4:5] * falls)
    torch.testing.assert_close(1 - spread[5:] ** 2, (1 - spread[4:5] ** 2) * falls**2)
    assert torch.equal(guess(context, 2).mean, mean[:, :2])
    assert guess(context[:, :0], 8) is None
    # of a prompt shorter than what is read, the first frame stands for those before it
    first = context[:, -2:-1].expand(-1, CONTEXT_FRAMES - 1, -1)
    torch.testing.assert_close(guess(context[:, -2:], 8).mean, guess(torch.cat((first, context[:, -1:]), 1), 8).mean)


def test_a_guess_is_the_ridge_regression_whose_penalty_predicts_held_out_windows_best():
    """Against the normal equations with a column for the offset, solved apart for each penalty."""
    speech = autoregressive(400, 8, mels=2) + 0.5
    guess = fitted(speech, 2)
    x = speech[:, 6 - CONTEXT_FRAMES : 6].flatten(1).double().numpy()
    y = speech[:, 6:].flatten(1).double().numpy()
    held_out = np.arange(400) % 8 == 7

    def weights(rows, penalty):
        design = np.hstack([x[rows], np.ones((rows.sum(), 1))])
        ridge = np.diag([penalty * rows.sum()] * x.shape[1] + [0])
        return np.linalg.solve(design.T @ design + ridge, design.T @ y[rows])

    def predicted(solution):
        return np.hstack([x, np.ones((400, 1))]) @ solution

    penalties = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    expected = np.empty_like(y)
    for frame in range(2):
        own = slice(2 * frame, 2 * frame + 2)
        errors = [np.square(y - predicted(weights(~held_out, p)))[held_out, own].sum() for p in penalties]
        expected[:, own] = predicted(weights(held_out | True, penalties[int(np.argmin(errors))]))[:, own]
    mean, spread = guess(speech[:, :6], 2)
    np.testing.assert_allclose(mean.flatten(1).numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(spread.flatten().numpy(), np.sqrt(np.square(y - expected).mean(0)), atol=1e-4)


def test_a_guess_does_not_depend_on_the_signs_of_its_decomposition(monkeypatch):
    """Equal runs have equal guesses: a decomposition may return a direction with either sign."""
    decompose, speech = torch.linalg.svd, autoregressive(300, 10)
    first = fitted(speech, 4)

    def turned(matrix, **options):
        left, values, right = decompose(matrix, **options)
        signs = 1.0 - 2.0 * (torch.arange(len(right)) % 3 == 1)
        return left * signs, values, right * signs[:, None]

    monkeypatch.setattr(torch.linalg, "svd", turned)
    for name, tensor in fitted(speech, 4).tensors().items():
        assert torch.equal(tensor, getattr(first, name)), name


@pytest.mark.parametrize("target", ["v", "x0", "flow", "epsilon"])
def test_of_normal_speech_about_its_guess_the_network_has_nothing_to_say(target):
    """Output 0 is the exact posterior mean of x0; what the target leaves is uncorrelated noise of deviation 1."""
    process = Process("flow" if target == "flow" else "cosine", target)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 3, 4, dtype=torch.float64, generator=generator)
    guess = Guess(mean, torch.rand(3, 4, dtype=torch.float64, generator=generator) * 0.9 + 0.1)
    clean = mean + guess.spread * torch.randn(20_000, 3, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    for level in (0.2, 0.5, 0.9):
        time = torch.tensor(level, dtype=torch.float64)
        alpha, sigma = process.scales(time)
        noisy = process.noised(clean, noise, time)
        read = process.network_input(noisy, guess, time)
        assert float(read.square().mean()) == pytest.approx(1, abs=0.02)
        silent = process.from_network(torch.zeros_like(noisy), noisy, guess, time)
        x0, _ = process.denoised(noisy, silent, time)
        gain = alpha * guess.spread**2 / (alpha**2 * guess.spread**2 + sigma**2)
        torch.testing.assert_close(x0, mean + gain * (noisy - alpha * mean), rtol=0, atol=1e-6)
        scale = process.from_network(torch.ones_like(noisy), noisy, guess, time) - silent
        left = (process.predicted(clean, noise, time) - silent) / scale
        assert left.square().mean(0).numpy() == pytest.approx(1, abs=0.05)
        assert (left * read).mean(0).numpy() == pytest.approx(0, abs=0.05)


def test_a_guess_that_knows_nothing_changes_nothing_for_v():
    generator = torch.Generator().manual_seed(0)
    output, noisy = torch.randn(2, 3, 6, 4, generator=generator)
    guess, time = Guess(torch.zeros(3, 6, 4), torch.ones(6, 4)), torch.tensor([0.0, 0.4, 1.0])
    process = Process()
    torch.testing.assert_close(process.network_input(noisy, guess, time), noisy)
    torch.testing.assert_close(process.from_network(output, noisy, guess, time), output)
    assert process.network_input(noisy, None, time) is noisy
    assert process.from_network(output, noisy, None, time) is output


def test_a_guess_that_does_not_fit_together_is_refused(tmp_path):
    tensors = fitted(autoregressive(50, 9), 3).tensors()
    for name, values in (("outputs", tensors["outputs"][:, 1:]), ("spread", tensors["spread"][:1])):
        parts = [("guess", {**tensors, name: values})]
        saved = checkpoint.save_checkpoint(tmp_path / name, 1, parts, {})
        with pytest.raises(CheckpointError, match=f"step-000000001: its first guess does not fit together.*{name}"):
            FirstGuess.stored(saved)
    saved = checkpoint.save_checkpoint(tmp_path / "whole", 1, [("guess", tensors)], {})
    assert torch.equal(FirstGuess.stored(saved).outputs, tensors["outputs"])
    assert FirstGuess.stored(checkpoint.save_checkpoint(tmp_path / "none", 1, [("ema", {})], {})) is None


def test_a_run_keeps_its_guess_and_a_model_of_another_version_is_refused(trained, shards, tmp_path, inside):
    """The guess is part of every checkpoint, and of what a generator is known by."""
    from cdslm_eval.plugin.host import Host

    saved = checkpoint.find_checkpoint(trained)
    guess = FirstGuess.stored(saved)
    assert guess is not None
    assert guess.offset.shape == (24, saved.facts["mel_spec"]["mels"])
    assert Host().make("generator", f"cdslm:{trained}").fingerprint()["guess"] == saved.digest("guess")
    settings = saved.facts["settings"]
    bare = checkpoint.save_checkpoint(tmp_path / "bare", 1, [("ema", saved.tensors("ema"))], saved.facts)
    with pytest.raises(CheckpointError, match="step-000000001: lacks the first guess"):
        FirstGuess.stored(bare)
    earlier = {**settings, "process": {**settings["process"], "anchor_frames": 17.0}}
    facts = json.loads(json.dumps({**saved.facts, "settings": earlier}))
    checkpoint.save_checkpoint(tmp_path / "old", 1, [("ema", saved.tensors("ema"))], facts)
    done = inside("probe", tmp_path / "old", "--data", shards, "--device", "cpu")
    assert done.returncode == 2
    assert "trained with the setting anchor_frames, which this version does not know" in done.stderr
    # the paper's recipe had it off: such a model is the same in both versions
    assert Process.from_dict({**settings["process"], "anchor_frames": 0.0}) == Process.from_dict(settings["process"])
