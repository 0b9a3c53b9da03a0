"""One door to networks that transformers loads: found, identified by content, loaded offline from safetensors alone.

Also what else such a network is run with: a device, a precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.checkpoints import SAFE, Checkpoint, Wanted, demand_digest, find_checkpoint
from cdslm_eval.plugin.contract import Options, located

if TYPE_CHECKING:
    import torch

__all__ = ["Pretrained", "PretrainedOptions", "device_of", "find_pretrained", "precision_of", "quiet"]

_IDENTIFYING = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")
# drawn at random where absent, and read by no forward pass outside training
_IDLE_KEYS = ("masked_spec_embed",)


class PretrainedOptions(Options):
    """Options of whatever runs a network.

    Attributes:
        model: Name on the Hugging Face hub, or a folder that `save_pretrained` wrote.
        revision: Branch, tag or commit on the hub.
        sha256: Digest that model.safetensors must have; nothing is loaded when it has another.
        precision: "auto" is bfloat16 on a GPU that has it, float32 elsewhere.
    """

    model: str = located()
    revision: str | None = located(None)
    sha256: str | None = located(None)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A network that lies on this machine.

    Attributes:
        checkpoint: Its files.
        options: By which it was found, and its precision.
        asker: Who uses it, for messages.
    """

    checkpoint: Checkpoint
    options: PretrainedOptions
    asker: str

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.checkpoint.folder

    def facts(self) -> dict[str, str]:
        """Return what identifies it: digests of its files, the version of transformers, the precision."""
        return {
            **self.checkpoint.digests(_IDENTIFYING),
            "transformers": version("transformers"),
            "precision": precision_of(self.options.precision),
        }

    def load(self, kind: Any, device: torch.device, precision: str | None = None) -> Any:
        """Return the network in evaluation mode.

        Args:
            kind: The class or auto class of transformers.
            device: Where it goes.
            precision: Of its parameters; None takes that of the options.

        Raises:
            EvalError: The files hold another network, or are damaged.
        """
        import torch
        from safetensors import SafetensorError

        with quiet():
            try:
                network, report = kind.from_pretrained(
                    str(self.folder),
                    use_safetensors=True,
                    local_files_only=True,
                    dtype=getattr(torch, precision or precision_of(self.options.precision)),
                    output_loading_info=True,
                )
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                said = " ".join(str(error).split())[:200] or type(error).__name__
                raise EvalError(f"{self.asker} cannot load {self.options.model}: {said}") from error
        odd = {*report["missing_keys"], *(str(one[0]) for one in report.get("mismatched_keys", ()))}
        if lacking := sorted(key for key in odd if not key.endswith(_IDLE_KEYS)):
            # transformers would fill them at random, differently in each process
            raise EvalError(
                f"{self.asker}: {self.options.model} lacks {', '.join(lacking[:3])}, so it is another kind of model; "
                f"give one for {kind.__name__} as model="
            )
        return network.to(device).eval()


def find_pretrained(options: PretrainedOptions, wanted: Wanted, asker: str) -> Pretrained:
    """Return a network's files: of a folder, else of the hub's cache, else downloaded now.

    Args:
        options: Which.
        wanted: The files without which it cannot be used.
        asker: Who asks, for messages.

    Raises:
        EvalError: Files are missing, or the weights have another digest than was asked for.
    """
    found = find_checkpoint(options.model, wanted, asker=asker, revision=options.revision)
    if options.sha256 is not None and not (found.folder / SAFE[0]).is_file():
        raise EvalError(
            f"{asker}: {options.model}: its weights lie in several files; pin revision= in place of sha256="
        )
    demand_digest(found.folder / SAFE[0], options.sha256, asker)
    return Pretrained(found, options, asker)


def precision_of(wanted: str) -> str:
    """Return what a precision comes to on this machine; it asks no device, as the identity knows none."""
    if wanted != "auto":
        return wanted
    import torch

    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def device_of(wanted: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: There is no such device.
    """
    import torch

    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {wanted}: torch finds no GPU here")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and hints out of the user's terminal: what matters is told as an error."""
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
