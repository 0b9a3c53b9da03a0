"""Objects of the Hugging Face Hub: what is replaced in a long-lived process is seen, and read at its own size."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("fsspec")
from cdslm_eval.core.remote import objects  # noqa: E402 - after the packages that it needs
from cdslm_eval.core.remote.failures import AbsentError  # noqa: E402

FOLDER = "hf://datasets/owner/set/wav"


@pytest.fixture
def contents(monkeypatch):
    """Return the files of a repository by path, which the Hub's own client answers from."""
    from huggingface_hub import hf_file_system
    from huggingface_hub.errors import HfHubHTTPError

    files: dict[str, bytes] = {}

    def entry(path):
        # as git numbers its objects
        oid = hashlib.sha1(b"blob %d\0" % len(files[path]) + files[path]).hexdigest()
        return hub.hf_api.RepoFile(path=path, size=len(files[path]), oid=oid)

    def get_paths_info(api, repo_id, paths, **_):
        return [entry(path) for path in ([paths] if isinstance(paths, str) else paths) if path in files]

    def read(file, start, end):
        content = files[file.resolved_path.path_in_repo][start:end]
        if not content:
            answer = SimpleNamespace(status_code=416, headers={}, request=None)
            raise HfHubHTTPError("of the library", response=answer)
        return content

    monkeypatch.setattr(hub.HfApi, "list_repo_tree", lambda *_, **__: map(entry, sorted(files)))
    monkeypatch.setattr(hub.HfApi, "get_paths_info", get_paths_info)
    monkeypatch.setattr(hub.HfApi, "repo_info", lambda *_, **__: SimpleNamespace(sha="0" * 40))
    monkeypatch.setattr(hf_file_system.HfFileSystemFile, "_fetch_range", read)
    objects._store.cache_clear()
    yield files
    objects._store.cache_clear()


@pytest.fixture
def store(contents):
    store = objects.ObjectStore.of("hf")
    store._files.max_workers = 1  # else several threads list folders, by requests of other functions
    return store


def test_a_file_has_one_stamp_until_it_is_replaced(contents, store):
    paths = [f"{FOLDER}/{number:02d}.flac" for number in range(objects._LISTED)]
    contents.update({f"wav/{number:02d}.flac": bytes([number]) for number in range(objects._LISTED)})
    first = dict(store.stamps(paths))
    assert first == {path: store.stamp(path) for path in paths}
    contents["wav/03.flac"] = b"!"
    second = dict(store.stamps(paths))
    assert {path for path in paths if first[path] != second[path]} == {paths[3]}
    assert store.stamp(paths[3]) == second[paths[3]]
    with pytest.raises(AbsentError):
        store.stamp(f"{FOLDER}/none.flac")


def test_a_replaced_file_is_read_whole_and_none_as_pieces_of_two(contents, store, monkeypatch):
    path = f"{FOLDER}/a.flac"
    contents["wav/a.flac"] = b"short"
    assert [stamp.size for _, stamp in store.listed(FOLDER)] == [5]
    contents["wav/a.flac"] = b"longer than it was"
    assert store.fetch(path)[1] == b"longer than it was"
    assert store.read(path, 100, 5) == b""
    with store.open(path) as file:
        contents["wav/a.flac"] = b"LONGER THAN IT WAS"
        with pytest.raises(OSError, match="changed while it was read"):
            file.read()
