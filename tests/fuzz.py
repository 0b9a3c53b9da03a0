"""Fuzzes what reads input of others: names, manifests, run tables, results, stores, audio (`make fuzz`).

Every target may raise an `EvalError`, which is one sentence for the user, and nothing else. An input that does
otherwise is written into `tests/fuzz_corpus/TARGET-...`, where `tests/test_fuzz.py` tries it from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from cdslm_eval.cli.rerun import _read as read_result
from cdslm_eval.core.audio import read_audio
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_eval.core.printable import printable
from cdslm_eval.core.records import read_records
from cdslm_eval.core.spans import Address
from cdslm_eval.core.store import Outcome, Store
from cdslm_eval.core.store_care import problems, summarise

CORPUS = Path(__file__).parent / "fuzz_corpus"
_TOKENS = [
    b"\0", b"\xff\xfe", b'"', b"\\ud800", b"[" * 2000, b"{" * 2000, b"1e999", b"-", b"NaN", b"\t", b"\r", b"\n", b",",
    b"null", b"\x1b[31m", b"9" * 400, b"../", b"|", b"\xef\xbb\xbf", b"path", b":", b"true", b"x" * 70_000,
]  # fmt: skip


def _manifest(suffix: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        clips = ClipSet.open(path.rename(path.with_name(f"clips{suffix}")))
        for source in clips.sources:
            assert source.bytes is None or source.bytes >= 0
            assert printable(source.key).isprintable()

    return read


def _segments(path: Path) -> None:
    path.rename(path.with_name("segments"))
    path.with_name("wav.scp").write_text("r r.wav\n")
    for source in ClipSet.open(path.with_name("wav.scp")).sources:
        assert Address.parse(str(source.address)) == source.address


def _table(suffix: str) -> Callable[[Path], None]:
    return lambda path: str(read_records(path.rename(path.with_name(f"runs{suffix}"))))


def _store(path: Path) -> None:
    with Store(path) as store:
        store.statuses("metric", map(str, range(20)))
        list(store.outcomes("metric", map(str, range(20))))
        store.files([Address("/a.wav")])
        store.runs()
        summarise(store)
        problems(store)
        with store.writing():
            store.put_row("metric", "new", Outcome("ok", "", {"x": 1.0}))


def _name(path: Path) -> None:
    """Take the content for the name of a file."""
    name = path.read_bytes().replace(b"/", b"_").replace(b"\0", b"_")[:200].strip(b".") or b"x"
    folder = path.with_name("set")
    folder.mkdir()
    (folder / os.fsdecode(name + b".wav")).write_bytes(b"RIFF")
    (source,) = ClipSet.open(folder).sources
    assert printable(source.key).isprintable()
    assert json.loads(json.dumps(source.key)) == source.key
    with Store(path.with_name("s.cdslm")) as store:
        assert store.files([source.address]) == {}


def _result(path: Path) -> None:
    read_result(path)


def _audio(path: Path) -> None:
    assert np.isscalar(read_audio(path).rate_hz)


TARGETS: Mapping[str, Callable[[Path], None]] = {
    "jsonl": _manifest(".jsonl"),
    "csv": _manifest(".csv"),
    "tsv": _manifest(".tsv"),
    "scp": _manifest(".scp"),
    "segments": _segments,
    "runs_csv": _table(".csv"),
    "runs_json": _table(".json"),
    "runs_jsonl": _table(".jsonl"),
    "name": _name,
    "result": _result,
    "store": _store,
    "audio": _audio,
}


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Return sound inputs of every target, to be mutated."""
    path = folder / "s.cdslm"
    with Store(path) as store, store.writing():
        store.put_identity("metric", {"name": "metric", "version": "1"})
        for number in range(20):
            store.put_row("metric", str(number), Outcome("ok", "", {"x": 1.5, "phones": ["AH", "T"]}))
    with Store(path) as store:
        store.put_run({"sets": {}}, [{"system": "a", "name": "b"}])
        store.seal()
    audio = []
    wave = np.sin(np.arange(1600) / 10) / 2
    for suffix in ("wav", "flac", "ogg", "aiff", "au", "w64", "mp3", "caf"):
        sf.write(folder / f"a.{suffix}", wave, 16_000)
        audio.append((folder / f"a.{suffix}").read_bytes())
    settings = {
        "metrics": "signal", "recognizer": "sidecar", "seed": 0, "versions": {"python": "3", "plugins": {}},
        "sets": {"a": {"origin": "a", "clips": 1, "digest": "x"}},
    }  # fmt: skip
    estimate = {"system": "a", "name": "b", "identity": "c", "value": 1.0}
    rows = [{"params": 1e9, "tokens": "7B", "loss": 2.5}]
    return {
        "jsonl": [
            b'{"path": "a.wav", "key": 0, "text": "hello", "phones": ["AH"]}\n',
            b'{"path": "b.wav", "offset": 0.5, "duration": 1}\n',
        ],
        "csv": [b'path,text,speaker\na.wav,"hello, world",s\nb.wav,x,t\n'],
        "tsv": [b'path\ttext\na.wav\t"hello\nb.wav\tx\n'],
        "segments": [b"u1 r 0.5 2\nu2 r 2 -1\n"],
        "scp": [b"a a.wav\nb\tb.wav\n"],
        "runs_csv": [b"params,tokens,loss\n1e9,7B,2.5\n"],
        "runs_json": [json.dumps(rows).encode(), json.dumps({"runs": rows}).encode()],
        "runs_jsonl": [json.dumps(rows[0]).encode() + b"\n"],
        "name": ["clip Größe 東京".encode(), b"-rf $(x) ;'\"\x1b]0;t\x07"],
        "result": [json.dumps({"settings": settings, "estimates": [estimate]}).encode()],
        "store": [path.read_bytes()],
        "audio": audio,
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return content with one to six random edits: bytes set, cut, doubled, or a token put in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + rng.randint(1, 40)] = b""
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 60)]
            case 3:
                data[at:at] = rng.choice(_TOKENS)
            case _:
                data[at : at + rng.randint(1, 8)] = bytes(rng.choices([0, 127, 128, 255], k=rng.randint(1, 8)))
    return bytes(data)


def attempt(target: str, content: bytes) -> str:
    """Let a target read content; return the traceback of what no user should see, or ""."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        path.write_bytes(content)
        try:
            TARGETS[target](path)
        except EvalError as error:
            return "" if str(error).strip() else "an error without a sentence"
        except Exception:  # noqa: BLE001 - whatever it is, it is a find
            return traceback.format_exc()
    return ""


def fuzz(seed: int, rounds: int, seconds: float = float("inf")) -> dict[str, tuple[bytes, str]]:
    """Try every target in turn; return the inputs that broke one, by a name that holds the target.

    Args:
        seed: The same seed gives the same inputs.
        rounds: Inputs for each target at most.
        seconds: Time after which no further round starts.
    """
    end, finds = time.monotonic() + seconds, {}
    with tempfile.TemporaryDirectory() as folder:
        sound = seeds(Path(folder))
    for number in range(rounds):
        if time.monotonic() > end:
            break
        for target in TARGETS:
            rng = random.Random(f"{seed} {number} {target}")
            content = mutated(rng.choice(sound[target]), rng)
            if trace := attempt(target, content):
                finds[f"{target}-{hashlib.sha256(content).hexdigest()[:12]}"] = content, trace
    return finds


def main() -> int:
    """Fuzz for some minutes; keep what was found in the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    finds = fuzz(options.seed, sys.maxsize, options.seconds)
    for name, (content, trace) in finds.items():
        (CORPUS / name).write_bytes(content)
        print(f"{name}\n{trace}")
    print(f"{len(finds)} inputs broke a reader")
    return bool(finds)


if __name__ == "__main__":
    sys.exit(main())
