"""What every component of a plugin shares: a name, a version, options, an identity. Import it from `contract`."""

from __future__ import annotations

import importlib.util
from abc import ABC
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from cdslm_eval.core.citation import Citation
from cdslm_eval.core.gpu import has_gpu

__all__ = ["Component", "NoOptions", "Options", "located", "text_file", "text_files"]

_READS_TEXT = "reads_text"


class Options(BaseModel):
    """Base class of a component's options: unknown names are refused; values but `located` ones are in the identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def located(default: Any = ...) -> Any:
    """Declare an option that locates files: a folder, a name on a hub, a revision, a digest to insist on.

    It is no part of the identity, in which `fingerprint` puts the digests of the files: the same weights are the same
    metric wherever they lie.

    Args:
        default: Its default; without one it must be given.
    """
    return Field(default, exclude=True)


def text_file(default: Any = ...) -> Any:
    """Declare an option that names a file whose text is read: a suite may name files below its own folder only.

    Args:
        default: Its default; without one it must be given.
    """
    return Field(default, json_schema_extra={_READS_TEXT: True})


def text_files(options: Options) -> dict[str, str]:
    """Return the options that name files of text, with their values."""
    named = {
        name: getattr(options, name)
        for name, field in type(options).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get(_READS_TEXT)
    }
    return {name: str(value) for name, value in named.items() if value is not None}


class NoOptions(Options):
    """No options."""


class Component(ABC):
    """What metrics, recognizers, generators and executors share: a name, a version, options, an identity.

    Attributes:
        name: How users call it; lower case, letters, digits, "_" and "-".
        version: Bumped by every change that can move a number.
        licence: SPDX name of the licence of its code where it is not the distribution's.
        weights_licence: SPDX name of the licence of the weights that it loads; empty where it loads none.
        attribution: Whom to name for the weights; shown before they are used, with their licence.
        citation: Papers and programs to cite with its numbers; `cdslm-eval cite NAME` prints them as BibTeX.
        needs_gpu: Whether it is unusable without a GPU: `missing` reports it where there is none.
        requires: Importable modules it needs beyond the default install -> the pip requirement that provides each.
        positional: The option that a bare value sets, as "2" does in "babble:2".
        Options: A pydantic model of the options.
        code: Digest of the code, set by the host where no plugin registered the class; part of the identity.
    """

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = ""
    weights_licence: ClassVar[str] = ""
    attribution: ClassVar[str] = ""
    citation: ClassVar[tuple[Citation, ...]] = ()
    needs_gpu: ClassVar[bool] = False
    requires: ClassVar[Mapping[str, str]] = {}
    positional: ClassVar[str | None] = None
    Options: ClassVar[type[BaseModel]] = NoOptions
    code: str = ""

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @classmethod
    def missing(cls) -> str | None:
        """Return what prevents its use here and the fix, or None; imports nothing heavy."""
        # several modules may come with one requirement, such as an extra
        absent = dict.fromkeys(
            requirement for module, requirement in cls.requires.items() if importlib.util.find_spec(module) is None
        )
        if absent:
            return f"needs pip install {' '.join(f'{name!r}' for name in absent)}"
        return "needs a GPU, and there is none that this process may use" if cls.needs_gpu and not has_gpu() else None

    @classmethod
    def fetches(cls) -> str | None:
        """Return what its first use with default options would download, or None where it works offline as it is.

        Looks at the disk as it is now (a cache that is filled needs no network); imports nothing heavy.
        """
        return None

    def fingerprint(self) -> Mapping[str, str]:
        """Return further facts that can move a number: digest of the weights, version of the engine.

        Whatever an option that is `located` points at must be in it by content.
        """
        return {}

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """Hold what is costly to load (a model), once per worker process; listing never calls it.

        Args:
            device: "auto", "cpu", "cuda" or "cuda:N".
        """
        del device
        yield
