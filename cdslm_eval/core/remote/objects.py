"""ObjectStore: reads objects by ranges through fsspec, several at once, within time limits."""

from __future__ import annotations

import functools
import hashlib
import io
import posixpath
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar, cast

from cdslm_eval.core.errors import UsageError
from cdslm_eval.core.remote.addresses import EXTRAS
from cdslm_eval.core.remote.failures import AbsentError, BeyondError, RemoteError, explained
from cdslm_eval.core.storage import Stamp, Storage

__all__ = ["THREADS", "ObjectFile", "ObjectStore"]

THREADS = 8
"""Requests of one process that are under way at once."""
WHOLE_BYTES = 16 << 20
"""Largest object that is read at once: with `THREADS` of them, the most that reading ahead holds in memory."""
_BLOCK, _STREAM_BLOCK = 1 << 16, 1 << 19
_CHANGED = "the object changed while it was read"
_LISTED = 20
"""Objects of one folder from which on listing it, a thousand a request, is quicker than asking for each."""
_VERSIONS = ("ETag", "etag", "blob_id", "generation", "xet_hash")
"""What stores call that which changes with an object."""
# one that does not answer costs 5 tries of these, which stays within the time limit of a clip
_S3_LIMITS = {"connect_timeout": 5, "read_timeout": 15, "retries": {"max_attempts": 1}}
_T = TypeVar("_T")


class ObjectStore(Storage):
    """Objects of one scheme. Credentials, endpoint and time limits are those of fsspec's own configuration.

    Args:
        scheme: "s3", "gs" or "hf".
    """

    def __init__(self, scheme: str) -> None:
        self._scheme, self._files = scheme, _filesystem(scheme)

    @classmethod
    def of(cls, scheme: str) -> ObjectStore:
        """Return the store of a scheme; one for each scheme and process.

        Raises:
            UsageError: The package that reads it is not installed.
        """
        return _store(scheme)

    def stamp(self, path: str) -> Stamp:
        """Return size and version of an object."""
        facts = self._ask(lambda: self._facts(self._name(path)))
        if facts.get("type") != "file":
            raise AbsentError("no such object")
        return self._stamp(facts)

    def _facts(self, name: str) -> Mapping[str, Any]:
        """Return what the store has on a name now, whatever was listed before."""
        return cast("Mapping[str, Any]", self._files.info(name, refresh=True))

    def _find(self, name: str, prefix: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what the store has now on each object below a name, by the names of them."""
        options = {"prefix": prefix} if prefix else {}
        return cast("Mapping[str, Mapping[str, Any]]", self._files.find(name, detail=True, **options))

    def _range(self, name: str, start: int, end: int) -> bytes:
        """Return bytes of the object at a name."""
        return bytes(self._files.cat_file(name, start=start, end=end))

    def _stamp(self, facts: Mapping[str, Any]) -> Stamp:
        large = facts.get("lfs") or {}
        version = next((str(facts[name]) for name in _VERSIONS if facts.get(name)), "")
        version = str(large["sha256"]) if large.get("sha256") else version or str(facts.get("LastModified") or "")
        # one without any version is decoded again each time
        number = int(hashlib.sha256(version.strip('"').encode()).hexdigest()[:15], 16) if version else time.time_ns()
        return Stamp(self._scheme, int(facts.get("size") or 0), 0, 0, number)

    def stamps(self, paths: Collection[str]) -> Iterator[tuple[str, Stamp]]:
        """Yield stamps: of many objects in one folder by listing it, of others by asking for several at once."""
        folders: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            folders[posixpath.dirname(path)].append(path)
        alone: list[str] = []
        for folder, members in folders.items():
            if len(members) < _LISTED:
                alone += members
                continue
            wanted = set(members)
            try:
                names = [posixpath.basename(path) for path in members]
                # a part of a large folder is listed alone
                listed = self.listed(folder, posixpath.commonprefix([min(names), max(names)]))
                yield from ((path, stamp) for path, stamp in listed if path in wanted)
            except RemoteError:
                continue
        with ThreadPoolExecutor(THREADS) as pool:
            for path, stamp in zip(alone, pool.map(self._stamp_or_none, alone), strict=True):
                if stamp is not None:
                    yield path, stamp

    def _stamp_or_none(self, path: str) -> Stamp | None:
        try:
            return self.stamp(path)
        except RemoteError:
            return None

    def listed(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stamp]]:
        """Yield the address and the stamp of each object below a folder, in no order.

        Args:
            folder: Its address.
            prefix: What names start with; others may come too.
        """
        listing = self._ask(lambda: self._find(self._name(folder), prefix))
        for name, facts in listing.items():
            yield f"{self._scheme}://{name}", self._stamp(facts)

    def open(self, path: str) -> BinaryIO:
        """Return a file that reads blocks of the object as they are requested."""
        return cast("BinaryIO", io.BufferedReader(ObjectFile(self, path), _BLOCK))

    def streamed(self, path: str) -> BinaryIO | None:
        """Return a file that keeps failures for `check_streamed`: decoders print those of what they call."""
        return cast("BinaryIO", io.BufferedReader(_StreamedObject(self, path), _STREAM_BLOCK))

    def read(self, path: str, start: int, length: int) -> bytes:
        """Return bytes of the object, by one request."""
        name = self._name(path)
        try:
            return self._ask(lambda: self._range(name, start, start + length))
        except BeyondError:
            return b""

    def content(self, path: str) -> bytes | None:
        """Return the object where it is up to 16 MiB."""
        return self.fetch(path)[1]

    def fetch(self, path: str) -> tuple[Stamp, bytes | None]:
        """Return the stamp of an object and its content, None where it is over 16 MiB."""
        stamp = self.stamp(path)
        return stamp, self._whole(path, stamp) if stamp.size <= WHOLE_BYTES else None

    def _whole(self, path: str, stamp: Stamp) -> bytes:
        """Return an object whose stamp is known.

        Raises:
            RemoteError: It is not of the size that the stamp has.
        """
        content = self.read(path, 0, stamp.size) if stamp.size else b""
        if len(content) != stamp.size:
            raise RemoteError(_CHANGED)
        return content

    def version(self, path: str) -> str:
        """Return the number of the object's version."""
        return self.stamp(path).version

    def is_folder(self, path: str) -> bool:
        """Return whether there are objects below a path, rather than one at it."""
        return bool(self._ask(lambda: self._facts(self._name(path))).get("type") == "directory")

    def texts(self, paths: Iterable[str], most_bytes: int) -> Iterator[bytes | RemoteError]:
        """Yield small objects in order, several requests at once; the error in place of one that cannot be read.

        Args:
            paths: Their addresses.
            most_bytes: What is read of each.
        """

        def text(path: str) -> bytes | RemoteError:
            try:
                return self.read(path, 0, most_bytes)
            except RemoteError as error:
                return error

        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(text, paths)

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self._scheme}://")

    def _ask(self, request: Callable[[], _T]) -> _T:
        try:
            return request()
        except RemoteError:
            raise
        except Exception as error:  # noqa: BLE001 - four libraries, each with errors of its own
            # the error itself may hold an address with a signature in it, and a traceback would print that
            raise explained(error) from None


@functools.cache
def _store(scheme: str) -> ObjectStore:
    return {"s3": S3Store, "hf": HubStore}.get(scheme, ObjectStore)(scheme)


def _filesystem(scheme: str) -> Any:
    install = f"{scheme}:// needs {EXTRAS[scheme]}; pip install 'cdslm-eval[{scheme}]'"
    try:
        import fsspec
        from fsspec.config import conf
    except ImportError as error:
        raise UsageError(install) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3" and "config_kwargs" not in conf.get("s3", {}):
        options["config_kwargs"] = dict(_S3_LIMITS)
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise UsageError(install) from error
    except Exception as error:  # noqa: BLE001 - as in `_ask`
        raise UsageError(f"{scheme}://: {explained(error)}") from None


class S3Store(ObjectStore):
    """Objects of S3, whose answers name the version of what they hold: one request for stamp and content."""

    def read_stamped(self, path: str, start: int, length: int) -> tuple[bytes, Stamp]:
        """Return bytes of an object and the stamp of what they are from, by one request."""
        try:
            facts, content = self._ask(lambda: self._answered(path, start, length))
        except AbsentError:
            raise
        except RemoteError:
            return super().read_stamped(path, start, length)
        return content, self._stamp(facts)

    def fetch(self, path: str) -> tuple[Stamp, bytes | None]:
        """Return the stamp of an object and its content, by one request where it is not empty."""
        try:
            facts, content = self._ask(lambda: self._answered(path, 0, WHOLE_BYTES))
        except AbsentError:
            raise
        except RemoteError:
            # s3fs tries several times what goes by its own functions
            return super().fetch(path)
        stamp = self._stamp(facts)
        return stamp, content if len(content) == stamp.size else None

    def _answered(self, path: str, start: int, length: int) -> tuple[dict[str, Any], bytes]:
        """Return the facts of an object and bytes of it."""
        from fsspec.asyn import sync

        bucket, key, _ = self._files.split_path(self._name(path))

        async def get() -> tuple[dict[str, Any], bytes]:
            """Request the range, and return its facts and bytes."""
            wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{start + length - 1}"}
            answer = await self._files._call_s3("get_object", **wanted)  # noqa: SLF001 - what its own reading calls
            try:
                content = await answer["Body"].read()
            finally:
                answer["Body"].close()
            size = answer.get("ContentRange", "").rpartition("/")[2] or len(content)
            return {"ETag": answer.get("ETag", ""), "size": size}, content

        return cast("tuple[dict[str, Any], bytes]", sync(self._files.loop, get))


class HubStore(ObjectStore):
    """Repositories of the Hugging Face Hub, whose file system answers from its last listings, and without versions."""

    def _facts(self, name: str) -> Mapping[str, Any]:
        resolved = self._files.resolve_path(name)
        if not getattr(resolved, "path_in_repo", ""):  # a repository, or a bucket
            return super()._facts(name)
        # `info` leaves out the version of a file, and lists its whole folder first
        entries = self._files._api.get_paths_info(  # noqa: SLF001 - with the token and the endpoint of its own requests
            resolved.repo_id, resolved.path_in_repo, revision=resolved.revision, repo_type=resolved.repo_type
        )
        if not entries:
            raise AbsentError("no such object")
        facts = vars(entries[0])
        return {**facts, "type": "file" if "blob_id" in facts else "directory"}

    def _find(self, name: str, prefix: str) -> Mapping[str, Mapping[str, Any]]:
        del prefix  # it has no such choice
        return cast("Mapping[str, Mapping[str, Any]]", self._files.find(name, detail=True, refresh=True))

    def _range(self, name: str, start: int, end: int) -> bytes:
        # a size of its own, else that of an old listing; and nothing read ahead, which nobody would use
        return bytes(self._files.cat_file(name, start=start, end=end, size=end, cache_type="none"))


class ObjectFile(io.RawIOBase):
    """An object as a file that can be sought.

    Each range is of the version that was opened, else reading fails: pieces of two recordings are none.

    Args:
        store: Reads it.
        path: Its address.

    Attributes:
        stamp: Of the object when it was opened.
    """

    def __init__(self, store: ObjectStore, path: str) -> None:
        super().__init__()
        self._store, self._path, self._position = store, path, 0
        self.stamp = store.stamp(path)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which reads nothing."""
        self._position = max(0, offset + (0, self._position, self.stamp.size)[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer by one request; return the number of bytes, 0 at the end."""
        length = min(len(buffer), self.stamp.size - self._position)
        if length <= 0:
            return 0
        content, stamp = self._store.read_stamped(self._path, self._position, length)
        if stamp != self.stamp or len(content) != length:
            raise RemoteError(_CHANGED)
        buffer[:length] = content
        self._position += length
        return length


class _StreamedObject(ObjectFile):
    """An object whose failures end it, and are kept.

    Attributes:
        problem: Why it ended early, or "".
    """

    problem = ""

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return 0 where that fails, or failed before."""
        try:
            return 0 if self.problem else super().readinto(buffer)
        except RemoteError as error:
            self.problem = str(error)
            return 0
