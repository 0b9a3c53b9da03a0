"""`cdslm-eval demo`: the main job from nothing, offline: spoken text as real speech, babble and noise as systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cdslm_eval.cli import common
from cdslm_eval.cli.score import JobsOption, SeedOption

if TYPE_CHECKING:
    from cdslm_eval.core.clips import ClipSet
    from cdslm_eval.core.derivation import Derivation
    from cdslm_eval.plugin.host import Host

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the sets, the store and the report.")] = Path("demo"),
    jobs: JobsOption = 0,
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option("--count", min=10, help="Clips of each system.")] = 60,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="Their length.")] = 5.0,
) -> None:
    """Speak a text of our own as real speech, babble of order 0 to 3, silence and noise as systems, and score them.

    The babble learns its phone n-grams from a text of its own, so that the reference is disjoint from what the
    systems were trained on. The spoken sentences are scored with noise and backwards as well: the channel is no
    language, and its table distinguishes the two.
    """
    from importlib.resources import files

    from cdslm_eval import api
    from cdslm_eval.cli.tables import FORMATS
    from cdslm_eval.core.channel import Channel
    from cdslm_eval.core.derivation import Derivation
    from cdslm_eval.plugin.host import Host
    from cdslm_eval.report import write_report
    from cdslm_eval.run.generation import GenerationRequest, generate_set

    host = Host()
    texts = files("cdslm_eval.builtin.generators") / "texts"
    real_text, learned_text = (str(texts / name) for name in ("demo_real.txt", "demo_learn.txt"))

    def make(spec: str, name: str, wanted: int, prompts: ClipSet | None = None, own_seed: int = seed) -> ClipSet:
        request = GenerationRequest(spec, prompts, wanted, seconds, own_seed)
        made = generate_set(host, request, out / "clips", common.note)
        made.name = name
        return made

    with Path(real_text).open(encoding="utf-8") as file:
        lines = sum(1 for line in file if line.strip())
    real = make(f"speak:{real_text}", "reference", lines)
    spoken = make(f"speak:{learned_text}", "other sentences", count, own_seed=seed + 1)
    noisy = _derived(spoken, "with noise, 10 dB", Derivation(Channel.noise(10.0)), out / "clips")
    backwards = _derived(spoken, "backwards", Derivation(Channel.neutral(), backwards=True), out / "clips")
    systems = [spoken, noisy, backwards]
    systems += [make(f"babble:{order},text={learned_text}", f"babble:{order}", count) for order in (3, 2, 1, 0)]
    systems += [make("noise", "noise", count, real), make("silence", "silence", count)]
    result = api.score(
        systems,
        real,
        ["pjsd", "signal", *_quality(host)],
        store=out / "store.cdslm",
        jobs=jobs,
        seed=seed,
        progress=True,
        note=common.note,
    )
    common.write_text("-", FORMATS["table"](result))
    typer.echo(f"report: {write_report(result, out / 'report')}")


def _derived(clips: ClipSet, name: str, derivation: Derivation, folder: Path) -> ClipSet:
    """Return derived clips as files, so that the page plays what was scored."""
    from cdslm_eval.core.audio import write_flac
    from cdslm_eval.core.clips import ClipSet

    target = folder / f"derived-{derivation.ident}"
    target.mkdir(parents=True, exist_ok=True)
    sources = []
    for source, clip in zip(clips.sources, clips, strict=True):
        path = target / f"{source.key}.flac"
        derived = derivation.apply(clip)
        write_flac(path, derived.samples, derived.rate_hz)
        sources.append(source._replace(path=str(path)))
    return ClipSet(name, sources, str(target))


def _quality(host: Host) -> list[str]:
    """Return the perceptual metric shown next to pJSD where its plugin is installed and needs no network."""
    dnsmos = host.registered("metric").get("dnsmos")
    if dnsmos is None:
        common.note("dnsmos is not installed (plugins/perceptual); the table goes without it")
        return []
    why = dnsmos.component.missing() or dnsmos.component.fetches()
    if why:
        common.note(f"dnsmos cannot be shown offline here: {why}")
        return []
    return ["dnsmos"]
