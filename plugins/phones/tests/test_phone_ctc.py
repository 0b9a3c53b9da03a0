"""phone-ctc recognizes real speech, whatever its length, level and neighbours; other ONNX models work too."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from cdslm_eval_phones import network
from cdslm_eval_phones.per import try_recognizer
from cdslm_eval_phones.recognizer import PhoneCtc, PhoneCtcOptions
from onnx import TensorProto, helper
from rapidfuzz.distance import Levenshtein

from cdslm_eval.builtin.recognizers.fold import arpabet, is_phone
from cdslm_eval.builtin.recognizers.inventory import ARPABET
from cdslm_eval.core.audio import Clip
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Failed
from cdslm_eval.plugin.host import Host
from cdslm_eval.plugin.identity import identify
from cdslm_eval.plugin.models import files
from cdslm_eval.testing import check_recognizer

RATE_HZ = 16_000


@pytest.mark.parametrize("check", check_recognizer(PhoneCtc), ids=str)
def test_the_contract(check):
    check()


@pytest.fixture(scope="module")
def librivox(shared_data):
    return ClipSet.open(shared_data / "speech" / "pocketsphinx_librivox")


def clip(samples):
    return Clip(key="x", samples=np.asarray(samples, np.float32), rate_hz=RATE_HZ)


def recognized(clips, **options):
    recognizer = PhoneCtc(PhoneCtcOptions(**options))
    with recognizer.open("cpu"):
        return [result if isinstance(result, Failed) else list(result) for result in recognizer.recognize(clips)]


def test_errors_on_read_english_are_few(librivox):
    trial = try_recognizer(librivox, PhoneCtc())
    assert trial.errors.rate <= 0.17
    assert (trial.clips, trial.failed) == (5, 0)


def test_a_minute_has_as_many_phones_as_its_pieces(librivox):
    sentences = [one.samples for one in librivox]
    pieces = recognized([clip(samples) for samples in sentences])
    (minute,) = recognized([clip(np.concatenate(sentences * 3))])
    assert len(minute) == pytest.approx(3 * sum(map(len, pieces)), rel=0.03)


def test_a_gain_moves_no_phone(librivox):
    samples = librivox[0].samples
    quiet, plain = recognized([clip(samples * 0.003), clip(samples)])
    assert quiet == plain


@pytest.mark.skipif(find_spec("silero_vad") is None, reason="silero-vad is not installed")
def test_a_long_clip_is_cut_in_its_longest_pause(librivox):
    sentences = [one.samples for one in librivox]
    left, right, pause = np.concatenate(sentences[:2]), np.concatenate(sentences[2:]), np.zeros(RATE_HZ, np.float32)
    halves = [np.concatenate([left, pause]), np.concatenate([pause, right])]
    assert 10 * RATE_HZ < len(halves[0]) < 20 * RATE_HZ < sum(map(len, halves))
    (whole,) = recognized([clip(np.concatenate(halves))], cuts="pauses")
    parts = [phone for phones in recognized([clip(half) for half in halves]) for phone in phones]
    assert Levenshtein.distance(whole, parts) <= 2
    # a clip of one window is cut nowhere
    assert recognized([clip(halves[0])], cuts="pauses") == recognized([clip(halves[0])])


@pytest.mark.skipif(find_spec("silero_vad") is None, reason="silero-vad is not installed")
def test_cuts_are_in_the_identity_only_where_they_are_chosen():
    plain, pauses = identify(PhoneCtc()), identify(PhoneCtc(PhoneCtcOptions(cuts="pauses")))
    assert set(plain.parts["options"]) == {"inventory"}
    assert pauses.parts["options"]["cuts"] == "pauses"
    assert "silero_vad.onnx" in pauses.parts["fingerprint"]
    assert plain.ident != pauses.ident


def test_ipa_keeps_more_symbols_than_arpabet(librivox):
    (ipa,), (arpabet,) = recognized([librivox[0]], inventory="ipa"), recognized([librivox[0]])
    assert set(arpabet) <= ARPABET
    assert not set(ipa) & ARPABET
    assert len(ipa) == len(arpabet)


def test_the_confidence_is_a_posterior_that_speech_backwards_lowers(librivox):
    recognizer = PhoneCtc()
    samples = librivox[0].samples
    with recognizer.open("cpu"):
        forwards, backwards, silent = recognizer.measure([clip(samples), clip(samples[::-1]), clip(np.zeros(RATE_HZ))])
    assert 0.3 < backwards["confidence"] < forwards["confidence"] - 0.03
    assert 0.85 < forwards["confidence"] < 1
    assert silent == {"phones": [], "confidence": None}


def test_clips_without_speech_and_broken_ones():
    odd = [[], [0.1], np.ones(200), np.zeros(RATE_HZ), [0.0, np.nan] * 1000]
    *silent, broken = recognized([clip(samples) for samples in odd])
    assert silent == [[], [], [], []]
    assert isinstance(broken, Failed)


def test_the_inventory_is_in_the_identity_and_the_place_of_files_is_not(tmp_path):
    model = tmp_path / "copy.onnx"
    model.write_bytes(network.bundled().read_bytes())
    vocab = tmp_path / "vocab.json"
    vocab.write_text(json.dumps(network.bundled_vocabulary().symbols))
    plain = identify(PhoneCtc()).ident
    assert identify(PhoneCtc(PhoneCtcOptions(model=str(model), vocab=str(vocab)))).ident == plain
    assert identify(PhoneCtc(PhoneCtcOptions(inventory="ipa"))).ident != plain


def test_each_phone_of_the_bundled_vocabulary_folds():
    symbols = [symbol for symbol in network.bundled_vocabulary().symbols if is_phone(symbol)]
    assert {phone for symbol in symbols for phone in arpabet(symbol)} == ARPABET
    assert not {"<wb>", "<blank>", " ", "²", "ː", "˥", "不"} & set(symbols)


def test_hama_is_not_imported():
    code = (
        "import sys; from cdslm_eval_phones.recognizer import PhoneCtc\n"
        "r = PhoneCtc(); r.fingerprint()\nwith r.open('cpu'): print('hama' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_another_file_in_the_place_of_the_network_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hama" / "assets").mkdir(parents=True)
    (tmp_path / "hama" / "assets" / "asr_waveform_fp16.onnx").write_bytes(b"another network")

    class Distribution:
        version = "1.3.10"

        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(files, "distribution", lambda name: Distribution())
    with pytest.raises(EvalError, match=r"asr_waveform_fp16\.onnx: SHA-256 .* Install: pip install"):
        network.bundled()
    with pytest.raises(
        EvalError, match=r"g2p_vocab\.json: no such file \(hama 1\.3\.10 is installed.* Install: pip install"
    ):
        network.bundled_vocabulary()


def sign_model(path, symbols=4, metadata=None):
    """Write a CTC network of one convolution: a frame per 160 samples, blank, "a" for positive ones, "b" for others."""
    weights = np.zeros((symbols, 1, 160), np.float32)
    weights[1], weights[2] = 1.0, -1.0
    bias = np.array([0.5] + [0.0] * (symbols - 1), np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "axis"], ["wide"]),
        helper.make_node("Conv", ["wide", "weights", "bias"], ["columns"], strides=[160]),
        helper.make_node("Transpose", ["columns"], ["scores"], perm=[0, 2, 1]),
    ]
    held = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        helper.make_tensor("bias", TensorProto.FLOAT, bias.shape, bias),
    ]
    graph = helper.make_graph(
        nodes,
        "signs",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", "frames", symbols])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, {network.METADATA_KEY: json.dumps(metadata)})
    onnx.save(model, path)
    return path


def steps(signs):
    return clip(np.repeat(np.array(signs, np.float32), 1600))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.txt", "<blank>\na\nb\n<unk>\n"),
        ("vocab.json", '["<blank>", "a", "b", "<unk>"]'),
        ("vocab.json", '{"a": 1, "<blank>": 0, "<unk>": 3, "b": 2}'),
    ],
)
def test_another_network_reads_its_vocabulary(tmp_path, name, content):
    model = sign_model(tmp_path / "signs.onnx")
    (tmp_path / name).write_text(content)
    spec = f"phone-ctc:model={model},vocab={tmp_path / name},inventory=ipa"
    recognizer = Host().make("recognizer", spec)
    with recognizer.open("cpu"):
        assert list(recognizer.recognize([steps([1, -1, 0, -1, 1])])) == [("a", "b", "b", "a")]
    assert recognizer.languages == frozenset()


def test_another_network_may_carry_its_vocabulary(tmp_path):
    model = sign_model(tmp_path / "signs.onnx", metadata={"symbols": ["<blank>", "ɑ", "b", "<unk>"]})
    assert recognized([steps([1, -1])], model=str(model)) == [["AA", "B"]]


def test_what_does_not_fit_is_one_sentence(tmp_path):
    model, vocab = sign_model(tmp_path / "signs.onnx"), tmp_path / "vocab.txt"
    with pytest.raises(EvalError, match="carries no vocabulary"):
        recognized([steps([1])], model=str(model))
    vocab.write_text("a\nb\nc\nd\n")
    with pytest.raises(EvalError, match="no blank symbol"):
        recognized([steps([1])], model=str(model), vocab=str(vocab))
    vocab.write_text("<blank>\na\nb\n")
    with pytest.raises(EvalError, match="has 4 outputs, its vocabulary 3 symbols"):
        recognized([steps([1])], model=str(model), vocab=str(vocab))
    vocab.write_text("<blank>\na\nǃ\nd\n")
    with pytest.raises(UsageError, match="inventory=ipa"):
        recognized([steps([1])], model=str(model), vocab=str(vocab))
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(EvalError, match="cannot load it"):
        recognized([steps([1])], model=str(tmp_path / "broken.onnx"), vocab=str(vocab))
    with pytest.raises(EvalError, match=r"missing\.onnx: cannot be read"):
        identify(PhoneCtc(PhoneCtcOptions(model="missing.onnx", vocab=str(vocab))))
    with pytest.raises(UsageError, match="without model=FILE"):
        PhoneCtc(PhoneCtcOptions(vocab=str(vocab)))


def test_a_gpu_that_is_not_there_is_an_error_and_never_the_cpu(tmp_path, monkeypatch):
    import onnxruntime

    model, vocabulary = sign_model(tmp_path / "signs.onnx"), network.Vocabulary(("<blank>", "a", "b", "c"), 0)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(EvalError, match=r"cuda: onnxruntime has no CUDA provider here; Install: .*--device cpu"):
            network.Network(model, vocabulary, "cuda")
    for device in ("cuda:one", "cpu:1", "mps"):
        with pytest.raises(EvalError, match=f"no device '{device}'"):
            network.Network(model, vocabulary, device)
    # a build for GPUs lists the provider; without CUDA's libraries its sessions run on the CPU all the same
    session = onnxruntime.InferenceSession
    passed = []

    def on_the_cpu(path, options, providers):
        passed.append(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    with pytest.raises(EvalError, match=r"cuda:1: onnxruntime could not start its CUDA provider"):
        network.Network(model, vocabulary, "cuda:1")
    assert network.Network(model, vocabulary, "auto").batch == 1
    network.Network(model, vocabulary, "cpu")
    assert passed == [
        [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"],
        [("CUDAExecutionProvider", {"device_id": 0}), "CPUExecutionProvider"],
        ["CPUExecutionProvider"],
    ]
