"""Choose the device and the precision of the networks.

No float64 tensor is made on a device: Apple's GPUs have none. Times, angles and sums in float64
are computed on the CPU. Operators that an Apple GPU lacks run on the CPU, with torch's warning, if
the command line or the page started the process (``PYTORCH_ENABLE_MPS_FALLBACK``).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from lily.errors import InputError
from lily.inference.options import DEVICES
from lily.model.conv_1d import Conv1d
from lily.model.latent_diffusion import LatentDiffusion
from lily.model.layers import Upsample
from lily.model.vocoder import HifiganVocoder
from lily.model.winograd import Conv3x3

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# How torch words it on a CPU and on an Apple GPU; CUDA has an error of its own class.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "not enough memory",
    "MPS backend out of memory",
)


def choose_device(name: str, offered: tuple[str, ...] = DEVICES) -> torch.device:
    """``auto`` takes a GPU if there is one; raises InputError for a device that is not there.

    ``cuda`` is an NVIDIA GPU or, with a ROCm build of torch, an AMD GPU; ``mps`` an Apple GPU.
    """
    there = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        name = next(each for each, found in there.items() if each in offered and found())
    if name not in offered:
        raise InputError(f"Device {name!r} is not known here; give one of {', '.join(offered)}.")
    if not there[name]():
        kind = {"cuda": "CUDA or ROCm", "mps": "Apple"}[name]
        raise InputError(f"No {kind} GPU is available to torch here; give --device cpu.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, large: bool = False) -> torch.dtype:
    """``auto`` is bfloat16 where that pays, else float32; raises InputError for another name.

    It pays on a CUDA GPU, and for a ``large`` model on a CPU that multiplies bfloat16 itself. A
    small model gains a few per cent there, for which its bits are not changed. On an Apple GPU it
    was not measured.
    """
    if device.type == "cuda":
        # TF32 keeps ten bits: what is called float32 here is float32.
        torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        on_cpu = device.type == "cpu" and large and multiplies_bfloat16()
        pays = device.type == "cuda" or on_cpu
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
    cast = torch.autocast(device.type, precision) if lower else nullcontext()
    with torch.inference_mode(), cast:
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory does not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)


def operator_missing(error: NotImplementedError, device: torch.device) -> InputError:
    """The error to raise where torch has no kernel of an operator for a device."""
    named = re.search(r"aten::\w+", str(error))
    what = f"the operator {named[0]}" if named else "an operator"
    return InputError(
        f"torch {torch.__version__} lacks {what} on {device.type}; give --device cpu, or on an "
        "Apple GPU set PYTORCH_ENABLE_MPS_FALLBACK=1 before Python starts: the CPU then runs it."
    )


def release_memory(device: torch.device) -> None:
    """Return a GPU's cached memory to the system."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; emulated, it is slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or multiplies_tiles()


def multiplies_tiles() -> bool:
    """Whether this CPU multiplies whole tiles of bfloat16 (AMX), 16 times as fast as float32."""
    return torch.cpu._is_amx_tile_supported()


def processor(device: torch.device) -> str:
    """The name of what computes: a GPU, or a CPU's architecture and vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"{platform.machine()} MPS"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _make_fewer_products(model: LatentDiffusion) -> None:
    """Let wide convolutions make fewer products on a CPU; results differ by rounding.

    The U-Net, which is evaluated at every step, keeps its transformed kernels: 225 MiB at AudioSR's
    size. The autoencoder and the vocoder run once a chunk and transform theirs each time.
    """
    direct = torch.bfloat16 if multiplies_tiles() else None  # too fast to gain by transforms
    for module in model.first_stage_model.vocoder.modules():
        if isinstance(module, Conv1d) and module.weight.dtype is not direct:
            module.prepare()
    for part, keep in ((model.unet, True), (model.first_stage_model, False)):
        for module in part.modules():
            if isinstance(module, Conv3x3):
                module.prepare(keep)


def place(model: LatentDiffusion, device: torch.device, precision: torch.dtype) -> LatentDiffusion:
    """Bring a float32 model, in place, to where it runs and how it is stored there.

    A GPU's half-precision convolutions want channels last. A CPU's autoencoder would be a sixth
    faster by it, but its group norms lose three digits: 1.4e-3 against AudioSR instead of 5.6e-6.
    A CPU doubles the resolution in half the time by ``Upsample.fuse``; GPUs were not measured. A
    model that was placed on a CPU before, as a Space's, keeps its fused layers on the GPU.
    """
    if device.type == "cpu":
        for module in model.modules():
            if isinstance(module, Upsample):
                module.fuse()
    for module in model.modules():
        if isinstance(module, Conv3x3 | Conv1d):
            module.reset()  # a model that was placed on a CPU before carries dead kernels
    if precision is not torch.float32:
        # A CPU that does not multiply it itself makes fewer products of HiFi-GAN in float32.
        stays = isinstance(model.first_stage_model.vocoder, HifiganVocoder)
        multiplied = precision is torch.bfloat16 and multiplies_bfloat16()
        stays = stays and device.type == "cpu" and not multiplied
        model.lower(precision, vocoder=not stays)
    if device.type == "cuda":
        first = model.first_stage_model
        for part in (model.unet, first.encoder, first.decoder):
            part.to(memory_format=torch.channels_last)
    model.to(device)
    if device.type == "cpu":
        _make_fewer_products(model)
    return model
