"""The Python front door: arrays, sets, classes of a script, one-file metrics, results that are kept and shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import cdslm_eval
from cdslm_eval import ClipSet, ComparisonResult, Mean, Metric, ScoreResult, UsageError
from cdslm_eval.core.clips import decode

RATE_HZ = 16_000
METRIC = '''
from cdslm_eval import Mean, Metric, Options


class Threshold(Options):
    threshold: float = 0.05


class Quiet(Metric):
    """Share of quiet samples."""

    name = "quiet"
    Options = Threshold
    statistics = {"quiet": Mean("share")}

    def measure(self, clips):
        for clip in clips:
            yield {"share": float((abs(clip.samples) < self.options.threshold).mean())}
'''


def noises(count: int, scale: float, seed: int = 0) -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [(scale * rng.standard_normal(RATE_HZ).astype(np.float32), RATE_HZ) for _ in range(count)]


class Loudest(Metric):
    name = "loudest"
    statistics = {"loudest": Mean("peak")}  # noqa: RUF012 - as the documentation shows it

    def measure(self, clips):
        for clip in clips:
            yield {"peak": float(np.abs(clip.samples).max())}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store.cdslm"


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"numpy", "scipy", "pydantic", "pluggy", "typer", "rich"}
    code = f"import sys, cdslm_eval; print([m for m in sys.modules if m in {heavy} or m.startswith('cdslm_eval.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there_and_listed():
    assert all(getattr(cdslm_eval, name) is not None for name in cdslm_eval.__all__)
    names = {"score", "compare", "generate", "fit", "run_suite", "load_suite", "ClipSet", "RunTable", "phoneme_jsd"}
    assert names <= set(dir(cdslm_eval))


def test_arrays_score_as_the_files_that_hold_them_do(tmp_path, store):
    """Same content, same rows: the second call finds those of the first in the store."""
    import soundfile as sf

    clips, folder = noises(4, 0.1), tmp_path / "files"
    folder.mkdir()
    for number, (samples, rate_hz) in enumerate(clips):
        sf.write(folder / f"{number:05d}.wav", samples, rate_hz, subtype="FLOAT")
    from_files = cdslm_eval.score(folder, metrics="signal", store=store, jobs=1)
    calls = []
    from_memory = cdslm_eval.score(
        {"files": clips}, metrics="signal", store=store, jobs=1, progress=lambda *at: calls.append(at)
    )
    assert calls == []
    values = [[(e.name, e.value, e.low, e.high, e.identity) for e in r.estimates] for r in (from_files, from_memory)]
    assert values[0] == values[1]
    assert from_files.settings["sets"]["files"]["digest"] == from_memory.settings["sets"]["files"]["digest"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_class_that_no_plugin_registered_is_measured_in_workers(store, jobs):
    clips = noises(5, 0.1)
    result = cdslm_eval.score({"a": clips}, metrics=[Loudest], store=store, jobs=jobs)
    assert result.estimate("loudest").value == pytest.approx(np.mean([np.abs(s).max() for s, _ in clips]), rel=1e-6)
    assert result.estimate("loudest").n_scored == 5


def test_a_script_without_a_main_guard_scores_classes_of_its_own(tmp_path):
    """A changed constant that the class refers to is another identity, and its rows are not mixed with the old."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np
        import cdslm_eval
        from cdslm_eval import Mean, Metric

        LIMIT = 0.05
        def quiet(samples):
            return float((abs(samples) < LIMIT).mean())

        class Quiet(Metric):
            name = "quiet"
            statistics = {"quiet": Mean("share")}
            def measure(self, clips):
                for clip in clips:
                    yield {"share": quiet(clip.samples)}

        clip = (np.linspace(-0.1, 0.1, 16000), 16000)
        for LIMIT in (0.05, 0.2):
            result = cdslm_eval.score({"a": [clip]}, metrics=[Quiet], store="s.cdslm", jobs=2)
            print(result.estimate("quiet").value)
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.split() == ["0.5", "1.0"], done.stderr


def test_a_metric_of_one_file_on_the_command_line_and_in_python(tmp_path, store):
    (tmp_path / "my_metric.py").write_text(METRIC)
    spec = f"{tmp_path / 'my_metric.py'}:Quiet"
    clips = {"a": [(np.linspace(-0.1, 0.1, RATE_HZ), RATE_HZ)]}
    result = cdslm_eval.score(clips, metrics=[spec, "signal"], store=store, jobs=1)
    assert result.estimate("quiet").value == pytest.approx(0.5, abs=1e-3)
    other = cdslm_eval.score(clips, metrics=f"signal,{spec}:threshold=0.2", store=store, jobs=1)
    assert other.estimate("quiet").value == 1.0
    (tmp_path / "my_metric.py").write_text(METRIC.replace("abs(clip.samples)", "clip.samples"))
    changed = cdslm_eval.score(clips, metrics=spec, store=store, jobs=1)
    assert changed.estimate("quiet").value == pytest.approx(0.75, abs=1e-3)
    assert len({r.estimate("quiet").identity for r in (result, other, changed)}) == 3


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (METRIC, "Quite", "no Metric 'Quite' in it. Did you mean 'Quiet'"),
        (METRIC.replace("class Quiet(", "class Quiet(("), "Quiet", "line 9: "),
        (METRIC + "\nraise ValueError('broken')\n", "Quiet", "line 20: ValueError: broken"),
        (METRIC.replace('name = "quiet"', 'name = "Quiet!"'), "Quiet", "line 9: Quiet: its name 'Quiet!' is not"),
        (METRIC + "\nclass Other(Quiet):\n    name = 'other'\n", "", "holds 2 subclasses of Metric; name one of Quiet"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, store, text, name, message):
    (tmp_path / "m.py").write_text(text)
    spec = f"{tmp_path / 'm.py'}{':' if name else ''}{name}"
    with pytest.raises(UsageError, match=r"m\.py") as caught:
        cdslm_eval.score({"a": noises(1, 0.1)}, metrics=spec, store=store)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ((np.zeros((2, 100)), RATE_HZ), "one channel"),
        ((np.full(100, 20_000.0), RATE_HZ), "full scale is 1"),
        ((np.zeros(100, np.int32), RATE_HZ), "16-bit integers"),
        ((np.zeros(100), 22_050.5), "whole numbers"),
        ((np.zeros(100), "fast"), "give Hz"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(array, message):
    with pytest.raises(UsageError, match=message):
        ClipSet.from_arrays([array])


def test_arrays_of_every_usual_kind_are_one_clip():
    wave = np.linspace(-0.5, 0.5, 100).astype(np.float32)
    whole = (wave * 32768).astype(np.int16)
    clips = ClipSet.from_arrays(
        [(wave, RATE_HZ), (wave[None], RATE_HZ), {"array": wave.astype(float), "sampling_rate": RATE_HZ}]
    )
    assert len({source.decoded.digest for source in clips.sources}) == 1
    assert np.array_equal(decode(ClipSet.from_arrays([(whole, RATE_HZ)]).sources[0]).samples, whole / 32768)


def test_systems_that_are_none_are_named(store):
    for systems, message in (
        ([], "no system"),
        ({"a": 3}, "a: int is no path"),
        ([noises(1, 0.1), noises(1, 0.2)], "named twice"),
    ):
        with pytest.raises(UsageError, match=message):
            cdslm_eval.score(systems, metrics="signal", store=store)


def test_results_are_kept_read_back_and_shown(tmp_path, store):
    sets = {"a<b>": noises(5, 0.1), "c_d": noises(5, 0.2, 1)}
    result = cdslm_eval.score(sets, metrics="signal", store=store, jobs=1)
    again = ScoreResult.load(result.save(tmp_path / "r.json"))
    assert again.as_json() == result.as_json()
    assert again.exemplars == result.exemplars
    (tmp_path / "plain.json").write_text(json.dumps(result.as_json()))
    assert ScoreResult.load(tmp_path / "plain.json").as_json() == result.as_json()
    assert "a&lt;b&gt;" in result._repr_html_()
    latex = result.to_latex(["level"])
    assert "c\\_d" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\toprule") == 1
    frame = result.to_pandas()
    assert set(frame["system"]) == set(sets)
    assert frame["value"].notna().sum() == sum(np.isfinite(e.value) for e in result.estimates)
    assert len(repr(result)) < 200
    for text, message in (
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"format": "x", "estimates": [], "settings": {}}', "format is 'x'"),
        ('{"estimates": [{"surprise": 1}], "settings": {}}', "surprise"),
        ('{"estimates": [{"system": 1}], "settings": {}}', "damaged or of another version"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            ScoreResult.load(tmp_path / "bad.json")


def test_a_comparison_of_arrays(tmp_path, store):
    result = cdslm_eval.compare({"soft": noises(8, 0.1)}, {"loud": noises(8, 0.3, 1)}, metrics=[Loudest], store=store)
    difference = result.difference("loudest")
    assert difference.high < 0
    assert result.title == "soft - loud (paired by key)"
    again = ComparisonResult.load(result.save(tmp_path / "c.json"))
    assert again == result
    assert "loudest" in result._repr_html_()
    assert r"\bottomrule" in result.to_latex()


def test_generators_by_spec_class_and_options(tmp_path, store):
    from cdslm_eval.builtin.generators.controls import NoiseGenerator

    text = tmp_path / "a, b.txt"
    text.write_text("The quick brown fox jumps over the lazy dog.\n")
    made = cdslm_eval.generate("speak", tmp_path / "out", options={"path": str(text)}, count=1, seconds=1)
    assert len(made) == 1
    with pytest.raises(UsageError, match="holds a finished set"):
        cdslm_eval.generate("speak", tmp_path / "out", options={"path": str(text)})
    result = cdslm_eval.score(
        {"by class": NoiseGenerator, "by spec": "noise"},
        metrics="signal",
        prompts=made,
        count=2,
        seconds=0.5,
        store=store,
    )
    assert result.estimate("duration", "by class").value == result.estimate("duration", "by spec").value


def test_the_command_line_names_systems_and_takes_files(tmp_path):
    import soundfile as sf

    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        sf.write(tmp_path / name / "a.wav", noises(1, 0.1)[0][0], RATE_HZ)
    (tmp_path / "my.py").write_text(METRIC)
    environment = {**os.environ, "CDSLM_EVAL_STORE": str(tmp_path / "s.cdslm"), "CDSLM_EVAL_PLUGINS": ""}

    def call(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cdslm_eval", *words],
            env=environment, capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    done = call("score", "first=x", "second=./y", "-m", "./my.py:Quiet", "--json", "-")
    assert {e["system"] for e in json.loads(done.stdout)["estimates"]} == {"first", "second"}
    assert r"\toprule" in call("score", "first=x", "-m", "./my.py", "--format", "latex").stdout
    assert json.loads(call("compare", "A=x", "B=y", "-m", "signal", "--json", "-").stdout)["a"] == "A"
    assert "no path after the name" in call("score", "first=", "-m", "signal", code=2).stderr
