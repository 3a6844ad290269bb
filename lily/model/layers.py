"""What every network here shares: normalisation for narrow widths, and how layers start."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """AudioSR's 32 groups, or the most that divide a narrower layer evenly."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


def lower(modules: Iterable[nn.Module], precision: torch.dtype) -> None:
    """Store what multiplies in ``precision``; norms and tables keep float32.

    Autocast would round the same weights anew at every call, the U-Net's 1 GB at every evaluation.
    """
    for module in modules:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d):
            module.to(precision)


def in_float32(x: torch.Tensor) -> AbstractContextManager:
    """Keep autocast out where precision is needed; tensors without numbers have none."""
    if x.device.type == "meta":
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def zeroed(module: nn.Module) -> nn.Module:
    """Start a layer at exact zero, so that what it adds begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def start_normal(weight: torch.Tensor, std: float) -> None:
    """Draw a weight's start; one that is only described (the meta device) has no numbers.

    PyTorch would import its compiler to describe them, which takes longer than a short run.
    """
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


def unit_variance(layer: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """Start a layer so that inputs of variance 1 leave with variance ``gain`` squared.

    PyTorch's own start loses two thirds of the variance. Six such layers from sound to score left
    the encoder's tokens alike and the gradients of keys and queries at 1e-8 of the largest.
    """
    start_normal(layer.weight, gain * layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
