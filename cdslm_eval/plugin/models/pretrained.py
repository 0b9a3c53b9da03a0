"""Networks that transformers loads: found, identified by content, read offline without running code.

Also the device and the precision that such a network runs with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdslm_eval.core.errors import EvalError, UsageError
from cdslm_eval.plugin.contract import Options, located
from cdslm_eval.plugin.models.files import PICKLED, SAFE, Checkpoint, RequiredFiles, check_sha256, find_checkpoint

if TYPE_CHECKING:
    import torch

__all__ = ["Pretrained", "PretrainedOptions", "device_of", "find_pretrained", "precision_of", "quiet"]

_IDENTIFYING = ("*.json", "*.txt", "*.model", "model.safetensors", "model-*-of-*.safetensors")
# drawn at random where absent, and read by no forward pass outside training
_IDLE_KEYS = ("masked_spec_embed",)


class PretrainedOptions(Options):
    """Options of a component that runs a network.

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
    """A network whose files are on this machine.

    Attributes:
        checkpoint: Its files.
        model: Its name or folder as the user wrote it, for messages.
        precision: Name of the dtype of its parameters: "float32", "bfloat16", "float16".
        user: Name of the component that uses it, for messages.
    """

    checkpoint: Checkpoint
    model: str
    precision: str
    user: str

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return self.checkpoint.folder

    @property
    def weights(self) -> Path:
        """File of its weights: safetensors (or their index) where there are any, else the pickled file."""
        paths = [self.folder / name for name in (*SAFE, PICKLED)]
        return next((path for path in paths if path.is_file()), paths[0])

    def facts(self) -> dict[str, str]:
        """Return what identifies it: digests of its files, the version of transformers, the precision."""
        return {
            **self.checkpoint.digests(_IDENTIFYING),
            "transformers": version("transformers"),
            "precision": self.precision,
        }

    def load(self, kind: Any, device: torch.device, precision: str | None = None) -> Any:
        """Return the network in evaluation mode.

        Args:
            kind: The class or auto class of transformers.
            device: Where it runs.
            precision: Of its parameters; None is its own.

        Raises:
            EvalError: The files hold another network, are damaged, or hold more than tensors.
        """
        import torch

        with quiet():
            try:
                network, report = kind.from_pretrained(
                    str(self.folder),
                    use_safetensors=self.weights.name != PICKLED,
                    weights_only=True,
                    local_files_only=True,
                    dtype=getattr(torch, precision or self.precision),
                    output_loading_info=True,
                )
            except Exception as error:  # a third party's file of weights fails in any way
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise EvalError(f"{self.user}: {self.weights} cannot be loaded: {reason}") from error
        unmatched = {*report["missing_keys"], *(str(key[0]) for key in report.get("mismatched_keys", ()))}
        if lacking := sorted(key for key in unmatched if not key.endswith(_IDLE_KEYS)):
            # transformers would fill them at random, differently in each process
            raise EvalError(
                f"{self.user}: {self.model} lacks {', '.join(lacking[:3])}, so it is another kind of model. "
                f"Use: model=, with a checkpoint for {kind.__name__}"
            )
        return network.to(device).eval()


def find_pretrained(options: PretrainedOptions, required: RequiredFiles, user: str) -> Pretrained:
    """Return a network's files: of a folder, else of the hub's cache, else downloaded now.

    Args:
        options: Its name, revision, digest and precision.
        required: The files without which it cannot be used.
        user: Name of the component that uses it, for messages.

    Raises:
        EvalError: Files are missing, or the weights have another digest than `sha256`.
    """
    checkpoint = find_checkpoint(options.model, required, user=user, revision=options.revision)
    if options.sha256 is not None and not (checkpoint.folder / SAFE[0]).is_file():
        raise EvalError(f"{user}: {options.model}: its weights are not one file {SAFE[0]}. Use: revision=, not sha256=")
    check_sha256(checkpoint.folder / SAFE[0], options.sha256, user)
    return Pretrained(checkpoint, options.model, precision_of(options.precision), user)


def precision_of(name: str) -> str:
    """Return the dtype name that a precision option means on this machine; the identity knows no device."""
    if name != "auto":
        return name
    import torch

    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def device_of(name: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        UsageError: There is no such device.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch finds no GPU here")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and hints; what matters is raised as an error."""
    from transformers.utils import logging

    settings: Any = logging  # its functions carry no types
    bar, level = settings.is_progress_bar_enabled(), settings.get_verbosity()
    settings.disable_progress_bar()
    settings.set_verbosity_error()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if bar:
            settings.enable_progress_bar()
