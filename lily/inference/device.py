"""Decide where the networks run and in which precision; asked for by name, answered by torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lily.errors import InputError
from lily.model.latent_diffusion import LatentDiffusion

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one; raises InputError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"Device {name!r} is not known; give auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("No CUDA device is available here; give --device cpu.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, large: bool = False) -> torch.dtype:
    """``auto`` is bfloat16 where that pays, else float32; raises InputError for another name.

    It pays on a GPU, and for a ``large`` model on a CPU that multiplies bfloat16 itself. A small
    model gains a few per cent there, for which its bits are not changed.
    """
    if device.type == "cuda":
        # TF32 keeps ten bits: what is called float32 here is float32.
        torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        pays = device.type == "cuda" or (large and multiplies_bfloat16())
        return torch.bfloat16 if pays else torch.float32
    if name not in PRECISIONS:
        raise InputError(f"Precision {name!r} is not known; give auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


@contextmanager
def repeatable(wanted: bool = True) -> Iterator[None]:
    """Let torch take only kernels that give the same bits every time, which a CPU's do anyway.

    cuBLAS reads its part when a process first uses it, so enter this before.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def network_mode(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Run networks without gradients, in this precision.

    Never hold it across a ``yield``: what the caller does meanwhile must not be cast.
    """
    lower = precision is not torch.float32
    with torch.inference_mode(), torch.autocast(device.type, precision, enabled=lower):
        yield


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def processor(device: torch.device) -> str:
    """The name of what computes: a GPU, or a CPU's architecture and vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def place(model: LatentDiffusion, device: torch.device, precision: torch.dtype) -> LatentDiffusion:
    """Bring a float32 model, in place, to where it runs and how it is stored there.

    A GPU's half-precision convolutions want channels last. A CPU's autoencoder would be a sixth
    faster by it, but its group norms lose three digits: 1.4e-3 against AudioSR instead of 5.6e-6.
    """
    if precision is not torch.float32:
        model.lower(precision)
    if device.type == "cuda":
        first = model.first_stage_model
        for part in (model.unet, first.encoder, first.decoder):
            part.to(memory_format=torch.channels_last)
    return model.to(device)
