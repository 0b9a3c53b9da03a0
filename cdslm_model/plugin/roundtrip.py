"""Loss of a vocoder alone on the clips of a set."""

from __future__ import annotations

from pathlib import Path

from cdslm_eval.core.audio import write_flac
from cdslm_eval.core.clips import ClipSet
from cdslm_eval.core.errors import EvalError
from cdslm_model.errors import DataError

__all__ = ["roundtrip"]


def roundtrip(path: str, vocoder: str, count: int, out: str | None) -> dict[str, float]:
    """Return the mean loss of a vocoder on the first clips of a set.

    Args:
        path: Directory or manifest.
        vocoder: Its name.
        count: How many of the clips.
        out: Folder for the resynthesised clips; None writes none.

    Raises:
        ModelError: The set cannot be read, or there is no such vocoder.
    """
    import torch

    from cdslm_model.data.mel import LogMel, MelSpec
    from cdslm_model.sample import vocoder as vocoders

    spec = MelSpec()
    resynthesise, log_mel = vocoders.find_vocoder(vocoder, spec), LogMel(spec)
    totals: dict[str, float] = {}
    try:
        clips = ClipSet.open(path)[:count]
        for clip in clips:
            samples = torch.from_numpy(clip.at_rate(spec.rate_hz).samples)[None]
            for name, value in vocoders.roundtrip(samples, resynthesise).items():
                totals[name] = totals.get(name, 0.0) + value / len(clips)
            if out is not None:
                folder = Path(out) / Path(clip.key).parent
                folder.mkdir(parents=True, exist_ok=True)
                back = resynthesise(log_mel(samples))[0].numpy()
                write_flac(folder / f"{Path(clip.key).name}.flac", back, spec.rate_hz)
    except EvalError as error:
        raise DataError(str(error)) from error
    return {"clips": float(len(clips)), **totals}
