"""A 1-D convolution that a CPU computes with fewer products, once it is prepared for inference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lily.model import overlap_save, winograd_1d

# Products of an output, channels times taps, from which those saved outweigh the transforms.
WIDE = 300
# Fewest channels, and fewest and most taps, of overlap-save. Its transforms cost more, and longer
# kernels leave few outputs in a tile. HiFi-GAN's narrower layers stay in float32.
WIDE_SPECTRAL, TAPS = 192, (7, 15)

Algorithm = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]


class Conv1d(nn.Conv1d):
    """A convolution that keeps the length, direct until ``prepare`` is called."""

    def __init__(self, width: int, kernel: int, dilation: int = 1) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"A kernel of {kernel} taps changes the length; give an odd one.")
        super().__init__(width, width, kernel, dilation=dilation, padding=kernel // 2 * dilation)
        self._prepared = False

    def prepare(self) -> None:
        """Make fewer products from now on where the layer is wide enough to gain by it.

        For inference on a CPU: minimal filtering in float32, overlap-save in bfloat16. With
        gradients, on other devices and in other types the layer stays a direct convolution. The
        state dict stays the same.
        """
        self._prepared = True

    def reset(self) -> None:
        """Use a direct convolution from now on."""
        self._prepared = False

    @property
    def algorithm(self) -> Algorithm | None:
        """What makes fewer products, with channels innermost in memory; None: direct."""
        width, taps = self.in_channels, self.kernel_size[0]
        if self._prepared and self.weight.dtype is torch.float32 and width * taps >= WIDE:
            return winograd_1d.convolve
        if self._prepared and self.weight.dtype is torch.bfloat16 and width >= WIDE_SPECTRAL:
            return overlap_save.convolve if TAPS[0] <= taps <= TAPS[1] else None
        return None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to the same shape."""
        algorithm = self.algorithm
        suits = x.device.type == "cpu" and x.dtype == self.weight.dtype
        suits = suits and x.dim() == 3 and x.numel() > 0
        if algorithm is None or not suits or torch.is_grad_enabled():
            return super().forward(x)
        return algorithm(x, self.weight, self.bias, self.dilation[0])
