"""What people really hand in, through the real command line: a sentence that names it, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch", reason="the extra `model` is not installed")

from model.conftest import ENVIRONMENT, LENGTH, SMALL, vowels  # noqa: E402 - torch may be absent

from cdslm_eval.core.audio import resample  # noqa: E402
from cdslm_model import checkpoint  # noqa: E402
from cdslm_model.data.windows import Shards  # noqa: E402
from cdslm_model.files import locked  # noqa: E402

STEPS = ("--steps", "40", "--save-every", "10")


def sentence(done, code=2):
    """Return the one line, without traceback, of a command that failed."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("cdslm: ")
    assert done.stderr.count("\n") == 1
    assert "internal error" not in done.stderr
    return done.stderr


def limited(size, *arguments):
    """Run the command line where no file may grow over a size: a disk that is full."""
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
        "from cdslm_model.cli import main; main()"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def test_silence_alone_is_no_speech(inside, tmp_path):
    (tmp_path / "quiet").mkdir()
    for name, level in (("digital", 0.0), ("dither", 2e-5)):
        noise = level * np.random.default_rng(0).standard_normal(32_000)
        sf.write(tmp_path / "quiet" / f"{name}.wav", noise.astype(np.float32), 16_000, subtype="FLOAT")
    message = sentence(inside("prepare", tmp_path / "quiet", "--out", tmp_path / "shards"))
    assert "no recording can be used" in message
    assert "digital.wav: nothing but silence" in message


def test_rates_and_channels_may_mix(inside, tmp_path):
    """Each clip is what the same sound, converted to one rate and one channel beforehand, would be."""
    rng = np.random.default_rng(1)
    for folder in ("mixed", "plain"):
        (tmp_path / folder).mkdir()
    for number, (rate_hz, channels) in enumerate([(8_000, 1), (16_000, 2), (22_050, 1), (44_100, 6), (48_000, 2)]):
        sound = np.stack([vowels(rng, 1.1, rate_hz) for _ in range(channels)], 1)
        name = f"{number}.wav"
        sf.write(tmp_path / "mixed" / name, sound, rate_hz, subtype="FLOAT")
        mono = resample(sound.mean(1, dtype=np.float64).astype(np.float32), rate_hz, 24_000)
        sf.write(tmp_path / "plain" / name, mono, 24_000, subtype="FLOAT")
    mixed, plain = (prepared(inside, tmp_path / name, tmp_path / f"{name}-shards") for name in ("mixed", "plain"))
    assert [clip["frames"] for clip in mixed.clips] == [clip["frames"] for clip in plain.clips]
    assert torch.equal(mixed.read(0, mixed.frames), plain.read(0, plain.frames))


def prepared(inside, audio, folder):
    done = inside("prepare", audio, "--out", folder)
    assert done.returncode == 0, done.stderr
    return Shards(folder)


def test_one_clip_is_enough_to_train_and_to_validate(inside, tmp_path):
    for number, split in enumerate(("train", "valid")):
        (tmp_path / "two" / split).mkdir(parents=True)
        sf.write(tmp_path / "two" / split / "a.wav", vowels(np.random.default_rng(number), 0.8), 16_000)
    assert inside("prepare", tmp_path / "two", "--out", tmp_path / "shards").returncode == 0
    done = inside("train", "--data", tmp_path / "shards", "--out", tmp_path / "run", *SMALL, "--steps", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["val_loss"] < 10


def test_hostile_files_are_named_and_the_others_prepared(inside, shared_data, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(shared_data / "odd" / "generated", folder)
    vowel = vowels(np.random.default_rng(2), 1.0)
    sf.write(folder / "integers_as_float.wav", vowel * 32_768, 16_000, subtype="FLOAT")
    # A name that is no UTF-8, as old archives have them
    sf.write(tmp_path / "name.wav", vowel, 16_000)
    (tmp_path / "name.wav").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.wav"))
    shards = prepared(inside, folder, tmp_path / "shards")
    left_out = {path.name for path in folder.glob("*.wav")} - {os.path.basename(c["name"]) for c in shards.clips}  # noqa: PTH119
    assert left_out == {
        *("all_zeros_2s.wav", "channels_65535.wav", "channels_zero.wav", "empty_0_bytes.wav", "header_only_44.wav"),
        *("header_truncated_20.wav", "integers_as_float.wav", "nan_inf_float.wav", "one_sample.wav", "rate_zero.wav"),
        *("text_named.wav", "zero_frames.wav", "data_truncated_half.wav", "odd_byte_tail.wav"),
    }
    assert shards.read(0, shards.frames).isfinite().all()
    assert shards.normalizer().std.max() < 10
    again = inside("prepare", folder, "--out", tmp_path / "shards")
    assert again.returncode == 0
    assert "(0 clips added" in again.stdout
    for why in ("all_zeros_2s.wav: nothing but silence", "channels_zero.wav: not readable", "14 clips in all"):
        assert why in again.stderr


def test_no_room_to_prepare_keeps_what_is_whole(inside, corpus, tmp_path):
    """The second call continues from the shards of the first once the disk has space again."""
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((corpus / "train").iterdir())[:2]:
        shutil.copy(path, few)
    folder = tmp_path / "shards"
    before = prepared(inside, few, folder).clips[:]
    for path in sorted((corpus / "train").iterdir())[2:]:
        shutil.copy(path, few)
    # on a busy machine progress would be printed before it
    message = sentence(limited(100_000, "--quiet", "prepare", few, "--out", folder))
    assert "no space for the next shard" in message
    assert "the 1 before it are complete" in message
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "shard-00000.json", "shard-00000.npy"]
    after = prepared(inside, few, folder).clips
    assert list(after[:2]) == before
    assert len(after) == 12


@pytest.mark.parametrize(
    ("room", "message"), [(-500, "no space on the disk"), (500, "no space for its log; the last good checkpoint is")]
)
def test_no_room_for_the_log_loses_nothing(inside, shards, trained, tmp_path, room, message):
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("step-000000040", "result.json", "tensorboard"))
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    log = "".join(line for line in lines if json.loads(line)["step"] <= 30)
    (run / "log.jsonl").write_text(log)
    done = limited(len(log) + room, "train", "--data", shards, "--out", run, *SMALL, *STEPS, "--quiet")
    assert done.returncode == 3
    assert f"cdslm: {'' if room < 0 else run}" in done.stderr
    assert message in done.stderr
    assert "internal error" not in done.stderr
    assert (run / "log.jsonl").read_text().startswith(log), "the log of before is whole"
    assert inside("train", "--data", shards, "--out", run, *SMALL, *STEPS, "--quiet").returncode == 0
    whole = json.loads((trained / "result.json").read_text())["val_loss"]
    assert json.loads((run / "result.json").read_text())["val_loss"] == whole


def test_a_second_prepare_is_refused(inside, corpus, tmp_path):
    with locked(tmp_path / "shards" / "train", "cdslm prepare"):
        message = sentence(inside("prepare", corpus, "--out", tmp_path / "shards"))
    assert f"another cdslm prepare (process {os.getpid()}) works in it" in message
    assert inside("prepare", corpus, "--out", tmp_path / "shards").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "CORPUS"), "train: no prepared speech in it; Use: cdslm prepare"),
        (("--data", "/nowhere"), "/nowhere: no such folder"),
        (("--valid", "/nowhere"), "/nowhere: no prepared speech in it"),
        (("--target-flops", "nan"), "nan flops is no length of a run"),
        (("--lr", "inf"), "lr = inf must be positive"),
        (("--weight-decay", "nan"), "weight_decay = nan must be 0 or more"),
        (("--seed", str(1 << 70)), "seed = "),
        (("--device", "mps"), "cpu, cuda or cuda:N"),
        (("--out", "FILE"), "cannot be written to"),
    ],
)
def test_what_cannot_be_trained_on_is_named(inside, shards, corpus, tmp_path, options, message):
    places = {"CORPUS": str(corpus), "FILE": str(corpus / "train" / "00.wav")}
    options = [places.get(word, word) for word in options]
    done = inside("train", "--data", shards, "--out", tmp_path / "run", *SMALL, "--steps", "2", *options)
    assert message in sentence(done)


def tampered(path):
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("weights.safetensors", tampered, "weights.safetensors: truncated or altered"),
        ("optimizer.safetensors", lambda path: os.truncate(path, 1000), "optimizer.safetensors: truncated or altered"),
        ("checkpoint.json", tampered, "checkpoint.json: "),
    ],
)
def test_a_damaged_checkpoint_stops_training_and_the_one_before_serves(
    inside, shards, trained, tmp_path, file, damage, named
):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "result.json").unlink()
    last = run / "checkpoints" / "step-000000040"
    # Not at its end yet, so that training reads all of it
    shutil.rmtree(last)
    last = last.with_name("step-000000030")
    shutil.copytree(last, last.with_name("step-000000020"))
    facts = json.loads((last / "checkpoint.json").read_text())
    facts.pop("digest")
    facts["step"] = 20
    digest = checkpoint._digest(facts)
    (last.with_name("step-000000020") / "checkpoint.json").write_text(json.dumps({**facts, "digest": digest}))
    damage(last / file)
    message = sentence(inside("train", "--data", shards, "--out", run, *SMALL, *STEPS, "--quiet"), 3)
    assert named in message
    if file != "checkpoint.json" or "digest" in message:
        assert "The last good checkpoint is" in message
        assert "step-000000020" in message
    shutil.rmtree(last)
    done = inside("train", "--data", shards, "--out", run, *SMALL, *STEPS, "--quiet")
    assert done.returncode == 0, done.stderr


def test_log_mels_of_another_kind_are_refused(inside, shards, trained, tmp_path):
    """The same clips under another mel spec are other speech to a run, and to its held-out part."""
    from cdslm_model.data.mel import MelSpec
    from cdslm_model.data.prepare import prepare
    from cdslm_model.plugin.recordings import recordings

    names = [clip["name"] for clip in Shards(shards / "train").clips]
    folder = os.path.dirname(os.path.dirname(names[0]))  # noqa: PTH120
    for split, clips in recordings([folder]).items():
        prepare(clips, tmp_path / "other" / split, MelSpec(low_hz=20.0))
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    done = inside("train", "--data", tmp_path / "other", "--out", tmp_path / "run", *SMALL, *STEPS)
    assert "was trained on log-mels of" in sentence(done)
    mixed = ("--data", shards / "train", "--valid", tmp_path / "other" / "valid")
    message = sentence(inside("train", *mixed, "--out", tmp_path / "new", *SMALL, "--steps", "2"))
    assert "its mel spec differs from that of" in message


def test_too_little_memory_is_reported(shards, tmp_path):
    """An address space that the network does not fit into."""
    program = (
        "import resource, torch, transformers.audio_utils; from cdslm_model.cli import main;"
        "held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize();"
        "resource.setrlimit(resource.RLIMIT_AS, (held + (1 << 29), held + (1 << 29))); main()"
    )
    options = ("--data", shards, "--out", tmp_path / "run", "--depth", "12", "--steps", "2", *LENGTH)
    command = [sys.executable, "-c", program, "train", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, "not enough memory; a smaller --batch-size" in done.stderr) == (3, True), done.stderr
