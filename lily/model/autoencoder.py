"""The KL autoencoder between log-mel (B, 1, T, M) and latents (B, z, T / 8, M').

Attribute names are AudioSR's (``latent_encoder/autoencoder.py``, ``diffusionmodules/model.py``);
the vocoder lives inside it, as in AudioSR's checkpoints. A small preset folds patches of
mel cells into channels first, because convolutions on the full grid cost the most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.audiosr_keys import AUDIOSR_UNUSED
from lily.config.presets import AutoencoderConfig, FirstStageConfig, vocoder_config
from lily.config.sections import build
from lily.model.layers import Upsample, group_norm, lower
from lily.model.vocoder import make_vocoder
from lily.model.winograd import Conv3x3


class ResnetBlock(nn.Module):
    """Normalise, swish, convolve, twice, and add."""

    def __init__(self, width_in: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(width_in, eps=1e-6)
        self.conv1 = Conv3x3(width_in, width)
        self.norm2 = group_norm(width, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv3x3(width, width)
        self.nin_shortcut = nn.Identity() if width_in == width else nn.Conv2d(width_in, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C', L, M')."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """One-head attention over every position, as LDM has it in the middle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width, eps=1e-6)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to the same shape."""
        h = self.norm(x)
        q, k, v = (to(h).flatten(2).transpose(1, 2)[:, None] for to in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, L * M', C)
        return x + self.proj_out(mixed.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Downsample(nn.Module):
    """Halve both axes; LDM pads only after the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C, L / 2, M' / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


def _middle(width: int, config: AutoencoderConfig) -> nn.ModuleDict:
    layers = {"block_1": ResnetBlock(width, width, config.dropout)}
    if config.mid_attention:
        layers["attn_1"] = AttnBlock(width)
    layers["block_2"] = ResnetBlock(width, width, config.dropout)
    return nn.ModuleDict(layers)


class Encoder(nn.Module):
    """Log-mel patches to the moments of the latent."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.ch
        self.conv_in = nn.Conv2d(config.in_channels * math.prod(config.patch), width, 3, padding=1)
        self.down = nn.ModuleList()
        for level, multiple in enumerate(config.ch_mult):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks):
                blocks.append(ResnetBlock(width, config.ch * multiple, config.dropout))
                width = config.ch * multiple
            stage = nn.ModuleDict({"block": blocks})
            if level < len(config.ch_mult) - 1:
                stage["downsample"] = Downsample(width)
            self.down.append(stage)
        self.mid = _middle(width, config)
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, 2 * config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Folded log-mel (B, cells, T / patch, M / patch) to (B, 2 z, L, M')."""
        x = self.conv_in(x)
        for stage in self.down:
            for block in stage["block"]:
                x = block(x)
            if "downsample" in stage:
                x = stage["downsample"](x)
        for layer in self.mid.values():
            x = layer(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """Latents to log-mel patches."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width = config.ch * config.ch_mult[-1]
        self.conv_in = nn.Conv2d(config.z_channels, width, 3, padding=1)
        self.mid = _middle(width, config)
        stages = []
        for level, multiple in reversed(list(enumerate(config.ch_mult))):
            blocks = nn.ModuleList()
            for _ in range(config.num_res_blocks + 1):
                blocks.append(ResnetBlock(width, config.ch * multiple, config.dropout))
                width = config.ch * multiple
            stage = nn.ModuleDict({"block": blocks})
            if level:
                stage["upsample"] = Upsample(width)
            stages.insert(0, stage)
        self.up = nn.ModuleList(stages)  # up[0] is the finest level, run last
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, config.out_ch * math.prod(config.patch), 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z, L, M') to folded log-mel (B, cells, T / patch, M / patch)."""
        x = self.conv_in(z)
        for layer in self.mid.values():
            x = layer(x)
        for stage in reversed(self.up):
            for block in stage["block"]:
                x = block(x)
            if "upsample" in stage:
                x = stage["upsample"](x)
        return self.conv_out(F.silu(self.norm_out(x)))


@dataclass(frozen=True)
class DiagonalGaussian:
    """The posterior of the latent: independent normals of (B, z, L, M')."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw; the noise is drawn in float32 on the generator's device."""
        device = self.mean.device if generator is None else generator.device
        return self.at(torch.randn(self.mean.shape, generator=generator, device=device))

    def at(self, noise: Tensor) -> Tensor:
        """The draw (B, z, L, M') that this unit normal noise gives."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean)

    def kl(self) -> Tensor:
        """Divergence from the standard normal, averaged over every latent value."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance).mean()


class AutoencoderKL(nn.Module):
    """Encode log-mel to latents, decode latents to log-mel; holds the vocoder."""

    def __init__(
        self,
        *,
        ddconfig: Mapping[str, Any],
        vocoder_config: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        """``params`` are FirstStageConfig's."""
        super().__init__()
        own = build(FirstStageConfig, params, "first_stage_config.params", AUDIOSR_UNUSED)
        config = build(AutoencoderConfig, ddconfig, "ddconfig", AUDIOSR_UNUSED)
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * own.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(own.embed_dim, config.z_channels, 1)
        self.vocoder = make_vocoder(_vocoder_config(vocoder_config or {}))

    def lower(self, precision: torch.dtype, vocoder: bool = True) -> None:
        """Store the weights in ``precision``, the vocoder's where it can be heard in float32.

        Without ``vocoder`` all of the vocoder's stay in float32.
        """
        own = (self.encoder, self.decoder, self.quant_conv, self.post_quant_conv)
        lower((module for part in own for module in part.modules()), precision)
        if vocoder:
            self.vocoder.lower(precision)

    def encode(self, log_mel: Tensor) -> DiagonalGaussian:
        """Log-mel (B, 1, T, M) to the posterior of (B, z, T / 8, M')."""
        moments = self.quant_conv(self.encoder(fold(log_mel, self.config.patch))).float()
        mean, log_variance = moments.chunk(2, dim=1)
        return DiagonalGaussian(mean, log_variance.clamp(-30.0, 20.0))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, z, L, M') to log-mel (B, 1, T, M)."""
        return unfold(self.decoder(self.post_quant_conv(z)), self.config.patch)


def fold(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """(B, 1, T, M) to (B, cells, T / patch, M / patch); a patch of (1, 1) changes nothing."""
    x = x.unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0]))  # (B, 1, T', p, M', q)
    return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def unfold(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """The inverse of ``fold``: (B, cells, T', M') to (B, 1, T, M)."""
    x = x.unflatten(1, (-1, *patch)).permute(0, 1, 4, 2, 5, 3)  # (B, 1, T', p, M', q)
    return x.flatten(4, 5).flatten(2, 3)


_vocoder_config = vocoder_config  # the constructor's argument has AudioSR's style of name
