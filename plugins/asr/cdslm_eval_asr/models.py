"""What the transformers models of this plugin share: device, precision, and loading that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from cdslm_eval.checkpoints import SAFE, Checkpoint, demand_digest
from cdslm_eval.contract import Options
from cdslm_eval.errors import EvalError

__all__ = ["ModelOptions", "check_weights", "device_of", "facts_of", "load", "precision_of", "quiet"]

_IDENTIFYING = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")


class ModelOptions(Options):
    """Options of what runs a model.

    Attributes:
        model: Name on the Hugging Face hub, or a folder that `save_pretrained` wrote.
        revision: Branch, tag or commit on the hub.
        sha256: Digest that model.safetensors must have; nothing is loaded when it has another.
        precision: "auto" is bfloat16 on a GPU that has it, float32 elsewhere.
    """

    model: str
    revision: str | None = None
    sha256: str | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


def check_weights(found: Checkpoint, options: ModelOptions, asker: str) -> Checkpoint:
    """Return the checkpoint when its weights have the digest that was asked for.

    Raises:
        EvalError: They have another, or lie in several files.
    """
    if options.sha256 is not None and not (found.folder / SAFE[0]).is_file():
        raise EvalError(
            f"{asker}: {options.model}: its weights lie in several files; pin revision= in place of sha256="
        )
    demand_digest(found.folder / SAFE[0], options.sha256, asker)
    return found


def facts_of(found: Checkpoint, options: ModelOptions) -> dict[str, str]:
    """Return what identifies a model: revision, digests of its files, versions, precision."""
    from importlib.metadata import version

    revision = {"revision": found.revision} if found.revision else {}
    return {
        **revision,
        **found.digests(_IDENTIFYING),
        "transformers": version("transformers"),
        "precision": precision_of(options),
    }


def precision_of(options: ModelOptions) -> str:
    """Return what a precision comes to on this machine; it asks no device, as the identity knows none."""
    if options.precision != "auto":
        return options.precision
    import torch

    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def device_of(wanted: str) -> Any:
    """Return the torch device for "auto", "cpu", "cuda" or "cuda:N"."""
    import torch

    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)


def load(kind: Any, found: Checkpoint, options: ModelOptions, device: Any, asker: str) -> Any:
    """Return a model in evaluation mode.

    Args:
        kind: The class or auto class of transformers.
        found: Where its files lie.
        options: Its precision, and its name for messages.
        device: A torch device.
        asker: Who asks, for messages.

    Raises:
        EvalError: The files hold another model, or are damaged.
    """
    import torch
    from safetensors import SafetensorError

    with quiet():
        try:
            model, report = kind.from_pretrained(
                str(found.folder),
                use_safetensors=True,
                local_files_only=True,
                dtype=getattr(torch, precision_of(options)),
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise EvalError(f"{asker} cannot load {options.model}: {said}") from error
    lacking = sorted({*report["missing_keys"], *(str(one[0]) for one in report.get("mismatched_keys", ()))})
    if lacking:
        # transformers would fill them at random, differently in each process
        raise EvalError(
            f"{asker}: {options.model} lacks {', '.join(lacking[:3])}, so it is another kind of model; give one for "
            f"{kind.__name__} as model="
        )
    return model.to(device).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and hints out of the user's terminal."""
    from transformers.utils import logging

    said: Any = logging  # its functions carry no types
    bar, level = said.is_progress_bar_enabled(), said.get_verbosity()
    said.disable_progress_bar()
    said.set_verbosity_error()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if bar:
            said.enable_progress_bar()
