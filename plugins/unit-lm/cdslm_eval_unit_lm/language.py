"""The causal language model over units: a Llama or GPT-2 of transformers of any size, and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cdslm_model import CheckpointError, ModelError

__all__ = ["FAMILIES", "build", "forward_flops", "lm_config", "load_weights"]

WIDTH_PER_LAYER, HEAD_DIM = 128, 64


def _llama(width: int, layers: int, vocabulary: int, length: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        # three matrices of 8/3 d make the 8 d^2 of a plain perceptron of 4 d
        "intermediate_size": round(8 * width / 3 / 64) * 64,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD_DIM,
        "num_key_value_heads": width // HEAD_DIM,
        "max_position_embeddings": length,
        "tie_word_embeddings": False,
        "bos_token_id": vocabulary - 1,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _gpt2(width: int, layers: int, vocabulary: int, length: int) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "vocab_size": vocabulary,
        "n_embd": width,
        "n_layer": layers,
        "n_head": width // HEAD_DIM,
        "n_positions": length,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": False,
        "bos_token_id": vocabulary - 1,
        "eos_token_id": None,
        "pad_token_id": None,
    }


FAMILIES = {"llama": _llama, "gpt2": _gpt2}


def lm_config(family: str, size: int, units: int, length: int) -> dict[str, Any]:
    """Return the configuration of a model of `size` layers, width 128 a layer, for transformers.

    Its last token, after the units, opens a window.

    Raises:
        ModelError: There is no such family.
    """
    if family not in FAMILIES:
        raise ModelError(f"There is no family {family!r}. Known: {', '.join(FAMILIES)}.")
    return FAMILIES[family](WIDTH_PER_LAYER * size, size, units + 1, length)


def build(config: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Return a model with initial values determined by the seed; torch's global random state is unchanged.

    Raises:
        ModelError: transformers knows no causal language model of that kind.
    """
    import transformers

    auto: Any = transformers  # its classes carry no types
    fields = dict(config)
    try:
        lm = auto.AutoConfig.for_model(fields.pop("model_type"), **fields)
        # transformers takes no generator: it draws initial values from torch's global state
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = auto.AutoModelForCausalLM.from_config(lm, attn_implementation="sdpa")
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"transformers has no causal language model {config.get('model_type')!r}: {error}") from error
    return model.float()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Copy the weights of a checkpoint into a model and return it.

    Raises:
        CheckpointError: Names or shapes differ from the model's.
    """
    named = dict(model.named_parameters())
    if named.keys() != weights.keys():
        odd = min(named.keys() ^ weights.keys())
        raise CheckpointError(f"the weights are not those of the language model: {odd} is on one side only")
    with torch.no_grad():
        for name, parameter in named.items():
            if parameter.shape != weights[name].shape:
                raise CheckpointError(
                    f"{name}: {list(weights[name].shape)} in the checkpoint, {list(parameter.shape)} in its config"
                )
            parameter.copy_(weights[name])
    return model


def forward_flops(config: Mapping[str, Any], length: int) -> int:
    """Return the floating-point operations of one forward pass over a window, a multiply-add counting as two.

    Attention is counted over all pairs of tokens, as in the diffusion model, though half of them are masked.

    Args:
        config: Of `lm_config`.
        length: Tokens.
    """
    llama = config["model_type"] == "llama"
    d: int = config["hidden_size" if llama else "n_embd"]
    layers: int = config["num_hidden_layers" if llama else "n_layer"]
    perceptron: int = 3 * d * config["intermediate_size"] if llama else 8 * d**2
    per_token: int = layers * (4 * d**2 + perceptron) + d * config["vocab_size"]
    return 2 * per_token * length + 4 * d * length**2 * layers
