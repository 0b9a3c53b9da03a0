"""What a vocoder alone loses on the clips of a set."""

from __future__ import annotations

from pathlib import Path

from cdslm_eval.core.audio import write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_model.errors import DataError

__all__ = ["roundtrip"]


def roundtrip(path: str, vocoder: str, count: int, out: str | None) -> dict[str, float]:
    """Return what a vocoder loses on the first clips of a set, on average.

    Args:
        path: Directory or manifest.
        vocoder: Its name.
        count: How many of the clips.
        out: Folder for what comes back, where that is wanted.

    Raises:
        ModelError: The set cannot be read, or there is no such vocoder.
    """
    import torch

    from cdslm_model.data.mel import LogMel, MelSpec
    from cdslm_model.sample import vocoder as room

    spec = MelSpec()
    made, log_mel = room.find(vocoder, spec), LogMel(spec)
    totals: dict[str, float] = {}
    try:
        clips = ClipSet.open(path)[:count]
        for clip in clips:
            samples = torch.from_numpy(clip.at_rate(spec.rate_hz).samples)[None]
            for name, value in room.roundtrip(samples, made).items():
                totals[name] = totals.get(name, 0.0) + value / len(clips)
            if out is not None:
                folder = Path(out) / Path(clip.key).parent
                folder.mkdir(parents=True, exist_ok=True)
                back = made(log_mel(samples))[0].numpy()
                write_flac(folder / f"{Path(clip.key).name}.flac", back, spec.rate_hz)
    except EvalError as error:
        raise DataError(str(error)) from error
    return {"clips": float(len(clips)), **totals}
