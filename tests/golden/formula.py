"""Inputs and weights of the parity tests, from their names alone: nothing but outputs is stored.

``normal(name, shape)`` draws from ``numpy.random.RandomState``, whose stream is frozen for good,
seeded by a hash of the name. ``make.py`` runs this beside the reference, the tests beside Lily;
it imports neither.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

SCALE_FACTOR = 0.3017  # far from 1, so that a forgotten factor shows
GUIDANCE = 3.5
SEED = 5  # of the whole pipeline: draws "butter" as its low-pass
STEPS = 5
TOY_STEPS = (1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250)
SAMPLE_RATE = 48_000

DDCONFIG = {
    "double_z": True,
    "mel_bins": 256,
    "z_channels": 4,
    "resolution": 256,
    "downsample_time": False,
    "in_channels": 1,
    "out_ch": 1,
    "ch": 32,
    "ch_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.1,
}
UNET = {
    "image_size": 64,
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [8, 4, 2],
    "num_res_blocks": 2,
    "channel_mult": [1, 1, 2, 2],
    "num_head_channels": 32,
    "extra_sa_layer": True,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
}
VOCODER = {
    "upsample_rates": [6, 5, 4, 2, 2],
    "upsample_kernel_sizes": [12, 10, 8, 4, 4],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7, 11, 15],
}


def normal(name: str, *shape: int) -> Tensor:
    """Unit normal numbers, float32, that depend on nothing but the name and the shape."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of a state dict: layers keep variance, norms are near 1, biases near 0."""
    if name == "scale_factor":
        return torch.tensor(SCALE_FACTOR)
    name = name.replace("cond_stage_models.0.vae.", "first_stage_model.")  # the same VAE twice
    drawn = normal(name, *shape)
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        if "vocoder.ups." in name:  # transposed: (in, out, kernel), half or fewer taps meet
            fan_in = shape[0] * 2
        return drawn * fan_in**-0.5
    return 1 + 0.1 * drawn if name.endswith("weight") else 0.1 * drawn


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Every tensor of a state dict by its formula."""
    return {name: weight(name, tuple(shape)) for name, shape in shapes.items()}


def recording(name: str, seconds: float, top_hz: float) -> Tensor:
    """Partials up to ``top_hz``, fading towards it, over a little DC; samples (T,)."""
    time = torch.arange(round(seconds * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    places, phases = (normal(f"{name} {what}", 60).double() for what in ("places", "phases"))
    frequencies = 80 + (top_hz - 80) * (torch.arange(60) + 0.5 * places.tanh()).clamp(min=0) / 60
    partials = torch.sin(2 * math.pi * frequencies[:, None] * time + phases[:, None])
    loud = torch.exp(-3.0 * frequencies / top_hz)[:, None] * (1 + torch.sin(9 * time))
    return (0.02 + 0.05 * (partials * loud).sum(0)).float()


def log_mel(name: str, frames: int) -> Tensor:
    """A made-up log-mel (frames, 256) that falls with frequency as real ones do."""
    slope = torch.linspace(-2.0, -9.0, 256)
    return (slope + 1.5 * normal(name, frames, 256)).clamp(min=-11.5129)


def toy_v(x: Tensor, t: Tensor) -> Tensor:
    """A v-prediction linear in nothing, for the samplers: (B, C, L, M'), (B,) -> (B, C, L, M')."""
    time = t.float().reshape(-1, 1, 1, 1) / 1000
    return torch.tanh(x) * time - 0.5 * torch.cos(x) * (1 - time)


def arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors and numbers as float32 arrays, for ``numpy.savez_compressed``."""
    return {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}
