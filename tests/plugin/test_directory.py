"""The directory lists what is installed, a GPU that is needed is reported before use, and hostile text stays a cell."""

from __future__ import annotations

import re

import pytest

from cdslm_eval import Mean, Metric
from cdslm_eval.core.gpu import has_gpu
from cdslm_eval.plugin import directory
from cdslm_eval.plugin.catalogue import OWN_PLUGINS
from cdslm_eval.plugin.host import Host


class OnGpu(Metric):
    """A metric that is unusable on a processor."""

    name = "on-gpu"
    needs_gpu = True
    statistics = {"x": Mean("x")}  # noqa: RUF012 - as plugins write it

    def measure(self, clips):
        for _ in clips:
            yield {"x": 1.0}


def test_the_directory_has_every_component_of_every_installed_plugin_and_nothing_else():
    host = Host()
    rows = {line.split(" ")[1]: line for line in directory.plugin_directory(host).splitlines()[2:]}
    installed = {
        registered.owner.distribution for kind in directory.KINDS for registered in host.registered(kind).values()
    }
    assert set(rows) == installed - {"cdslm-eval"}
    for owner, provides in OWN_PLUGINS.items():
        names = re.findall(r"(?:metric|recognizer|transcriber|generator|executor|law) `([^`]+)`", rows.get(owner, ""))
        assert owner not in rows or set(names) == {name for group in provides.values() for name in group}
    assert len({line.replace("\\|", "").count("|") for line in rows.values()} | {7}) == 1


def test_text_of_a_third_party_makes_no_cell_and_no_markup(monkeypatch):
    monkeypatch.setattr(directory, "_declared", lambda *_: "a | b\n<script>`")
    for line in directory.plugin_directory(Host()).splitlines()[2:]:
        assert line.replace("\\|", "").count("|") == 7
        assert "<script>" not in line


@pytest.mark.parametrize(("devices", "hidden", "there"), [
    ((), None, False), (("nvidia0", "nvidiactl"), None, True), (("nvidiactl",), None, False), (("kfd",), None, True),
    (("nvidia0",), "", False), (("nvidia0",), "-1", False), (("nvidia0",), "0", True),
])  # fmt: skip
def test_a_gpu_is_known_by_its_device_file_and_can_be_hidden(devices, hidden, there, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Linux")
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    for name in devices:
        (tmp_path / name).touch()
    assert has_gpu(tmp_path) is there


def test_what_needs_a_gpu_is_refused_where_there_is_none(monkeypatch):
    import cdslm_eval

    monkeypatch.setattr("cdslm_eval.plugin.component.has_gpu", lambda: False)
    assert "needs a GPU" in OnGpu.missing()
    with pytest.raises(cdslm_eval.UsageError, match="'on-gpu' cannot be used here: needs a GPU"):
        Host().resolve("metric", OnGpu)
    monkeypatch.setattr("cdslm_eval.plugin.component.has_gpu", lambda: True)
    assert OnGpu.missing() is None


def test_listings_show_what_needs_a_gpu(monkeypatch):
    import json

    from typer.testing import CliRunner

    from cdslm_eval.cli import app

    host = Host()
    host._register(host.plugins[0], "metric", OnGpu)
    monkeypatch.setattr("cdslm_eval.plugin.host.Host", lambda *_, **__: host)
    monkeypatch.setattr("cdslm_eval.plugin.component.has_gpu", lambda: False)
    listed = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["metrics", "--json"]).output)}
    assert listed["on-gpu"]["needs_gpu"] is True
    assert listed["on-gpu"]["usable"] is False
    assert "needs audio + a GPU" in CliRunner().invoke(app, ["metrics"]).output
    doctor = {row["what"]: row for row in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)}
    assert doctor["metric on-gpu"]["state"] == "missing"
    assert "GPU" in doctor
