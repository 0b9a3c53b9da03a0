"""Spectrograms of the first clips of a set, to look at before any number is believed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["draw_set"]

_SECONDS = 60
"""Of a clip that are drawn: more could not be read, and would hold all of a long clip in memory."""


def draw_set(folder: Path, count: int) -> Path:
    """Draw the log-mels of the first clips of a folder of FLAC files, a minute of each, and return the picture.

    Args:
        folder: As `cdslm generate` writes it.
        count: How many clips at most.
    """
    import matplotlib as mpl
    import soundfile as sf
    import torch
    from matplotlib.figure import Figure

    from cdslm_model.data.mel import LogMel, MelSpec

    spec = MelSpec()
    paths = sorted(folder.glob("*.flac"))[:count]
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(10, 1.6 * max(1, len(paths))), layout="constrained")
        for axes, path in zip(figure.subplots(len(paths), 1, squeeze=False)[:, 0], paths, strict=True):
            with sf.SoundFile(path) as file:
                rate_hz = file.samplerate
                samples = file.read(_SECONDS * rate_hz, dtype="float32")
            log_mel = LogMel(spec)(torch.from_numpy(samples)[None])[0]
            seconds = len(samples) / rate_hz
            # 80 dB under the loudest is about the audible range
            top = float(log_mel.max())
            axes.imshow(
                log_mel.T.numpy(),
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, spec.mels),
                vmin=top - 4,
                vmax=top,
            )
            axes.set_ylabel(path.stem)
        axes.set_xlabel("s")
        target = folder / "spectrograms.png"
        figure.savefig(target, dpi=120)
    return target
