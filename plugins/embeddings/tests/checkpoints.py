"""Tiny random checkpoints, written by transformers itself and loaded through the door that real ones use."""

from __future__ import annotations

import warnings
from pathlib import Path

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def waveform(folder: Path, kind: str, *, group: bool, head: str = "Model", **more):
    """Save a network of the wav2vec 2.0 family, with the base models' group norm or the large ones' layer norm."""
    import torch
    import transformers

    torch.manual_seed(3)
    norm = {"feat_extract_norm": "group" if group else "layer", "do_stable_layer_norm": not group}
    network = getattr(transformers, f"{kind}{head}")(getattr(transformers, f"{kind}Config")(**SMALL, **norm, **more))
    for name, weights in network.named_parameters():
        if head == "ForXVector" and name.startswith(("tdnn", "projector", "feature_extractor")):
            torch.nn.init.normal_(weights, std=0.3)
    return saved(network.eval(), folder)


def whisper(folder: Path):
    """Save a Whisper of 3 s windows."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        max_source_positions=150,
    )
    return saved(transformers.WhisperForConditionalGeneration(config).eval(), folder)


def saved(network, folder: Path):
    """Write a network into a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save_pretrained(folder)
    return network
