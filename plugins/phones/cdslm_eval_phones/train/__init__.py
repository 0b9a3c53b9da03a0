"""Training of a small CTC network for `phone-ctc:model=FILE`; needs the extra `train` (torch, onnx)."""

from __future__ import annotations
