"""Addresses of objects: which texts are one, and that none carries a credential."""

from __future__ import annotations

import posixpath
import re

from cdslm_eval.core.errors import UsageError

__all__ = ["EXTRAS", "check_address", "has_scheme", "is_remote", "joined"]

EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
"""Scheme -> the package that reads it, which the extra of the same name installs."""
_REMOTE = re.compile(rf"({'|'.join(EXTRAS)})://")
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(path: object) -> bool:
    """Return whether a path is the address of an object rather than that of a file.

    Example:
        >>> is_remote("s3://bucket/a.wav"), is_remote("/data/s3/a.wav")
        (True, False)
    """
    return isinstance(path, str) and _REMOTE.match(path) is not None


def has_scheme(text: str) -> bool:
    """Return whether a text starts as a URL of any kind."""
    return "://" in text and _ANY_SCHEME.match(text) is not None


def check_address(text: str) -> str:
    """Return an address that somebody wrote, without a slash at its end.

    Addresses are stored, printed and sent to workers, so that none may carry a user's name, a key or a signature.

    Raises:
        UsageError: It has any of these, names no bucket, or is of another scheme; the message leaves them out.

    Example:
        >>> check_address("s3://bucket/speech/")
        's3://bucket/speech'
    """
    scheme, _, rest = text.partition("://")
    # before it is split: a signature may have slashes, as a key in front of an '@' may
    plain, query, _ = rest.partition("?")
    bucket = plain.partition("/")[0]
    # a revision, such as that of hf://datasets/OWNER/NAME@REVISION, is never in the first part
    has_user = "@" in bucket or (":" in bucket and "@" in rest)
    # what may be a name, a key or a port is not printed, nor what stands before an '@' of any kind
    shown = f"{scheme}://{plain}" if bucket and not {"@", ":"} & set(bucket) and "@" not in rest else f"{scheme}://..."
    if has_user:
        raise UsageError(
            f"{shown}: a name or a key before '@'; leave it out and set the credentials in the environment"
        )
    if query:
        raise UsageError(f"{shown}: a query after '?', which may be a signature; leave it out")
    if not is_remote(text):
        raise UsageError(f"{shown}: objects are read from {', '.join(f'{name}://' for name in EXTRAS)}; copy it there")
    if not bucket:
        raise UsageError(f"{shown}: no bucket; write {scheme}://BUCKET/PATH")
    return text.rstrip("/")


def joined(folder: str, path: str) -> str:
    """Return where a path of a manifest lies that is in a folder of objects.

    Raises:
        ValueError: It leads out of the bucket, or is an address that carries a credential.

    Example:
        >>> joined("s3://bucket/lists", "../wav/a.wav"), joined("s3://bucket/lists", "s3://other/a.wav")
        ('s3://bucket/wav/a.wav', 's3://other/a.wav')
    """
    if has_scheme(path):
        try:
            return check_address(path)
        except UsageError as error:
            raise ValueError(str(error)) from None
    scheme, _, rest = folder.partition("://")
    bucket, _, prefix = rest.partition("/")
    key = posixpath.normpath(posixpath.join(prefix, path.lstrip("/") if path.startswith("/") else path))
    if path.startswith("/") or key.startswith(".."):
        raise ValueError(f"the path {path!r} leads out of the folder's bucket; write it in full, or relative")
    return f"{scheme}://{bucket}/{key}"
