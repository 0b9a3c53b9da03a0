"""Scores are sums of log-probabilities of units, and a trained model prefers what really follows."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cdslm_eval_unit_lm.generate import UnitContinuer  # noqa: E402

from cdslm_eval.core.clips import ClipSet  # noqa: E402 - torch may be absent
from cdslm_eval.core.errors import EvalError  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_eval.run.preference import accuracy_of, made_pairs  # noqa: E402


def brute_force(model, tokens):
    """Return ln p of each token from a forward pass of its own, softmax written out."""
    logs = []
    for end in range(len(tokens)):
        ids = torch.tensor([[model._opening, *(int(token) + model._offset for token in tokens[:end])]])
        with torch.inference_mode():
            logits = model._model(ids).logits[0, -1, model._known].double().numpy()
        shares = np.exp(logits - logits.max())
        logs.append(np.log(shares[tokens[end]] / shares.sum()))
    return np.array(logs)


def test_a_score_is_the_sum_of_log_probabilities_one_by_one(trained, corpus):
    clip = ClipSet.open(corpus / "valid")[0]
    model = UnitContinuer(trained)
    units = model.codec.encode(clip)[: model._window - 1]
    np.testing.assert_allclose(model.log_probabilities(units), brute_force(model, units), atol=1e-5)
    # beyond the window, each token has at least half of the window before it
    long = np.concatenate([units] * 4)
    logs = model.log_probabilities(long)
    assert np.isfinite(logs).all()
    whole, tokens = model.score(clip, 0.0)
    rest, fewer = model.score(clip, 0.5)
    assert tokens == len(model.codec.encode(clip))
    logs = model.log_probabilities(model.codec.encode(clip))
    assert whole == pytest.approx(logs.sum())
    assert rest == pytest.approx(logs[tokens - fewer :].sum())


def test_what_really_follows_is_preferred(trained, corpus):
    clips = list(ClipSet.open(corpus / "valid"))
    scorer = Host().make("generator", f"unit-lm:{trained}")
    (score,) = scorer.scores(clips[:1], context_s=1.0)
    assert score.kind == "nats"
    assert score.per_second == pytest.approx(score.total / (clips[0].seconds - 1.0))
    # tones step in a fixed order, which is another one backwards
    differences = []
    for pair in made_pairs(clips, "reversed", 0.8):
        better, worse = scorer.scores([pair.better, pair.worse], context_s=pair.context_s)
        differences.append(better.total - worse.total)
    won = accuracy_of(differences, [clip.key for clip in clips])
    assert won.value == 1.0
    assert won.n_scored == len(clips)
    with pytest.raises(EvalError, match=r"no unit after its context of 60 s; use longer clips"):
        list(scorer.scores(clips[:1], context_s=60.0))
