"""What every network here shares: normalisation, doubling the resolution, how layers start."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """AudioSR's 32 groups, or the most that divide a narrower layer evenly."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


class Upsample(nn.Module):
    """Double both axes: every value four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv: nn.Conv2d | None = nn.Conv2d(width, width, 3, padding=1)
        self.phases: nn.Conv2d | None = None  # after ``fuse``

    def fuse(self) -> None:
        """Replace the convolution by one of 2 x 2 that reads the input before it is doubled.

        An output of an even or odd row and column sees only 2 x 2 different inputs, so its kernel
        is the 3 x 3 one with the weights of equal inputs added up. The four such kernels make
        2.25 times fewer products; results differ by rounding. For inference: the state dict has
        other names afterwards.
        """
        if self.conv is None:
            return
        # The same layer gets other weights: a new one would draw its own first.
        phases, self.conv = self.conv, None
        with torch.no_grad():
            kernels = [k for rows in _paired(phases.weight, 2) for k in _paired(rows, 3)]
            phases.weight = nn.Parameter(torch.cat(kernels), requires_grad=False)
            bias = cast(Tensor, phases.bias).repeat(4)
            phases.bias = nn.Parameter(bias, requires_grad=False)
        phases.out_channels, phases.kernel_size = 4 * phases.out_channels, (2, 2)
        self.phases = phases

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C, 2 L, 2 M')."""
        if self.phases is None:
            assert self.conv is not None
            return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        length, bins = x.shape[-2:]
        phases = self.phases(x).unflatten(1, (2, 2, -1))  # (B, 2, 2, C, L + 1, M' + 1)
        doubled = phases.new_empty(*x.shape[:2], 2 * length, 2 * bins)
        for row in (0, 1):
            for column in (0, 1):
                phase = phases[:, row, column, :, row : row + length, column : column + bins]
                doubled[:, :, row::2, column::2] = phase
        return doubled


def _paired(kernel: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Kernels of 2 along an axis for even and for odd outputs, from one of 3."""
    before, middle, after = kernel.unbind(axis)
    even, odd = (before, middle + after), (before + middle, after)
    return torch.stack(even, axis), torch.stack(odd, axis)


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
