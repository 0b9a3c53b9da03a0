"""Objects of a bucket for tests: a credential that nothing may print, recordings and archives."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import soundfile as sf

SECRET = "wJalrXUtnFEMI"


def put(client, bucket, key, content):
    client.put_object(Bucket=bucket, Key=key, Body=content)


def upload(client, bucket, folder, prefix):
    for path in sorted(folder.iterdir()):
        put(client, bucket, f"{prefix}/{path.name}", path.read_bytes())


def audio(number, kind="FLAC", seconds=0.5):
    rng, file = np.random.default_rng(number), io.BytesIO()
    sf.write(file, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000, format=kind)
    return file.getvalue()


def tar_of(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()
