"""The networks inside the installed `speechmos` wheel: where they lie, and whether they are the known ones."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from cdslm_eval.core.errors import EvalError

__all__ = ["P808", "P835", "PERSONALISED", "digest", "located"]

P808 = "dnsmos_models/model_v8.onnx"
P835 = "dnsmos_models/sig_bak_ovr.onnx"
PERSONALISED = "pdnsmos_models/sig_bak_ovr.onnx"
_KNOWN = {
    P808: "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    P835: "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    PERSONALISED: "9e3a197449ca2177f0997afec3bd6b890117ce2f17b89d6eea7fa0d47272c81c",
}
_MEND = "pip install --force-reinstall --no-deps speechmos==0.0.1.1"


def located(name: str, folder: Path | None = None) -> Path:
    """Return where a network lies; speechmos itself, which would want librosa, is not imported.

    Args:
        name: One of the three.
        folder: The package's folder, where it is not the installed one.

    Raises:
        EvalError: speechmos is not installed, lacks the file, or has another one of that name.
    """
    path = (folder or _installed()) / name
    if not path.is_file():
        raise EvalError(f"{path}: no such file; {_MEND}")
    if (found := digest(path)) != _KNOWN[name]:
        raise EvalError(
            f"{path}: not the network that published scores come from (SHA-256 {found[:12]}..., wanted "
            f"{_KNOWN[name][:12]}...); {_MEND}"
        )
    return path


@lru_cache(maxsize=8)
def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installed() -> Path:
    spec = find_spec("speechmos")
    if spec is None or not spec.submodule_search_locations:
        raise EvalError(f"speechmos, whose wheel holds the networks of DNSMOS, is not installed; {_MEND}")
    return Path(next(iter(spec.submodule_search_locations)))
