"""Published unit language models, imported from their files: a causal LM, centroids, and a speech encoder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cdslm_eval_unit_lm.corpus import shard_clips
from cdslm_eval_unit_lm.features import find_features
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.train import KIND
from cdslm_eval_unit_lm.units import tables
from cdslm_model import (
    Checkpoint,
    ModelError,
    Shards,
    find_vocoder,
    locked,
    pick_device,
    save_checkpoint,
)

__all__ = ["Published", "import_published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Files of a published model, and the facts that they do not contain.

    Attributes:
        language_model: Folder of a transformers causal LM with safetensors weights.
        centroids: `.npy` or `.safetensors` with `[units, dimensions]`.
        data: Prepared speech, for the tables of mean log-mels and durations.
        offset: Id of unit 0 in the language model.
        window: Longest window in tokens; None takes that of its config.
        settings: Encoder, layer, run length, context and vocoder.
    """

    language_model: Path
    centroids: Path
    data: Path
    offset: int
    window: int | None
    settings: Settings


def import_published(published: Published, out: Path, device: str = "auto") -> Checkpoint:
    """Write a checkpoint for the generator `unit-lm:OUT`.

    Raises:
        ModelError: The files do not match, or cannot be read without unpickling.
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
    settings.check()
    shards = Shards(published.data)
    # before the encoder reads all the speech: a vocoder that does not fit fails at once
    find_vocoder(settings.vocoder, shards.spec)
    normalizer = shards.normalizer()
    features = find_features(settings, shards.spec, normalizer, pick_device(device))
    width = features(shard_clips(shards)[0]).shape[1]
    if width != centroids.shape[1]:
        raise ModelError(
            f"{published.centroids}: of {centroids.shape[1]} dimensions, and the encoder's are {width}; "
            "check --encoder and --layer"
        )
    units, _ = tables(centroids, shard_clips(shards), features, shards.spec.frame_rate, shards.spec.mels)
    window = published.window or int(config.get("max_position_embeddings") or config.get("n_positions") or 1024)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    facts = {
        "kind": KIND,
        "settings": settings.as_dict(),
        "lm": {"config": config, "offset": published.offset, "opening": opening, "window": window},
        "features": features.digest,
        "unit_rate_hz": units.rate_hz,
        "tokens_per_second": units.rate_hz / (units.mean_run() if settings.run_length else 1.0),
        "mel_spec": dataclasses.asdict(shards.spec),
        "normalizer": normalizer.as_dict(),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "per_step": None,
        "conventions": {"origin": f"imported from {published.language_model.name}; its D and C are unknown"},
        "constant_loss": None,
        "val_loss": None,
    }
    with locked(out, "trainer"):
        return save_checkpoint(out, 0, {"weights": weights, "units": units.tensors()}.items(), facts)


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
    """Return the JSON values of a config, without those that only name its origin."""
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
        raise ModelError(f"{path}: holds {list(values.shape)}; finite [units, dimensions] are needed")
    return np.ascontiguousarray(values, dtype=np.float32)
