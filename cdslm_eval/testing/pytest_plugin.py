"""pytest plugin: `pytest --cdslm-suite SUITE.toml` makes each gate a test item; `score` is a fixture for your tests.

Nothing of the package is imported before a gate or the fixture is used, so that it costs other projects nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cdslm_eval.results.score_result import ScoreResult
    from cdslm_eval.results.suite_result import SuiteResult
    from cdslm_eval.suite.plan import Plan, PlannedGate

_MARK = "cdslm"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("cdslm-eval", "speech scores")
    group.addoption("--cdslm-suite", metavar="SUITE.toml", help="Judge every gate of this suite as a test item.")
    group.addoption("--cdslm-store", metavar="FILE", help="File of rows; default: one store per user.")
    group.addoption("--cdslm-against", metavar="NAME", help="Recorded run to compare with.")
    group.addoption("--cdslm-jobs", metavar="N", type=int, default=0, help="Worker processes; 0: one per processor.")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and add the suite to the files that are collected."""
    config.addinivalue_line("markers", f"{_MARK}: a gate of a cdslm-eval suite")
    suite = config.getoption("cdslm_suite")
    if suite:
        path = (config.invocation_params.dir / suite).resolve()
        if not path.is_file():
            raise pytest.UsageError(f"--cdslm-suite {suite}: no such file")
        config.args = [name for name in config.args if Path(name).resolve() != path] + [str(path)]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the gates of the suite that was named."""
    suite = parent.config.getoption("cdslm_suite")
    if not suite or file_path != (parent.config.invocation_params.dir / suite).resolve():
        return None
    return SuiteFile.from_parent(parent, path=file_path)


class SuiteFile(pytest.File):
    """A suite; it is run once, when its first gate is."""

    _plan: Plan | None = None
    _result: SuiteResult | None = None

    def collect(self) -> Iterator[GateItem]:
        """Check the suite and yield its gates."""
        from cdslm_eval.core.errors import EvalError
        from cdslm_eval.plugin.host import Host
        from cdslm_eval.suite import load_suite, make_plan

        try:
            recorded = bool(self.config.getoption("cdslm_against"))
            self._plan = make_plan(load_suite(self.path), Host(), recorded=recorded)
        except EvalError as error:
            raise self.CollectError(str(error)) from error
        for number, planned in enumerate(self._plan.gates):
            name = f"{planned.system}: {planned.title}"
            item: GateItem = GateItem.from_parent(self, name=name, number=number, planned=planned)
            item.add_marker(_MARK)
            # with several workers, one of them runs the suite; without xdist the marker is unknown, and a strict
            # project refuses unknown markers
            if self.config.pluginmanager.hasplugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(_MARK))
            yield item

    def result(self) -> SuiteResult:
        """Run the suite, once."""
        from cdslm_eval.suite import RunOptions, run_suite
        from cdslm_eval.suite.recording import find_record, records_folder

        if self._result is None:
            assert self._plan is not None  # gates are collected before they run
            store, against = _store(self.config), self.config.getoption("cdslm_against")
            record = find_record(against, records_folder(store)) if against else None
            self._result = run_suite(self._plan, RunOptions(store=store, jobs=_jobs(self.config), against=record))
        return self._result


class GateFailedError(Exception):
    """A gate that does not hold; its message needs no traceback."""


class GateItem(pytest.Item):
    """One gate for one system."""

    def __init__(self, *, number: int, planned: PlannedGate, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._number, self._planned = number, planned

    def runtest(self) -> None:
        """Judge the gate."""
        suite = self.parent
        assert isinstance(suite, SuiteFile)  # nothing else yields gates
        judgement = suite.result().judgements[self._number]
        if not judgement.passed:
            raise GateFailedError(judgement.sentence)
        if judgement.status == "undecided":
            pytest.skip(judgement.sentence)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what was measured, without a traceback."""
        from cdslm_eval.core.errors import EvalError

        if isinstance(excinfo.value, GateFailedError | EvalError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the name of the gate for reports."""
        return self.path, None, self.name


def _store(config: pytest.Config) -> Path:
    from cdslm_eval.core.store import default_store_path

    path = config.getoption("cdslm_store")
    return Path(path) if path else default_store_path()


def _jobs(config: pytest.Config) -> int:
    import os

    return int(config.getoption("cdslm_jobs")) or os.cpu_count() or 1


@pytest.fixture(scope="session")
def score(request: pytest.FixtureRequest) -> Callable[..., ScoreResult]:
    """Return a function that scores directories: `score("samples", reference="real", metrics="pjsd,signal")`.

    The result has `estimate(name, system)`; rows are cached in the store, so that a second call is fast.
    """
    from cdslm_eval.core import defaults

    config = request.config

    def run(
        *paths: str | Path,
        reference: str | Path | None = None,
        metrics: str = ",".join(defaults.METRICS),
        recognizer: str = defaults.RECOGNIZER,
        seed: int = 0,
    ) -> ScoreResult:
        """Score directories or manifests."""
        from cdslm_eval import api

        return api.score(
            [str(path) for path in paths],
            reference,
            metrics,
            recognizer=recognizer,
            store=_store(config),
            jobs=_jobs(config),
            seed=seed,
        )

    return run
