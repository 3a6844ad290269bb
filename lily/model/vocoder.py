"""From log-mel (B, M, L) to samples (B, L * hop): AudioSR's HiFi-GAN, or the small ISTFT one.

HiFi-GAN: Kong et al. 2020, arXiv:2010.05646, weight norm folded; attribute names are AudioSR's
(``hifigan/models.py``). Both see a bounded neighbourhood, so blocks with a halo of ``HALO`` frames
equal one pass.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config import HifiganConfig, IstftVocoderConfig
from lily.model.istft_vocoder import IstftVocoder

SLOPE = 0.1  # of the leaky ReLUs
HALO = 32  # mel frames: the 48 kHz HiFi-GAN sees about 21 on each side, the ISTFT vocoder 23


class Vocoder(Protocol):
    """What the engine asks of a vocoder."""

    uses_noise: bool

    def __call__(self, log_mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-mel (B, M, L), and noise (B, L * hop) where it is used, to samples (B, L * hop)."""
        ...


class ResBlock(nn.Module):
    """Three pairs of a dilated and a plain convolution, each added back."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        half = kernel // 2
        self.convs1 = nn.ModuleList(
            nn.Conv1d(width, width, kernel, dilation=d, padding=half * d) for d in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=half) for _ in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to the same shape."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class HifiganVocoder(nn.Module):
    """AudioSR's generator: transposed convolutions, each followed by a bank of residual blocks."""

    uses_noise = False

    def __init__(self, config: HifiganConfig) -> None:
        super().__init__()
        width = config.upsample_initial_channel
        self.hop = math.prod(config.upsample_rates)  # samples per mel frame
        self.kernels = len(config.resblock_kernel_sizes)
        self.conv_pre = nn.Conv1d(config.n_mels, width, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        rates = zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        for rate, kernel in rates:
            self.ups.append(
                nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            width //= 2
            for size in config.resblock_kernel_sizes:
                self.resblocks.append(ResBlock(width, size, config.resblock_dilations))
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, log_mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-mel (B, M, L) to samples (B, L * hop) in [-1, 1]; ``noise`` is not used."""
        x = self.conv_pre(log_mel)
        for place, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            bank = self.resblocks[place * self.kernels : (place + 1) * self.kernels]
            x = torch.stack([block(x) for block in bank]).sum(0) / self.kernels
        # PyTorch's default slope of 0.01 here, unlike the others: the reference has it so.
        # Kernel 10 at rate 5 makes one sample too many, 16 at the output: they are cut off.
        samples = torch.tanh(self.conv_post(F.leaky_relu(x)))[:, 0]
        return samples[:, : log_mel.shape[-1] * self.hop]


def make_vocoder(config: HifiganConfig | IstftVocoderConfig) -> HifiganVocoder | IstftVocoder:
    """The vocoder a preset names."""
    if isinstance(config, IstftVocoderConfig):
        return IstftVocoder(config)
    return HifiganVocoder(config)
