"""Known degradations are separated from language: acoustic floor, matched value, audibility, gates, caching."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest

from cdslm_eval import JensenShannon, Metric, api
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.channel import Channel
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.degradation import add_noise, clip_rng
from cdslm_eval.core.derivation import Derivation
from cdslm_eval.core.errors import UsageError
from cdslm_eval.plugin.contract import Recognition, Recognizer
from cdslm_eval.results.channel import Acoustics
from cdslm_eval.results.numbers import to_json
from cdslm_eval.results.score_result import ScoreResult

RATE_HZ = 16_000
TONES_HZ = np.geomspace(300, 3000, 12)
STEP = 800


class ToneRecognizer(Recognizer):
    """Reports the tone of each 50 ms; noise makes it take every second tone for its neighbour."""

    name = "tones"
    inventory = "tones"
    rate_hz = RATE_HZ
    real_time_factor = 0.001

    def recognize(self, clips) -> Iterator[Recognition]:
        """Yield the tone of each step."""
        for clip in clips:
            frames = clip.samples[: len(clip.samples) // STEP * STEP].reshape(-1, STEP)
            power = np.abs(np.fft.rfft(frames * np.hanning(STEP), axis=1)) ** 2
            bins = np.round(TONES_HZ * STEP / RATE_HZ).astype(int)
            tones = power[:, bins].max(axis=1)
            loud = tones > tones.max() / 10
            phones, noise = (
                power[:, bins].argmax(axis=1)[loud],
                np.median(power[loud, 250:350]) / np.median(tones[loud]),
            )
            hidden = noise > 1e-6
            phones = phones // 2 * 2 if hidden else phones
            yield Recognition([f"t{phone}" for phone in phones], confidence=0.5 if hidden else 0.9)


def clip(seed, weights, speaker):
    """Return 3 s of tones with pauses; each tone lies as far above the one before as weights draw."""
    rng = np.random.default_rng(seed)
    samples = 1e-5 * rng.standard_normal(60 * STEP)
    state = 0
    for step in range(60):
        state = (state + rng.choice(len(weights), p=weights)) % len(TONES_HZ)
        if step % 10 < 8:
            times = np.arange(STEP) / RATE_HZ
            samples[step * STEP : (step + 1) * STEP] += 0.3 * np.sin(2 * np.pi * TONES_HZ[state] * times)
    return Clip(key=f"{speaker}-{seed}", samples=samples.astype(np.float32), rate_hz=RATE_HZ, speaker=speaker)


REAL, OTHER = np.array([0.1, 0.6, 0.3]), np.array([0.05, 0.05, 0.1, 0.1, 0.7])


def clips(start, count, weights=REAL, degrade=lambda samples: samples):
    made = (clip(seed, weights, f"s{seed // 2}") for seed in range(start, start + count))
    return ClipSet.from_clips([dataclasses.replace(one, samples=degrade(one.samples)) for one in made], name="set")


def noisy(samples):
    return add_noise(samples, RATE_HZ, 15, clip_rng(samples))


SYSTEMS = {
    "clean": clips(100, 16),
    "noisy": clips(100, 16, degrade=noisy),
    "other": clips(200, 16, OTHER),
    "other, noisy": clips(200, 16, OTHER, noisy),
}
REFERENCE = clips(0, 24)


def score(store, systems=SYSTEMS, **options):
    return api.score(
        systems, REFERENCE, "pjsd", recognizer=ToneRecognizer, store=store, jobs=1, note=lambda _: None, **options
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return tmp_path_factory.mktemp("channel") / "a.cdslm"


@pytest.fixture(scope="module")
def result(rows):
    return score(rows)


def test_the_floor_explains_noise_and_the_matched_value_leaves_language(result):
    own = {name: result.estimate("pjsd_2", name) for name in SYSTEMS}
    noisy, other, both = own["noisy"], own["other"], own["other, noisy"]
    # noise misleads the recognizer by more than the other language differs
    assert noisy.corrected > other.corrected > 0.4
    assert noisy.acoustics.acoustic_floor == pytest.approx(noisy.corrected, abs=0.05)
    assert abs(noisy.acoustics.matched) < 0.02
    assert noisy.trust == result.estimate("pjsd_1", "other, noisy").trust == "acoustic"
    assert "channel alone" in noisy.headline().why
    # a language that differs exceeds its floor, with noise and without
    assert {own["clean"].trust, other.trust, both.trust} <= {"ok", "sample_limited"}
    assert other.acoustics.acoustic_floor_high < 0.1
    assert other.acoustics.matched == pytest.approx(other.corrected, abs=0.02)
    assert both.acoustics.matched > 0.3


def test_the_report_has_the_channels_that_were_made(result):
    sets = {entry.name: entry for entry in result.channel.sets}
    assert list(sets) == ["reference", *SYSTEMS]
    assert sets["noisy"].snr_db == pytest.approx(15, abs=3)
    assert sets["clean"].snr_db > 30
    assert sets["clean"].phones_per_s == pytest.approx(20, rel=0.1)
    assert (sets["clean"].confidence, sets["noisy"].confidence) == (pytest.approx(0.9), pytest.approx(0.5))
    effects = {(effect.channel, effect.name): effect.value for effect in result.channel.sensitivity}
    assert effects["white noise at 20 dB SNR", "pjsd_1"] > 0.05
    assert abs(effects["an 8 kHz sampling rate", "pjsd_1"]) < 0.01


def test_a_second_run_measures_nothing_and_gives_the_same(result, tmp_path, monkeypatch):
    first = score(tmp_path / "b.cdslm", {"noisy": SYSTEMS["noisy"]})
    together = [estimate for estimate in result.estimates if estimate.system == "noisy"]
    # as JSON, where what is not known is equal to itself
    own, others = ([to_json(e.acoustics) for e in estimates] for estimates in (first.estimates, together))
    assert own == others
    monkeypatch.setattr(ToneRecognizer, "recognize", lambda self, clips: 1 / 0)
    again = score(tmp_path / "b.cdslm", {"noisy": SYSTEMS["noisy"]})
    assert again.as_json()["channel"] == first.as_json()["channel"]
    assert again.as_json()["estimates"] == first.as_json()["estimates"]
    path = again.save(tmp_path / "r.json")
    assert ScoreResult.load(path).as_json() == json.loads(json.dumps(again.as_json()))


def test_without_the_channel_the_numbers_are_what_they_were(result, tmp_path):
    plain = score(tmp_path / "c.cdslm", channel=False)
    assert plain.channel is None
    own, other = plain.estimate("pjsd_2", "other"), result.estimate("pjsd_2", "other")
    assert (own.corrected, own.acoustics) == (other.corrected, None)
    # a recognizer that does not read audio has no channel
    with pytest.raises(UsageError, match="does not read audio"):
        api.score(SYSTEMS, REFERENCE, "pjsd", recognizer="sidecar", store=tmp_path / "c.cdslm", channel=True)


def test_audio_in_which_a_recognizer_tells_nothing_apart_is_named(tmp_path):
    class Deaf(ToneRecognizer):
        """Recognizes the same tone throughout where there is noise."""

        name = "deaf"

        def recognize(self, clips):
            """Yield tones, or one tone."""
            for recognition in super().recognize(clips):
                known = recognition.confidence > 0.6
                yield recognition if known else Recognition(["t0"] * len(recognition), 0.3)

    result = api.score(
        {name: SYSTEMS[name] for name in ("clean", "noisy")},
        REFERENCE, "pjsd", recognizer=Deaf, store=tmp_path / "d.cdslm", jobs=1, note=lambda _: None,
    )  # fmt: skip
    (warning,) = [text for text in result.warnings if "cannot tell languages apart" in text]
    assert warning.startswith("noisy: ")


def test_derived_clips_have_digests_of_their_parameters():
    (one,) = clips(0, 1)
    backwards = Derivation(Channel.neutral(), backwards=True)
    np.testing.assert_array_equal(backwards.apply(one).samples, one.samples[::-1])
    derivations = [
        Derivation(Channel.neutral()), backwards, Derivation(Channel.noise(20)), Derivation(Channel.noise(20.1)),
        Derivation(Channel.band(4000)), Derivation(Channel.noise(20), backwards=True),
    ]  # fmt: skip
    digests = [derivation.digest("x") for derivation in derivations]
    assert digests[0] == "x"
    assert len(set(digests)) == len(digests)
    assert derivations[0].apply(one) is one
    source = REFERENCE.sources[0]._replace(derivation=derivations[2])
    assert source.derived(REFERENCE[0]).digest == source.digest_of(REFERENCE[0].digest)
    noise = derivations[2].apply(one).samples - one.samples
    speech = one.samples[np.abs(one.samples) > 1e-3]
    snr_db = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
    assert snr_db == pytest.approx(20, abs=1)


def test_a_value_that_is_not_shown_to_differ_is_not_called_acoustic():
    acoustics = Acoustics(acoustic_floor=0.05, acoustic_floor_low=0.03, acoustic_floor_high=0.07)
    assert acoustics.explains(0.06, 0.01)
    assert not acoustics.explains(0.08, 0.01)
    assert not acoustics.explains(0.02, -0.01)
    assert not Acoustics().explains(0.06, 0.01)
    # a floor that is only wide explains nothing of a difference that is left within the channel
    wide = Acoustics(acoustic_floor_low=-0.03, acoustic_floor_high=0.07, matched_low=0.01)
    assert not wide.explains(0.06, 0.01)
    assert dataclasses.replace(wide, matched_low=-0.01).explains(0.06, 0.01)


def test_only_values_of_phones_see_the_channel():
    class Length(Metric):
        """Seconds."""

        name = "length"
        statistics = {}  # noqa: RUF012

        def measure(self, clips):
            """Yield nothing."""
            return iter(())

    from cdslm_eval.run.channel import sees_channel

    assert sees_channel([Length()]) == ()
    assert JensenShannon("phones").sees_channel


def test_a_comparison_says_where_the_channel_explains_it(result, rows, tmp_path):
    def compare(a, b, **options):
        return api.compare(
            {a: SYSTEMS[a]}, {b: SYSTEMS[b]}, REFERENCE, "pjsd",
            recognizer=ToneRecognizer, store=rows, jobs=1, note=lambda _: None, **options,
        )  # fmt: skip

    compared = compare("clean", "noisy")
    verdicts = {d.name: compared.verdict(d) for d in compared.differences}
    assert verdicts["pjsd_1"] == "clean is better (acoustic: compare matched)"
    # what score says of both, from the same rows
    own = {(e.system, e.name): to_json(e.acoustics) for e in compared.estimates}
    theirs = {(e.system, e.name): to_json(e.acoustics) for e in result.estimates if e.system in ("clean", "noisy")}
    assert own == theirs
    assert [entry.name for entry in compared.channel.sets] == ["reference", "clean", "noisy"]
    assert any("posterior" in sentence for sentence in compared.warnings)
    path = compared.save(tmp_path / "c.json")
    assert type(compared).load(path).as_json() == json.loads(json.dumps(compared.as_json()))
    assert "acoustic floor" in compared.to_latex()
    without = compare("clean", "noisy", channel=False)
    assert (without.channel, without.estimates) == (None, ())
    assert without.as_json()["differences"] == compared.as_json()["differences"]
    assert without.verdict(without.difference("pjsd_1")) == "clean is better"


class EnglishTones(ToneRecognizer):
    """The same, declared to be for English."""

    name = "english-tones"
    languages = frozenset({"en"})


def with_texts(language=None):
    lines = ("see me fleeing, she sees these", "all tall walls fall on lawns")
    texts = [lines[number % 2] for number in range(len(REFERENCE))]
    pairs = zip(REFERENCE.sources, texts, strict=True)
    return ClipSet("real", [source._replace(text=text, language=language) for source, text in pairs])


def gains(tmp_path, recognizer, reference):
    return api.score(
        {"clean": SYSTEMS["clean"]}, reference, "pjsd", recognizer=recognizer,
        store=tmp_path / "g.cdslm", jobs=1, channel=False, note=lambda _: None,
    )  # fmt: skip


def test_the_gain_of_a_reference_with_texts_is_in_every_output(tmp_path):
    from cdslm_eval.cli.tables import markdown, table
    from cdslm_eval.report.page import write_report

    result = gains(tmp_path, EnglishTones, with_texts())
    first = result.recognition_gain[0]
    assert (first.name, first.clips) == ("pjsd_1", (12, 12))
    # the tones know nothing of the texts, which differ wholly
    assert first.text > 0.3
    assert abs(first.share) < 0.1
    folder = tmp_path / "page"
    outputs = [table(result), markdown(result), write_report(result, folder).read_text()]
    assert all("in text this recognizer recovers" in output for output in outputs)
    record = json.loads((folder / "result.json").read_text())["recognition_gain"][0]
    assert record["text"] == pytest.approx(first.text)
    loaded = ScoreResult.load(result.save(tmp_path / "r.json"))
    assert to_json(loaded.recognition_gain) == to_json(result.recognition_gain)
    compared = api.compare(
        {"a": SYSTEMS["clean"]}, {"b": SYSTEMS["other"]}, with_texts(), "pjsd", recognizer=EnglishTones,
        store=tmp_path / "g.cdslm", jobs=1, channel=False, note=lambda _: None,
    )  # fmt: skip
    assert compared.recognition_gain[0] == first
    assert compared.load(compared.save(tmp_path / "c.json")).recognition_gain[0] == first
    assert "recognition_gain" not in gains(tmp_path, EnglishTones, REFERENCE).as_json()


def test_texts_that_cannot_be_read_have_a_reason(tmp_path, monkeypatch):
    from cdslm_eval.builtin.recognizers.transcript import TranscriptRecognizer

    (unknown,) = gains(tmp_path, ToneRecognizer, with_texts()).recognition_gain
    assert "language column" in unknown.reason
    (odd,) = gains(tmp_path, EnglishTones, with_texts("xx")).recognition_gain
    assert "no language 'xx'" in odd.reason
    monkeypatch.setattr(TranscriptRecognizer, "requires", {"no_such_module": "cdslm-eval[speech]"})
    (absent,) = gains(tmp_path, EnglishTones, with_texts()).recognition_gain
    assert "pip install 'cdslm-eval[speech]'" in absent.reason
