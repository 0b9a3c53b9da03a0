"""espeak-ng speaks the same every time, and babble is distributed by its order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import cdslm_eval.builtin.generators
from cdslm_eval.builtin.generators.babble import BabbleGenerator, BabbleOptions, PhoneModel
from cdslm_eval.builtin.generators.espeak import RATE_HZ, VARIANTS, open_espeak
from cdslm_eval.builtin.generators.mnemonics import spelled, utterance
from cdslm_eval.builtin.generators.speak import SpeakGenerator, SpeakOptions
from cdslm_eval.builtin.recognizers.inventory import ARPABET, ARPABET_TO_IPA
from cdslm_eval.builtin.recognizers.phonemize import phonemize
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.errors import UsageError

TEXTS = Path(cdslm_eval.builtin.generators.__file__).parent / "texts"


@pytest.fixture(scope="module")
def espeak():
    with open_espeak() as opened:
        yield opened


def test_an_utterance_does_not_depend_on_those_before_it(espeak):
    first = espeak.say("a quiet morning")
    espeak.say("something else", voice="en-us+f2", rate=200, pitch=80)
    assert np.array_equal(espeak.say("a quiet morning"), first)
    assert 0.5 < len(first) / RATE_HZ < 3
    assert 0.02 < np.abs(first).max() <= 1


def test_rate_pitch_and_every_variant_do_something(espeak):
    slow, fast = (len(espeak.say("one two three four five", rate=rate)) for rate in (120, 240))
    assert slow > 1.5 * fast
    assert len({espeak.say("hello", voice=f"en-us+{variant}").tobytes() for variant in VARIANTS}) == len(VARIANTS)
    assert not np.array_equal(espeak.say("hello", pitch=20), espeak.say("hello", pitch=80)[: len(espeak.say("hello"))])


def test_phonemes_are_spoken_and_not_spelled_out(espeak):
    word, phonemes = espeak.say("mango"), espeak.say("m'aNgoU", phonemes=True)
    assert len(phonemes) == pytest.approx(len(word), rel=0.1)
    assert len(espeak.say("m'aNgoU")) > 1.5 * len(word)


def test_unknown_voice_is_told_in_one_sentence(espeak):
    with pytest.raises(UsageError, match="no voice 'xx-nope'"):
        espeak.say("a", voice="xx-nope")


def test_every_arpabet_phone_and_every_phone_of_the_demo_texts_can_be_spoken():
    assert all(spelled(phone) for phone in ARPABET)
    assert all(spelled(ipa) == spelled(arpabet) for arpabet, ipa in ARPABET_TO_IPA.items())
    assert spelled("AH0") == spelled("ʌ")
    assert spelled("ʘ") is None
    lines = [line for name in ("demo_real.txt", "demo_learn.txt") for line in (TEXTS / name).read_text().splitlines()]
    recognized = Counter(phone for phones in phonemize(lines) for phone in phones)
    unknown = {phone: count for phone, count in recognized.items() if spelled(phone) is None}
    assert sum(unknown.values()) <= 0.002 * recognized.total(), unknown


def test_demo_texts_are_different_sentences_of_prose():
    real, learn = ((TEXTS / name).read_text().splitlines() for name in ("demo_real.txt", "demo_learn.txt"))
    assert len(set(real)) >= 150
    assert len(set(learn)) >= 110
    assert not set(real) & set(learn)
    assert all(9 <= len(line.split()) <= 22 for line in real + learn)


def test_an_utterance_stresses_each_word_once_at_most():
    spoken = utterance(["HH", "AH0", "L", "OW1", "M", "EH", "T", "SH"] * 5, np.random.default_rng(0))
    assert "t|S" in spoken or "t S" in spoken
    assert all(word.count("'") <= 1 for word in spoken.split())


def test_speak_reads_the_lines_and_starts_over(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("Good morning.\n\nGood night.\n")
    generator = SpeakGenerator(SpeakOptions(path=str(text)))
    clips = list(generator.clips([], 3, 1.0, 5))
    assert [clip.text for clip in clips] == ["Good morning.", "Good night.", "Good morning."]
    assert [clip.digest for clip in generator.clips([], 2, 9.0, 5)] == [clip.digest for clip in clips[:2]]
    assert clips[0].digest != clips[2].digest != next(generator.clips([], 1, 1.0, 6)).digest
    assert generator.info().rate_hz == clips[0].rate_hz == RATE_HZ


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"", "no text"), (b"\xff\xfe\xfa", "UTF-8")]
)
def test_bad_text_is_told_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    for generator in (SpeakGenerator(SpeakOptions(path=str(path))), BabbleGenerator(BabbleOptions(text=str(path)))):
        with pytest.raises(UsageError, match=message):
            list(generator.clips([], 1, 1.0, 0))


def grams(sentences, n):
    counts = Counter(tuple(s[i : i + n]) for s in sentences for i in range(len(s) - n + 1))
    return {gram: count / counts.total() for gram, count in counts.items()}


@pytest.mark.parametrize("order", range(1, 5))
def test_a_model_matches_its_source_up_to_its_own_length_and_not_beyond(order):
    rng = np.random.default_rng(0)
    sentences = [list("aabbccdd") if rng.random() < 0.5 else list("abcdabcd") for _ in range(50)]
    drawn = PhoneModel(sentences, order).draw(20_000, rng)

    def distance(n):
        real, model = grams(sentences, n), grams(drawn, n)
        return sum(abs(real.get(g, 0) - model.get(g, 0)) for g in real | model) / 2

    # Order 0 also draws where sentences end, so longer windows than its own are what differs.
    assert distance(order) < 0.03
    assert distance(order + 1) > 0.1 or order == 4


def test_a_model_draws_as_many_phones_as_asked():
    model = PhoneModel([["a", "b"], ["c"]], 2)
    assert all(sum(map(len, model.draw(n, np.random.default_rng(n)))) == n for n in (1, 2, 7, 100))


def test_babble_learns_from_prompts_in_arpabet_or_from_text(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n")
    prompt = Clip(key="p", samples=np.zeros(1, np.float32), rate_hz=8_000, phones=("HH", "AH0", "L", "OW1", "SIL?"))
    plain = BabbleGenerator(BabbleOptions(order=1))
    with pytest.raises(UsageError, match="speaks English phones"):
        list(plain.clips([prompt], 1, 1.0, 0))
    learned = [Clip(key="p", samples=prompt.samples, rate_hz=8_000, phones=("HH", "AH0", "L", "OW1"))]
    assert {phone for clip in plain.clips(learned, 2, 1.0, 0) for phone in clip.phones} == {"HH", "AH0", "L", "OW1"}
    own = BabbleGenerator(BabbleOptions(order=2, text=str(text)))
    assert plain.prompts == {"phones"}
    assert own.prompts == frozenset()
    clips = list(own.clips([], 3, 4.0, 1))
    assert all(clip.seconds == pytest.approx(4.0, rel=0.35) for clip in clips)
    assert [clip.digest for clip in own.clips([], 2, 4.0, 1)] == [clip.digest for clip in clips[:2]]
    with pytest.raises(UsageError, match="babble learns from phones"):
        list(plain.clips([], 1, 1.0, 0))
