"""Scores against the log-density of a Gaussian, whose best denoiser is known; windows; and through the contract."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from cdslm_eval.core.clips import ClipSet  # noqa: E402 - torch may be absent
from cdslm_eval.core.errors import UsageError  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_model.diffusion import Process  # noqa: E402
from cdslm_model.errors import ModelError  # noqa: E402
from cdslm_model.sample.likelihood import Draws, ScoringConfig, bound, gain, windows_of  # noqa: E402

FRAMES, MELS, CONTEXT = 5, 3, 2
SIZE = FRAMES * MELS


class Gaussian:
    """Continuations that are normal with a mean linear in their context, and their best denoiser."""

    def __init__(self, process: Process) -> None:
        rng = np.random.default_rng(0)
        self.process = process
        self.slope = torch.from_numpy(rng.normal(size=(SIZE, CONTEXT * MELS)) / 2)
        factor = torch.from_numpy(rng.normal(size=(SIZE, SIZE)) / 3)
        self.covariance = factor @ factor.T + 0.1 * torch.eye(SIZE)

    def mean(self, contexts):
        return contexts.double().flatten(1) @ self.slope.T

    def predict(self, contexts, noisy, time):
        alpha, sigma = (part[:, None] for part in self.process.scales(time))
        mean = self.mean(contexts)
        identity = torch.eye(SIZE, dtype=torch.float64)
        whole = alpha[..., None] ** 2 * self.covariance + sigma[..., None] ** 2 * identity
        clean = mean + alpha * (
            self.covariance @ torch.linalg.solve(whole, (noisy.flatten(1) - alpha * mean)[..., None])
        ).squeeze(-1)
        return self.process.prediction(noisy.double(), clean.view_as(noisy), time)

    def log_density(self, context, clean, log_snr):
        """Return E[log p(x + s e)] at a noise variance s^2 = exp(-log_snr)."""
        noise = math.exp(-log_snr)
        whole = self.covariance + noise * torch.eye(SIZE)
        off = clean.double().flatten() - self.mean(context[None])[0]
        spread = torch.trace(torch.linalg.solve(whole, noise * torch.eye(SIZE, dtype=torch.float64)))
        return float(
            -0.5 * (SIZE * math.log(2 * math.pi) + torch.logdet(whole) + off @ torch.linalg.solve(whole, off) + spread)
        )

    def exact(self, context, clean, config):
        """Return what the bound is with the best denoiser: it lacks what the noisiest level still knows of the clip."""
        low, size = config.low, SIZE
        power = float(clean.double().square().sum())
        of_noise = -0.5 * (
            size * math.log(2 * math.pi * (1 + math.exp(-low))) + (power + size * math.exp(-low)) / (1 + math.exp(-low))
        )
        return self.log_density(context, clean, config.high) - self.log_density(context, clean, low) + of_noise


def window(seed):
    rng = np.random.default_rng(seed)
    log_mel = torch.from_numpy(rng.normal(size=(CONTEXT + FRAMES, MELS)).astype(np.float32))
    return windows_of(log_mel, CONTEXT, CONTEXT, FRAMES)


@pytest.mark.parametrize("process", [Process(), Process("linear", "epsilon", False), Process("flow", "flow")], ids=str)
def test_scores_are_the_log_density_of_a_gaussian_within_their_error(process):
    model, config = Gaussian(process), ScoringConfig(low=-7.0, draws=150, batch=4096)
    quiet = torch.full((MELS,), -1.0)
    (first,), (second,) = window(1), window(2)
    for seed in range(2):
        draws = Draws(process, config, seed)
        scores = [bound(model.predict, process, [own], draws) for own in (first, second)]
        exact = [model.exact(own.context, own.clean, config) for own in (first, second)]
        for score, truth in zip(scores, exact, strict=True):
            assert abs(score.total - truth) < 4 * score.std_error < 4.0
        added = gain(model.predict, process, [first], quiet, draws)
        absent = model.exact(quiet.expand(CONTEXT, -1), first.clean, config)
        assert abs(added.total - (exact[0] - absent)) < 4 * added.std_error < 4.0
        assert sum(added.levels) == pytest.approx(added.total)


def test_the_mean_and_its_error_are_right_for_few_draws_in_any_batch():
    process, quiet = Process(), torch.zeros(MELS)
    model, (own,) = Gaussian(process), window(3)
    scores = []
    for seed in range(100):
        config = ScoringConfig(low=-7.0, draws=2, levels=4, batch=(1 + seed % 3) * 5)
        scores.append(gain(model.predict, process, [own], quiet, Draws(process, config, seed)))
    truth = model.exact(own.context, own.clean, config) - model.exact(quiet.expand(CONTEXT, -1), own.clean, config)
    totals = np.array([score.total for score in scores])
    spread = totals.std(ddof=1)
    assert abs(totals.mean() - truth) < 3.5 * spread / math.sqrt(len(totals))
    # of two draws each: their mean square is the variance of the totals
    assert np.sqrt(np.mean([score.std_error**2 for score in scores])) == pytest.approx(spread, rel=0.3)
    one, many = (
        gain(model.predict, process, [own], quiet, Draws(process, ScoringConfig(batch=batch), 0)) for batch in (1, 64)
    )
    assert one.total == pytest.approx(many.total, rel=1e-9)


def test_windows_add_up_and_only_those_that_see_the_prefix_gain():
    log_mel = torch.arange(23.0)[:, None]
    windows = windows_of(log_mel, 4, 6, 5)
    assert [own.clean[:, 0].tolist() for own in windows] == [
        [4, 5, 6, 7, 8], [9, 10, 11, 12, 13], [14, 15, 16, 17, 18], [19, 20, 21, 22]
    ]  # fmt: skip
    assert [own.context[:, 0].tolist() for own in windows[:2]] == [[0, 1, 2, 3], [3, 4, 5, 6, 7, 8]]
    assert [(own.first, own.prefix) for own in windows] == [(0, 4), (5, 1), (10, 0), (15, 0)]
    process = Process()
    seen = []

    def predict(contexts, noisy, time):
        seen.append(contexts[0, :, 0].tolist())
        return torch.zeros_like(noisy)

    gain(predict, process, windows, torch.tensor([-5.0]), Draws(process, ScoringConfig(batch=64), 0))
    assert seen == [[-5.0] * 4, [0, 1, 2, 3], [-5.0, 4, 5, 6, 7, 8], [3, 4, 5, 6, 7, 8]]


def test_a_trained_model_scores_clips_alike_alone_and_together(trained, corpus):
    clips = list(ClipSet.open(corpus / "valid"))[:2]
    scorer = Host().make("generator", f"cdslm:{trained},device=cpu,draws=2")
    together = list(scorer.scores(clips, context_s=0.25))
    (alone,) = Host().make("generator", f"cdslm:{trained},device=cpu,draws=2,batch=1").scores(clips[1:], context_s=0.25)
    assert alone.total == pytest.approx(together[1].total, abs=0.05)
    assert (alone.kind, len(alone.levels), len(alone.edges)) == ("gain", 8, 9)
    assert alone.per_second == pytest.approx(alone.total / (clips[1].seconds - 0.25))
    # without a context there is nothing to subtract
    (whole,) = scorer.scores(clips[:1])
    assert whole.kind == "bound"
    assert whole.frames == pytest.approx(clips[0].seconds * 80, abs=4)
    with pytest.raises(UsageError, match=r"no frame after its context of 60 s"):
        list(scorer.scores(clips[:1], context_s=60.0))
    with pytest.raises(ModelError, match="must rise"):
        ScoringConfig(low=3.0, high=1.0)
