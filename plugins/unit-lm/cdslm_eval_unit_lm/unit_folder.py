"""A folder of clusters and of the units of all speech, made once for many models: `unit-lm units`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdslm_eval_unit_lm.corpus import shard_clips
from cdslm_eval_unit_lm.features import Features, find_features
from cdslm_eval_unit_lm.settings import Settings
from cdslm_eval_unit_lm.unit_cache import cache_key, cached_units, read_units, save_units, with_progress
from cdslm_eval_unit_lm.units import Ints, Units, fit_centroids, tables
from cdslm_model import (
    CheckpointError,
    ModelError,
    Shards,
    TrainingError,
    locked,
    open_speech,
    pick_device,
    read_json,
    sha256,
    write_json,
    written_whole,
)

__all__ = ["CLUSTERING", "UnitFolder", "cluster", "cluster_into"]

FACTS, TENSORS = "units.json", "units.safetensors"
CLUSTERING = ("units", "stride", "encoder", "layer")
"""Settings that belong to the clusters, in place of those of a run."""


def cluster(shards: Shards, features: Features, settings: Settings, *, quiet: bool) -> tuple[Units, list[Ints]]:
    """Return clusters of some speech with their tables, and the units of each clip."""
    clips, spec = shard_clips(shards), shards.spec
    if not quiet:
        hours = shards.frames / spec.frame_rate / 3600
        print(f"clustering {hours:.2f} h into {settings.units} units", file=sys.stderr, flush=True)
    centroids = fit_centroids(clips, features, settings.units, settings.seed)
    reported = with_progress(clips, "units of train", quiet=quiet)
    return tables(centroids, reported, features, spec.frame_rate, spec.mels)


def cluster_into(
    folder: Path, data: Path, valid: Path, settings: Settings, *, device: str = "auto", quiet: bool = False
) -> UnitFolder:
    """Make the units of training and validation speech; a finished folder of the same units is left as it is.

    Args:
        folder: Where they are written.
        data, valid: Prepared speech.
        settings: What is clustered, into how many units, and the seed.
        device: Of an encoder.
        quiet: Whether no progress is printed.

    Raises:
        ModelError: The folder holds other units, or the speech cannot be used.
    """
    settings.check()
    wanted = {**{name: getattr(settings, name) for name in CLUSTERING}, "seed": settings.seed}
    speech = open_speech(data, valid)
    with locked(folder, "unit-lm units"):
        if (folder / FACTS).is_file():
            known = UnitFolder.open(folder)
            if known.facts["settings"] != wanted or known.facts["data"] != speech.digests():
                raise ModelError(f"{folder}: holds units of other settings or of other speech; name another folder")
            return known
        shards = speech.train
        features = find_features(settings, shards.spec, shards.normalizer(), pick_device(device))
        units, clip_units = cluster(shards, features, settings, quiet=quiet)
        save_units(folder / _file("train"), cache_key(shards, features, units.centroids), clip_units)

        def of_valid() -> list[Ints]:
            clips = with_progress(shard_clips(speech.valid), "units of valid", quiet=quiet)
            return [units.of(features(clip)) for clip in clips]

        cached_units(folder / _file("valid"), cache_key(speech.valid, features, units.centroids), of_valid)
        _write(folder, units, {"settings": wanted, "features": features.digest, "data": speech.digests()})
        return UnitFolder.open(folder)


@dataclass(frozen=True)
class UnitFolder:
    """A folder that `unit-lm units` wrote.

    Attributes:
        folder: The folder.
        facts: Its JSON: settings, features, speech, rates, the digest of its clusters.
    """

    folder: Path
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> UnitFolder:
        """Open a folder and verify its clusters.

        Raises:
            ModelError: It is none, incomplete, or damaged.
        """
        if not (folder / FACTS).is_file():
            raise ModelError(f"{folder}: holds no units; Use: unit-lm units --data SHARDS --out {folder}")
        facts = read_json(folder / FACTS, CheckpointError)
        if not (folder / TENSORS).is_file() or sha256(folder / TENSORS) != facts["digest"]:
            raise CheckpointError(f"{folder / TENSORS}: truncated or altered: its digest does not fit; make it again")
        return cls(folder, facts)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of a run over these units."""
        return dataclasses.replace(settings, **{name: self.facts["settings"][name] for name in CLUSTERING})

    def units(self) -> Units:
        """Return the clusters with their tables."""
        from safetensors.torch import load_file

        return Units.from_tensors(load_file(self.folder / TENSORS), self.facts["rate_hz"], self.facts["frame_rate"])

    def clip_units(self, split: str, shards: Shards, features: Features, units: Units) -> list[Ints]:
        """Return the units of each clip of "train" or "valid".

        Raises:
            ModelError: The folder holds those of other speech.
        """
        path = self.folder / _file(split)
        clip_units = read_units(path, cache_key(shards, features, units.centroids))
        if clip_units is None:
            raise ModelError(f"{path}: holds no units of {shards.folder}; make units of that speech with unit-lm units")
        return clip_units


def _file(split: str) -> str:
    return f"units-{split}.safetensors"


def _write(folder: Path, units: Units, facts: Mapping[str, Any]) -> None:
    """Write clusters, and then the facts, which make the folder complete."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = folder / TENSORS
    try:
        written_whole(path, lambda half: save_file(units.tensors(), half))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: cannot be written: {error}; free some space and repeat the command") from error
    rates = {"rate_hz": units.rate_hz, "frame_rate": units.frame_rate}
    write_json(folder / FACTS, {**facts, **rates, "digest": sha256(path)})
