"""Errors of object stores as one sentence, without what their libraries print: addresses, headers, signatures."""

from __future__ import annotations

import errno

__all__ = ["AbsentError", "BeyondError", "RemoteError", "explained"]

_ABSENT, _BEYOND = "no such object", "the object ends before"
_BEYOND_STATUS = 416
_SENTENCES = (
    (
        {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "LocalTokenNotFoundError"},
        "no credentials for the object store; set them in the environment, or ask for anonymous access",
    ),
    (
        {
            "PermissionError", "RefreshError", "GatedRepoError", "TokenRetrievalError", "UnauthorizedSSOTokenError",
            "CredentialRetrievalError", "ProfileNotFound",
        },
        "the object store refuses access; check the credentials and their rights",
    ),
    ({"NoSuchBucket", "RepositoryNotFoundError", "RevisionNotFoundError"}, "no such bucket or repository"),
    ({"FileNotFoundError", "EntryNotFoundError"}, _ABSENT),
    ({"InvalidRange"}, _BEYOND),
    (
        {"ConnectTimeoutError", "ReadTimeoutError", "FSTimeoutError", "TimeoutError", "ConnectTimeout", "ReadTimeout"},
        "the object store does not answer in time",
    ),
    (
        {"EndpointConnectionError", "ClientConnectorError", "HTTPClientError", "ConnectionError", "ConnectError"},
        "the object store cannot be reached",
    ),
)  # fmt: skip


class RemoteError(OSError):
    """An object cannot be read.

    Args:
        sentence: Why, without its address.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EIO, sentence)

    def __str__(self) -> str:
        return str(self.strerror)


class AbsentError(RemoteError):
    """There is no such object."""


class BeyondError(RemoteError):
    """A range starts after the end of its object."""


_KINDS = {_ABSENT: AbsentError, _BEYOND: BeyondError}


def explained(error: BaseException) -> RemoteError:
    """Return what an error of a library means, by the names of its classes: none of the libraries need be installed."""
    names: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        names |= {kind.__name__ for kind in type(cause).__mro__}
        # botocore has one class for all answers, with a code in it
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            names.add(str(response.get("Error", {}).get("Code", "")))
        elif getattr(response, "status_code", None) == _BEYOND_STATUS:  # of the Hub's library
            names.add("InvalidRange")
        cause = cause.__cause__ or cause.__context__
    for kinds, sentence in _SENTENCES:
        if kinds & names:
            return _KINDS.get(sentence, RemoteError)(sentence)
    return RemoteError(f"the object store reports {type(error).__name__}")
