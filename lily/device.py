"""Decide where the networks run and in which precision; asked for by name, answered by torch."""

from __future__ import annotations

import torch

from lily.errors import InputError


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; raises InputError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"Device {name!r} is not known; give auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("No CUDA device is available here; give --device cpu.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on a GPU and float32 on a CPU; raises InputError for another name."""
    if device.type == "cuda":
        # TF32 keeps ten bits: what is called float32 here is float32.
        torch.backends.cudnn.allow_tf32 = False
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in known:
        raise InputError(f"Precision {name!r} is not known; give auto, {', '.join(known)}.")
    return known[name]
