"""From log-mel (B, M, L) to samples (B, L * hop): AudioSR's HiFi-GAN, or the small ISTFT one.

HiFi-GAN: Kong et al. 2020, arXiv:2010.05646, weight norm folded; attribute names are AudioSR's
(``hifigan/models.py``). Both see a bounded neighbourhood, so blocks with a halo of ``HALO`` frames
equal one pass over the recording and what surrounds it.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import CarrierVocoderConfig, HifiganConfig, IstftVocoderConfig
from lily.model.carrier_vocoder import CarrierVocoder
from lily.model.conv_1d import Conv1d
from lily.model.istft_vocoder import IstftVocoder
from lily.model.layers import in_float32, lower

MEL_RATE = 100  # log-mel frames a second
SLOPE = 0.1  # of the leaky ReLUs
HALO = 24  # mel frames: the 48 kHz HiFi-GAN sees about 21 on each side, the ISTFT vocoder 23
# From this rate on HiFi-GAN stays in float32. Half precision rounds every feature by up to -54 dB:
# at low rates that turns what is there, at these it is white noise over the band to be filled in.
FINE_RATE = 24_000  # features a second
# Features that a CPU takes through a bank of residual blocks at a time, twice as many in half
# precision. Each of 24 convolutions reads and writes all of them: so many stay in the cache; more
# wait for memory, twice as long.
TILE = 8192


class Vocoder(Protocol):
    """What the engine asks of a vocoder."""

    uses_noise: bool
    uses_recording: bool  # takes a guide (lily/dsp/carriers.py) as a third argument
    margin: int  # silent log-mel frames before and after a recording, at most HALO

    def __call__(self, log_mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-mel (B, M, L), and noise (B, L * hop) where it is used, to samples (B, L * hop)."""
        ...

    def lower(self, precision: torch.dtype) -> None:
        """Store what half precision does not harm in ``precision``."""
        ...


class ResBlock(nn.Module):
    """Three pairs of a dilated and a plain convolution, each added back."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(Conv1d(width, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(Conv1d(width, kernel) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) to the same shape."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            h = first(F.leaky_relu(x, SLOPE))
            x = x + second(F.leaky_relu(h, SLOPE, inplace=True))
        return x


class HifiganVocoder(nn.Module):
    """AudioSR's generator: transposed convolutions, each followed by a bank of residual blocks."""

    uses_noise = False
    uses_recording = False
    # AudioSR gives it none: it pads with zeros, and a log-mel of 0 is loud.
    margin = 8

    def __init__(self, config: HifiganConfig) -> None:
        super().__init__()
        width = config.upsample_initial_channel
        self.hop = math.prod(config.upsample_rates)  # samples per mel frame
        self.kernels = len(config.resblock_kernel_sizes)
        # Features that a bank sees on each side.
        steps = sum(1 + dilation for dilation in config.resblock_dilations)
        self.reach = max(config.resblock_kernel_sizes) // 2 * steps
        rates = accumulate(config.upsample_rates, mul)
        self.coarse = sum(MEL_RATE * rate < FINE_RATE for rate in rates)  # stages below it
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

    def lower(self, precision: torch.dtype) -> None:
        """Store the stages below ``FINE_RATE`` in ``precision``."""
        lower(self.conv_pre.modules(), precision)
        for place in range(self.coarse):
            for part in (self.ups[place], *self._bank(place)):
                lower(part.modules(), precision)

    def forward(self, log_mel: Tensor, noise: Tensor | None = None) -> Tensor:
        """Log-mel (B, M, L) to samples (B, L * hop) in [-1, 1]; ``noise`` is not used."""
        x, lowered = log_mel, 0
        if self.conv_pre.weight.dtype is not torch.float32:
            x, lowered = self.conv_pre(x), self.coarse
            for place in range(lowered):
                x = self._stage(place, x)
        with in_float32(log_mel):
            x = x.float() if lowered else self.conv_pre(x.float())
            for place in range(lowered, len(self.ups)):
                x = self._stage(place, x)
            # PyTorch's default slope of 0.01 here, unlike the others: the reference has it so.
            # Kernel 10 at rate 5 makes one sample too many, 16 at the output: they are cut off.
            samples = torch.tanh(self.conv_post(F.leaky_relu(x)))[:, 0]
        return samples[:, : log_mel.shape[-1] * self.hop]

    def _stage(self, place: int, x: Tensor) -> Tensor:
        x = self.ups[place](F.leaky_relu(x, SLOPE))
        bank, length = self._bank(place), x.shape[-1]
        tile = TILE * 4 // x.element_size()
        if x.device.type != "cpu" or length <= tile:
            return _mean(bank, x)
        tiles = []
        for start in range(0, length, tile):
            first, stop = max(0, start - self.reach), min(length, start + tile)
            made = _mean(bank, x[..., first : stop + self.reach])
            tiles.append(made[..., start - first : stop - first])
        return torch.cat(tiles, -1)

    def _bank(self, place: int) -> list[ResBlock]:
        blocks = list(self.resblocks)[place * self.kernels : (place + 1) * self.kernels]
        return cast(list[ResBlock], blocks)


def _mean(bank: list[ResBlock], x: Tensor) -> Tensor:
    """The mean of what a bank's blocks make of the same features."""
    first, *others = bank
    if any(block.convs1[0].algorithm for block in bank):  # those keep channels innermost in memory
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    else:  # every block reads it: a part of a longer tensor is copied once
        x = x.contiguous()
    total = first(x)
    for block in others:  # summed as they come: one at a time in memory
        total = total + block(x)
    return total / len(bank)


def make_vocoder(config: HifiganConfig | IstftVocoderConfig) -> HifiganVocoder | IstftVocoder:
    """The vocoder a preset names."""
    if isinstance(config, CarrierVocoderConfig):
        return CarrierVocoder(config)
    if isinstance(config, IstftVocoderConfig):
        return IstftVocoder(config)
    return HifiganVocoder(config)
