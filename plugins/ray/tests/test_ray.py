"""The executor `ray` on a real cluster of two nodes: equal to `local`, also when a node is killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ray = pytest.importorskip("ray")

import cdslm_eval_ray.crew as crew_module  # noqa: E402
import cdslm_eval_ray.executor as executor_module  # noqa: E402
import hostile_metrics as hostile  # noqa: E402
from cdslm_eval_ray.actor import Report  # noqa: E402
from cdslm_eval_ray.crew import Crew  # noqa: E402
from cdslm_eval_ray.executor import RayExecutor, RayOptions  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from cdslm_eval import api  # noqa: E402
from cdslm_eval.builtin.metrics.signal import Signal  # noqa: E402
from cdslm_eval.builtin.recognizers.sidecar import SidecarRecognizer  # noqa: E402
from cdslm_eval.core.clips import ClipSet  # noqa: E402
from cdslm_eval.core.errors import EvalError, UsageError  # noqa: E402
from cdslm_eval.core.store import Outcome, Store  # noqa: E402
from cdslm_eval.plugin.execution import Finished, Produced, Task  # noqa: E402
from cdslm_eval.plugin.host import Host  # noqa: E402
from cdslm_eval.run import Request, Runner  # noqa: E402
from cdslm_eval.run.executors.local import LocalExecutor  # noqa: E402
from cdslm_eval.run.worker import Worker  # noqa: E402

# Ray leaves sockets and files of its own to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster():
    """Start a head and a second node with one CPU each; nodes import the test metrics by path."""
    paths = [str(Path(hostile.__file__).parent), os.environ.get("PYTHONPATH", "")]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def driver_on_head(cluster):
    """Connect while there is the head alone: Ray takes any node of this address, and a driver dies with its node."""
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def second_node(cluster):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)


def outcomes(path, executor, folder, *metrics, progress=None, limit=20.0):
    with Store(path) as store:
        runner = Runner(store, executor, SidecarRecognizer(), jobs=2, time_limit_s=limit)
        (measured,) = runner.run([Request(ClipSet.open(folder), metrics)], progress)
        return [list(measured.outcomes(metric)) for metric in metrics]


def test_two_nodes_equal_one_machine_with_crashes_hangs_and_errors(cluster, second_node, tmp_path, tone_set):
    folder = tone_set("t", 6)
    metrics = (Signal(), hostile.Dies(), hostile.Raises(), hostile.Hangs())
    executor = RayExecutor(RayOptions(address=cluster.address))
    distributed = outcomes(tmp_path / "ray", executor, folder, *metrics, limit=2.0)
    local = outcomes(tmp_path / "local", LocalExecutor(), folder, *metrics, limit=2.0)
    assert distributed == local
    assert [outcome.status for outcome in distributed[1]] == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert "exit code 7" in distributed[1][2].reason


def test_the_clips_of_a_killed_node_are_measured_on_another(cluster, driver_on_head, second_node, tmp_path, tone_set):
    folder = tone_set("t", 24)
    killed, places = [], []

    def kill_once(done, total):
        places.append(executor.where())
        if done >= 4 and not killed:
            killed.append(second_node)
            cluster.remove_node(second_node, allow_graceful=False)

    executor = RayExecutor(RayOptions(address=cluster.address))
    (rows,) = outcomes(tmp_path / "ray", executor, folder, hostile.Slow(), progress=kill_once)
    assert killed
    assert places[-1] == "1 node, 1 worker"
    sums = [float(np.sum(clip.samples, dtype=np.float64)) for clip in ClipSet.open(folder)]
    assert rows == [Outcome("ok", "", {"x": value}) for value in sums]


def test_a_killed_and_an_interrupted_command_go_on_where_they_stopped(cluster, tmp_path, tone_set):
    folder, store, metric = tone_set("t", 40), tmp_path / "s.cdslm", f"{hostile.__file__}:Slow"
    options = {"store": store, "executor": f"ray:address={cluster.address}"}
    words = [sys.executable, "-m", "cdslm_eval", "score", str(folder), "-m", metric]
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    rows = 0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
            while stored(store) < rows + 3:
                assert driver.poll() is None, driver.stdout.read()
                time.sleep(0.05)
            driver.send_signal(number)
            assert driver.wait(30) == code
        rows = stored(store)
    calls = []
    result = api.score(folder, metrics=metric, progress=lambda done, total: calls.append((done, total)), **options)
    assert calls[-1] == (40 - rows, 40 - rows)
    assert rows >= 6
    assert stored(store) == 40
    sums = [np.sum(clip.samples, dtype=np.float64) for clip in ClipSet.open(folder)]
    assert result.estimate("x").value == pytest.approx(np.mean(sums), rel=1e-12)


def stored(path):
    """Return how many rows a store holds now; none before it is made."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM rows").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_two_nodes_generate_the_files_of_this_process(cluster, second_node, tmp_path, tone_set):
    arguments = {"prompts": tone_set("real", 3), "count": 9, "seconds": 0.5, "seed": 3}
    api.generate("noise", tmp_path / "here", **arguments)
    api.generate("noise", tmp_path / "there", **arguments, executor=RayExecutor(RayOptions(address=cluster.address)))
    written, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("there", "here")
    )
    assert written == expected
    assert len(expected) == 9 + 2


def test_a_node_that_is_lost_after_the_last_event_of_a_task_repeats_nothing():
    """The end of the call had not arrived: the task was sent to another actor, and ended twice."""

    class Ray:
        exceptions = ray.exceptions

        def wait(self, calls, num_returns, timeout):
            return calls[:1], []

        def get(self, reference):
            if isinstance(reference, Exception):
                raise reference
            return reference

    class Actor:
        class run:  # noqa: N801 - Ray's own spelling of a remote method
            @staticmethod
            def options(num_returns):
                lost = ray.exceptions.ActorDiedError()
                events = {1: [[Produced(1, "a")], [Finished(1)], lost], 2: [[Produced(2, "b"), Finished(2)]]}
                return SimpleNamespace(remote=lambda ident, payload, seconds: iter(events[ident]))

    class Crew:
        def __init__(self):
            self.free, self.actors, self.starting = [Actor()], [Actor()], {}

        def capacity(self):
            return 1

        def drop(self, actor):
            self.free.append(Actor())  # the one that takes its place

    tasks = iter([Task(1, None), Task(2, None)])
    loop = executor_module._Loop(Ray(), Crew(), lambda: next(tasks, None))
    assert list(loop.events()) == [Produced(1, "a"), Finished(1), Produced(2, "b"), Finished(2)]


def test_progress_counts_each_node_and_each_shared_gpu_once():
    crew = Crew.__new__(Crew)
    gpus_of = {"a0": ("n0", ("0",)), "a1": ("n0", ("0",)), "a2": ("n0", ("1",)), "a3": ("n1", ("0",))}
    crew.reports = {actor: Report("", {}, "host", node, gpus) for actor, (node, gpus) in gpus_of.items()}
    assert crew.where() == "2 nodes, 4 workers, 3 GPUs"
    crew.reports = {"a0": Report("", {}, "host", "n0", ())}
    assert crew.where() == "1 node, 1 worker"


def test_a_distribution_that_a_node_lacks_is_named(cluster, tmp_path, tone_set, monkeypatch):
    # the nodes here share this machine's packages, so the driver is the one that claims to have more
    here = crew_module.installed_versions
    monkeypatch.setattr(crew_module, "installed_versions", lambda names: {**here(names), "cdslm-eval-x": "3.1"})
    executor = RayExecutor(RayOptions(address=cluster.address))
    with pytest.raises(EvalError, match=r"other versions: cdslm-eval-x 3\.1 here, not installed there"):
        outcomes(tmp_path / "ray", executor, tone_set("t", 2), Signal())


def test_versions_of_all_plugins_are_compared_whatever_their_names():
    compared = crew_module._compared()
    assert compared[0] == "ray"
    # its test plugin is named otherwise than `cdslm-eval-...`
    named = {entry.dist.name for entry in entry_points(group="cdslm_eval") if entry.dist}
    assert named | {"cdslm-eval", "cdslm-eval-ray"} <= set(compared)


def test_a_measurer_of_another_version_is_named():
    worker = Worker((Signal(),), "cpu", versions=(f"{Signal.version}0",))
    assert worker.problem() == f"signal: is version {Signal.version} there, and {Signal.version}0 here"
    assert Worker((Signal(),), "cpu", versions=(Signal.version,)).problem() == ""


def test_a_node_without_the_weights_is_named_before_anything_is_measured(cluster, tmp_path, tone_set):
    # a file that is there for the machine that starts the run alone stands for a disk that the node does not mount
    executor = RayExecutor(RayOptions(address=cluster.address))
    message = rf"the node {socket.gethostname()} \(.*\) of the Ray cluster cannot measure: weighted: .* has no weights"
    with pytest.raises(EvalError, match=message):
        outcomes(tmp_path / "ray", executor, tone_set("t", 2), hostile.Weighted())


def test_a_worker_larger_than_every_node_is_refused(cluster):
    with pytest.raises(UsageError, match="no node of the Ray cluster has 64 CPUs"):
        list(RayExecutor(RayOptions(address=cluster.address, cpus=64)).run(None, lambda: None, 1))


def test_no_cluster_at_the_address_is_a_sentence():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    fix = "Start one: ray start --head"
    with pytest.raises(UsageError, match=f"no Ray cluster answers at '{address}'. {fix}"):
        list(RayExecutor(RayOptions(address=address)).run(None, lambda: None, 1))


def test_the_executor_is_registered():
    executor = Host().make("executor", "ray:address=local,cpus=0.5,workers=3")
    assert executor.options == RayOptions(address="local", cpus=0.5, workers=3)
