"""Unit language models that somebody else trained, from their files: a causal LM, centroids, and a speech encoder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cdslm_eval_unit_lm.corpus import clips_of
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.train import KIND
from cdslm_eval_unit_lm.units import tables
from cdslm_model.data.windows import Shards
from cdslm_model.errors import ModelError
from cdslm_model.files import locked
from cdslm_model.train import checkpoint
from cdslm_model.train.distributed import pick_device

__all__ = ["Published", "bring_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where the files of a published model lie, and what they do not say of themselves.

    Attributes:
        language_model: Folder of a transformers causal LM with safetensors weights.
        centroids: `.npy` or `.safetensors` with `[units, dimensions]`.
        data: Prepared speech, from which it is learnt what each unit sounds like and how long it lasts.
        offset: Id of unit 0 in the language model.
        window: Tokens that it may look at; None is what its config says.
        settings: Encoder, layer, run length, context and vocoder.
    """

    language_model: Path
    centroids: Path
    data: Path
    offset: int
    window: int | None
    settings: Settings


def bring_in(published: Published, out: Path, device: str = "auto") -> checkpoint.Checkpoint:
    """Write a checkpoint that `unit-lm:OUT` speaks with.

    Raises:
        ModelError: The files do not fit each other, or cannot be read without unpickling.
    """
    model, config = _language_model(published.language_model)
    centroids = _centroids(published.centroids)
    opening = config.get("bos_token_id")
    if published.offset < 0 or published.offset + len(centroids) > config["vocab_size"]:
        raise ModelError(
            f"{published.language_model}: has {config['vocab_size']} tokens; {len(centroids)} units do not fit from "
            f"--offset {published.offset} on"
        )
    settings = dataclasses.replace(published.settings, units=len(centroids))
    shards = Shards(published.data)
    normalizer = shards.normalizer()
    features = find_features(settings, shards.spec, normalizer, pick_device(device))
    width = features(clips_of(shards)[0]).shape[1]
    if width != centroids.shape[1]:
        raise ModelError(
            f"{published.centroids}: of {centroids.shape[1]} dimensions, and the encoder gives {width}; is it the "
            "right --encoder and --layer?"
        )
    units, _ = tables(centroids, clips_of(shards), features, shards.spec.frame_rate, shards.spec.mels)
    window = published.window or int(config.get("max_position_embeddings") or config.get("n_positions") or 1024)
    weights = {name: one.detach().clone() for name, one in model.named_parameters()}
    facts = {
        "kind": KIND,
        "settings": settings.as_dict(),
        "lm": {"config": config, "offset": published.offset, "opening": opening, "window": window},
        "features": features.digest,
        "unit_rate_hz": units.rate_hz,
        "tokens_per_second": units.rate_hz / (units.mean_run() if settings.run_length else 1.0),
        "mel_spec": dataclasses.asdict(shards.spec),
        "normalizer": normalizer.as_dict(),
        "parameters": sum(one.numel() for one in weights.values()),
        "per_step": None,
        "conventions": {"origin": f"brought in from {published.language_model.name}; its D and C are not known here"},
        "constant_loss": None,
        "val_loss": None,
    }
    with locked(out, "trainer"):
        return checkpoint.save(out, 0, {"weights": weights, "units": units.tensors()}.items(), facts)


def _language_model(folder: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    import transformers

    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; download the model's config.json and model.safetensors into it")
    auto: Any = transformers  # its classes carry no types
    try:
        model, report = auto.AutoModelForCausalLM.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: not a causal language model: {str(error).splitlines()[0]}") from error
    if report["missing_keys"]:
        raise ModelError(f"{folder}: lacks weights, {min(report['missing_keys'])} for one")
    return model, _plain(model.config.to_dict())


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold of a config, without what only says where it came from."""
    odd = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}
    return {
        name: value
        for name, value in fields.items()
        if name not in odd and not (isinstance(value, float) and not math.isfinite(value))
    }


def _centroids(path: Path) -> npt.NDArray[np.float32]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            values = next(iter(load_file(path).values()))
        else:
            values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, StopIteration) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); a pickled k-means (.km, .bin, .pkl) is not loaded: save its "
            "cluster_centers_ with numpy.save where you trust it"
        ) from error
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ModelError(f"{path}: holds {list(values.shape)}; finite [units, dimensions] are wanted")
    return np.ascontiguousarray(values, dtype=np.float32)
