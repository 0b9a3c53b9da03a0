"""The networks of DNSMOS inside the installed `speechmos` wheel, each verified by its digest."""

from __future__ import annotations

from pathlib import Path

from cdslm_eval.plugin.models import distribution_file

__all__ = ["P808", "P835", "PERSONALISED", "SHA256", "network_path"]

P808 = "dnsmos_models/model_v8.onnx"
P835 = "dnsmos_models/sig_bak_ovr.onnx"
PERSONALISED = "pdnsmos_models/sig_bak_ovr.onnx"
SHA256 = {
    P808: "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    P835: "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    PERSONALISED: "9e3a197449ca2177f0997afec3bd6b890117ce2f17b89d6eea7fa0d47272c81c",
}


def network_path(name: str) -> Path:
    """Return the path of a network; speechmos itself, whose code needs librosa, is not imported.

    Args:
        name: One of the three.

    Raises:
        EvalError: speechmos is not installed, lacks the file, or has another one of that name.
    """
    install = "pip install --no-deps speechmos==0.0.1.1"
    return distribution_file("speechmos==0.0.1.1", f"speechmos/{name}", SHA256[name], install=install)
