"""Describe a preset: how large its parts are, and what its encoder costs at any duration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lily.config.inference import InferenceConfig
from lily.config.presets import Config
from lily.config.sections import build
from lily.inference.device import PRECISIONS
from lily.inference.memory import predicted_bytes
from lily.model.global_encoder import ContextReader
from lily.model.latent_diffusion import LatentDiffusion

PROFILE_SECONDS = (10, 60, 600, 3600)


def describe(config: Config) -> dict[str, Any]:
    """Parameter counts by part; nothing is allocated."""
    with torch.device("meta"):
        model = LatentDiffusion(**config["model"]["params"])
    unet, first_stage = model.unet, model.first_stage_model
    encoder = 0 if unet.global_encoder is None else _count(unet.global_encoder)
    conditioning = sum(
        p.numel()
        for name, p in unet.named_parameters()
        if ".global_" in name and not name.startswith("global_encoder.")
    )
    total = _count(unet)
    vocoder = _count(first_stage.vocoder)
    settings = build(InferenceConfig, config["inference"], "inference")
    return {
        "name": config.get("name", ""),
        "parameters": {
            "unet_base": total - encoder - conditioning,
            "encoder": encoder,
            "conditioning": conditioning,
            "encoder_total": encoder + conditioning,
            "unet": total,
            "vae": _count(first_stage) - vocoder,
            "vocoder": vocoder,
        },
        "predicted_mib": {
            name: size // 2**20
            for name, precision in PRECISIONS.items()
            if (size := predicted_bytes(settings, precision)) is not None
        },
        "spatial_transformers": sum(1 for _ in unet.conditioned()),
    }


def profile_encoder(config: Config) -> Iterator[dict[str, Any]]:
    """Measure reading the context and caching its keys, with random weights, on the CPU.

    Yields a row for each duration in seconds: compute seconds, number of tokens, bytes of the
    cached keys and values, and bytes of the largest activation. Log-mel frames are generated block
    by block, so the input itself takes no memory.
    """
    model = LatentDiffusion(**config["model"]["params"]).eval()
    encoder = model.unet.global_encoder
    if encoder is None:
        return
    for seconds in PROFILE_SECONDS:
        generator = torch.Generator().manual_seed(0)
        largest = _Largest(encoder)
        began = time.perf_counter()
        reader = ContextReader(encoder, seconds * 100)
        for start in range(0, seconds * 100, 500):
            count = min(500, seconds * 100 - start)
            reader.push(torch.randn(count, encoder.config.mel_bins, generator=generator) - 5)
        with torch.inference_mode():
            context = reader.finish()
            cache = model.unet.context_cache(context)
        elapsed = time.perf_counter() - began
        largest.remove()
        yield {
            "seconds": seconds,
            "compute_seconds": round(elapsed, 3),
            "tokens": context.tokens.shape[1],
            "cache_bytes_fp32": cache.bytes,
            "cache_bytes_bf16": cache.bytes // 2,
            "largest_activation_bytes": largest.bytes,
        }


class _Largest:
    """The largest output of any layer while it listens."""

    def __init__(self, module: nn.Module) -> None:
        self.bytes = 0
        self._hooks = [m.register_forward_hook(self._see) for m in module.modules()]

    def _see(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            self.bytes = max(self.bytes, output.numel() * output.element_size())

    def remove(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
