"""Rate of scoring clips from an object store against files: folders, tar shards, Parquet, with and without prefetch.

    python benchmarks/object_store.py --clips 200 --delay-ms 20 --json benchmarks/results/object-store.json

An S3 server (moto's) runs in a process of its own, behind a relay that holds each request back by `--delay-ms`, as a
store in the same region does. Each run is a fresh process with an empty store, one worker and `--metrics`; files are
measured between the objects, so that what else the machine does falls on both. Rates are clips per second from the
first request on: starting Python and importing are left out, as they are of a run of hours.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile as sf

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
RELAY = """
import asyncio, sys
upstream, delay_s = int(sys.argv[1]), float(sys.argv[2])

async def pump(reader, writer, held):
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 18):
            if held:
                await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    other = await asyncio.open_connection("127.0.0.1", upstream)
    # the request is held back once, and its answer streams
    await asyncio.gather(pump(reader, other[1], True), pump(other[0], writer, False))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.serve_forever()

asyncio.run(main())
"""
RUN = """
import json, sys, time
from cdslm_eval import ClipSet, score
from cdslm_eval.core.remote import prefetch
from cdslm_eval.run.clip_ranges import InProcess

where, warm, store, ahead, metrics = sys.argv[1:]
if ahead == "0":
    prefetch.Prefetch.take = lambda self, address: None
    prefetch.Prefetch._start = lambda self, _=None: None
# models, libraries and connections are opened before the clock starts
score(ClipSet.open(warm, "warm"), metrics=metrics, executor=InProcess(), store=store + ".warm")
clips = ClipSet.open(where, "clips")
cpu, wall = time.process_time(), time.perf_counter()
result = score(clips, metrics=metrics, executor=InProcess(), store=store)
print(json.dumps({
    "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
    "scored": result.estimates[0].n_scored, "value": result.estimates[1].value,
}))
"""


def audio(number: int, seconds: float) -> bytes:
    """Return a clip of noise under a slow envelope, as FLAC at 16 kHz: about as large as speech."""
    rng, file = np.random.default_rng(number), io.BytesIO()
    count = int(16000 * seconds)
    envelope = np.repeat(rng.beta(1, 4, count // 4000 + 1), 4000)[:count]
    sf.write(file, 0.3 * envelope * rng.standard_normal(count), 16000, format="FLAC")
    return file.getvalue()


def fill(folder: Path, client: Any, clips: int, seconds: float) -> int:
    """Write the clips as files, objects, a shard and a table; return the bytes of the audio."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [audio(number, seconds) for number in range(clips)]
    for kind, count in (("set", clips), ("warm", 4)):
        (folder / kind).mkdir()
        for number in range(count):
            (folder / kind / f"{number:05d}.flac").write_bytes(contents[number])
            client.put_object(Bucket="bench", Key=f"{kind}/{number:05d}.flac", Body=contents[number])
    with tarfile.open(folder / "set.tar", "w") as archive:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"{number:05d}.flac")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    structs = [{"bytes": content, "path": f"{number:05d}.flac"} for number, content in enumerate(contents)]
    pq.write_table(pa.table({"audio": structs}), folder / "set.parquet", row_group_size=50)
    for name in ("set.tar", "set.parquet"):
        client.put_object(Bucket="bench", Key=name, Body=(folder / name).read_bytes())
    return sum(map(len, contents))


@contextmanager
def serving(delay_ms: float) -> Iterator[tuple[str, str]]:
    """Run the server and the relay; yield the endpoints of both."""
    ports: list[str] = []
    with ExitStack() as stack:
        for program, arguments in ((SERVER, []), (RELAY, [str(delay_ms / 1000)])):
            command = [sys.executable, "-c", program, *ports, *arguments]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            ports.append(next(line.strip() for line in iter(process.stdout.readline, "") if line.strip().isdigit()))
        yield f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"


def run(where: str, warm: str, *, ahead: bool, metrics: str, environment: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", RUN, where, warm, f"{folder}/s.cdslm", str(int(ahead)), metrics]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    parser.add_argument("--metrics", default="signal")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    credentials = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= credentials
    import boto3

    with tempfile.TemporaryDirectory(prefix="object-store-") as text, serving(args.delay_ms) as (direct, relayed):
        folder = Path(text)
        client = boto3.client("s3", endpoint_url=direct)
        client.create_bucket(Bucket="bench")
        size = fill(folder, client, args.clips, args.seconds)
        environment = {**os.environ, "AWS_ENDPOINT_URL": relayed, "OMP_NUM_THREADS": "1"}
        places = {
            "files": (str(folder / "set"), str(folder / "warm"), True),
            "objects": ("s3://bench/set", "s3://bench/warm", True),
            "objects, not ahead": ("s3://bench/set", "s3://bench/warm", False),
            "tar shard, files": (str(folder / "set.tar"), str(folder / "warm"), True),
            "tar shard, objects": ("s3://bench/set.tar", "s3://bench/warm", True),
            "parquet, files": (str(folder / "set.parquet"), str(folder / "warm"), True),
            "parquet, objects": ("s3://bench/set.parquet", "s3://bench/warm", True),
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
        for _ in range(args.repeats):
            for name, (where, warm, ahead) in places.items():
                runs[name].append(run(where, warm, ahead=ahead, metrics=args.metrics, environment=environment))
                print(name, runs[name][-1], flush=True)
    assert len({(entry["scored"], entry["value"]) for entries in runs.values() for entry in entries}) == 1
    rates = {name: args.clips / median(entry["wall_s"] for entry in entries) for name, entries in runs.items()}
    against = {name: "files" if name.startswith("objects") else name.replace("objects", "files") for name in places}
    result = {
        "clips": args.clips,
        "seconds": args.seconds,
        "bytes": size,
        "metrics": args.metrics,
        "delay_ms": args.delay_ms,
        "load": round(os.getloadavg()[0], 1),
        "clips_a_second": {name: round(rate, 1) for name, rate in rates.items()},
        "share_of_files": {
            name: round(rates[name] / rates[other], 2) for name, other in against.items() if name != other
        },
        "cpu_s": {name: round(median(entry["cpu_s"] for entry in entries), 2) for name, entries in runs.items()},
    }
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
