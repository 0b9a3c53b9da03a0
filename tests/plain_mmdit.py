"""The network once more in plain numpy, one clip, one head and one token at a time, from its description alone."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

EPS = 1e-6


def forward(weights, config, streams, time, branch, output):
    """Return `[frames, mels]` for one clip; `streams` are `[frames, features]`, the generated one last."""
    linear = lambda name, x: x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]  # noqa: E731
    d, patch = config.width, config.patch
    condition = silu(linear("time_out", silu(linear("time_in", sinusoids(time)))))
    hidden, times, earlier = [], [], 0
    for index, stream in enumerate(streams):
        last = index == len(streams) - 1
        missing = -len(stream) % patch
        zeros = np.zeros((missing, stream.shape[1]))
        whole = np.concatenate([stream, zeros] if last else [zeros, stream])
        tokens = whole.reshape(-1, patch * stream.shape[1])
        name = "embed" if index in (0, len(streams) - 1) else f"embed_extra.{index - 1}"
        hidden.append(linear(name, tokens))
        earlier += 0 if last else len(tokens)
        times.append([patch * (step - (0 if last else earlier)) for step in range(len(tokens))])
    for block in range(config.depth):
        queries, keys, values, rest = [], [], [], []
        for index, tokens in enumerate(hidden):
            name = f"blocks.{block}.streams.{index}"
            shift, scale, *more = np.split(linear(f"{name}.modulation", condition), weights_parts(weights, name, d))
            rest.append(more)
            q, k, v = np.split(linear(f"{name}.qkv", norm(tokens) * (1 + scale) + shift), 3, axis=1)
            for token in range(len(tokens)):
                queries.append(heads(q[token], weights[f"{name}.query_norm.weight"], times[index][token]))
                keys.append(heads(k[token], weights[f"{name}.key_norm.weight"], times[index][token]))
                values.append(v[token].reshape(-1, config.head_dim))
        attended = attention(np.array(queries), np.array(keys), np.array(values))
        for index in range(len(hidden)):
            part, attended = attended[: len(hidden[index])], attended[len(hidden[index]) :]
            if not rest[index]:
                continue
            name = f"blocks.{block}.streams.{index}"
            gate, shift, scale, last_gate = rest[index]
            x = hidden[index] + branch * gate * linear(f"{name}.out", part)
            inner = gelu(linear(f"{name}.up", norm(x) * (1 + scale) + shift))
            hidden[index] = x + branch * last_gate * linear(f"{name}.down", inner)
    frames = linear("out", output * norm(hidden[-1])).reshape(-1, config.mels)
    return frames[: len(streams[-1])]


def weights_parts(weights, name, d):
    return len(weights[f"{name}.modulation.bias"]) // d


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return x * special.ndtr(x)


def sinusoids(time):
    angles = [1000 * time / 10_000 ** (step / 128) for step in range(128)]
    return np.array([math.cos(a) for a in angles] + [math.sin(a) for a in angles])


def norm(x):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPS)


def heads(vector, gain, time):
    """Return `[heads, head_dim]`: unit RMS times gain, then pairs (i, i + half) turned as complex numbers."""
    actual = []
    for head in vector.reshape(-1, len(gain)):
        unit = head / math.sqrt((head**2).mean() + EPS) * gain
        half = len(gain) // 2
        turned = (unit[:half] + 1j * unit[half:]) * np.exp(1j * time * 10_000 ** (-np.arange(half) / half))
        actual.append(np.concatenate([turned.real, turned.imag]))
    return np.array(actual)


def attention(queries, keys, values):
    out = np.zeros_like(values)
    for token in range(len(queries)):
        for head in range(queries.shape[1]):
            scores = keys[:, head] @ queries[token, head] / math.sqrt(queries.shape[2])
            shares = np.exp(scores - scores.max())
            out[token, head] = shares / shares.sum() @ values[:, head]
    return out.reshape(len(out), -1)
