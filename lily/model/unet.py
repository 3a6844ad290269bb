"""The LDM U-Net of AudioSR over latents (B, C, L, M'), with the Global Audio Encoder's toggle.

Attribute names and block order are AudioSR's (``diffusionmodules/openaimodel.py: UNetModel``), so
its checkpoints load strictly; the encoder's own parameters are under ``global_encoder`` and the
``global_*`` layers of each transformer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import UNetConfig
from lily.model.attention import (
    Conditioning,
    ContextCache,
    GlobalConditionedSpatialTransformer,
    SpatialTransformer,
)
from lily.model.global_encoder import GlobalAudioEncoder, GlobalContext
from lily.model.layers import Upsample, group_norm, lower, zeroed
from lily.model.winograd import Conv3x3

KEYS = 16  # PyTorch's attention on a CPU takes so many at once, and a rest one by one


def timestep_embedding(steps: Tensor, width: int) -> Tensor:
    """Diffusion times (B,) to sinusoids (B, width), periods 2 pi to 20,000 pi steps."""
    half = width // 2
    places = torch.arange(half, dtype=torch.float32, device=steps.device)
    angles = steps.float()[:, None] * torch.exp(-math.log(10_000) * places / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions with the diffusion time added between them."""

    def __init__(self, width_in: int, width_out: int, time_width: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            group_norm(width_in, eps=1e-5), nn.SiLU(), Conv3x3(width_in, width_out)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, width_out))
        self.out_layers = nn.Sequential(
            group_norm(width_out, eps=1e-5),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(Conv3x3(width_out, width_out)),
        )
        same = width_in == width_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C', L, M')."""
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    """Halve time and frequency."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to (B, C, L / 2, M' / 2)."""
        return self.op(x)


class UNet(nn.Module):
    """Predict v from a noisy latent, the low-pass latent beside it, and the recording's context."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self._transformers = 0
        width, time_width = config.model_channels, 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        first = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.input_blocks = nn.ModuleList([nn.ModuleList([first])])
        skips, stride, levels = [width], 1, len(config.channel_mult)
        for level, multiple in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                block = self._block(width, multiple * config.model_channels, stride)
                self.input_blocks.append(block)
                width = multiple * config.model_channels
                skips.append(width)
            if level < levels - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
                stride *= 2
        self.middle_block = self._block(width, width, stride, transformers=True)
        self.middle_block.append(ResBlock(width, width, time_width, config.dropout))
        self.output_blocks = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(config.channel_mult))):
            for place in range(config.num_res_blocks + 1):
                target = multiple * config.model_channels
                block = self._block(width + skips.pop(), target, stride)
                width = target
                if level and place == config.num_res_blocks:
                    block.append(Upsample(width))
                    stride //= 2
                self.output_blocks.append(block)
        self.out = nn.Sequential(
            group_norm(width, eps=1e-5),
            nn.SiLU(),
            # Not zeroed as in LDM: the encoder's gradient would need a step more to wake up.
            nn.Conv2d(width, config.out_channels, 3, padding=1),
        )
        self.global_encoder = (
            GlobalAudioEncoder(config.global_encoder, config.global_context_dim)
            if config.use_global_encoder
            else None
        )

    def _block(
        self, width_in: int, width: int, stride: int, transformers: bool = False
    ) -> nn.ModuleList:
        """A ResBlock, and the transformers of its resolution."""
        config = self.config
        block = nn.ModuleList(
            [ResBlock(width_in, width, 4 * config.model_channels, config.dropout)]
        )
        if transformers or stride in config.attention_resolutions:
            for _ in range(2 if config.extra_sa_layer else 1):
                block.append(self._transformer(width, stride))
        return block

    def _transformer(self, width: int, stride: int) -> SpatialTransformer:
        config = self.config
        shape = (width, config.num_head_channels, config.transformer_depth, config.dropout)
        if not config.use_global_encoder:
            return SpatialTransformer(*shape)
        self._transformers += 1
        return GlobalConditionedSpatialTransformer(
            *shape,
            context_dim=config.global_context_dim,
            bands=config.global_query_bands,
            stride=stride,
            index=self._transformers - 1,
        )

    def conditioned(self) -> Iterator[GlobalConditionedSpatialTransformer]:
        """The transformers that attend to the context, in the order of their index."""
        for module in self.modules():
            if isinstance(module, GlobalConditionedSpatialTransformer):
                yield module

    def lower(self, precision: torch.dtype) -> None:
        """Store the weights of every evaluation in ``precision``, the context's in float32."""
        kept = set() if self.global_encoder is None else set(self.global_encoder.modules())
        kept |= {layer for module in self.conditioned() for layer in module.once_a_recording()}
        lower((module for module in self.modules() if module not in kept), precision)

    def context_cache(self, context: GlobalContext) -> ContextCache:
        """Keys and values for every transformer; they depend on neither step nor chunk."""
        pairs = {module.index: module.keys_values(context) for module in self.conditioned()}
        order, rest = sorted(pairs), (1 + context.tokens.shape[1]) % KEYS
        # On a CPU only: a mask costs a GPU its fast kernel. 15 more would take longer than one.
        extra = KEYS - rest if rest > 1 and context.tokens.device.type == "cpu" else 0
        return ContextCache(
            keys=tuple(F.pad(pairs[i][0], (0, 0, 0, extra)) for i in order),
            values=tuple(F.pad(pairs[i][1], (0, 0, 0, extra)) for i in order),
            spacing=context.spacing,
            mask=_key_mask(context, extra),
        )

    def forward(self, x: Tensor, steps: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Latents (B, in, L, M') at diffusion times (B,) to v (B, out, L, M')."""
        time = self.time_embed(timestep_embedding(steps, self.config.model_channels).to(x.dtype))
        skips = []
        for block in self.input_blocks:
            x = _run(block, x, time, conditioning)
            skips.append(x)
        x = _run(self.middle_block, x, time, conditioning)
        for block in self.output_blocks:
            x = _run(block, torch.cat([x, skips.pop()], dim=1), time, conditioning)
        return self.out(x)


def _run(
    block: nn.ModuleList, x: Tensor, time: Tensor, conditioning: Conditioning | None
) -> Tensor:
    for layer in block:
        if isinstance(layer, ResBlock):
            x = layer(x, time)
        elif isinstance(layer, GlobalConditionedSpatialTransformer):
            x = layer(x, conditioning)
        else:
            x = layer(x)
    return x


def _key_mask(context: GlobalContext, extra: int) -> Tensor | None:
    """What is added to the scores of keys, (B, 1, 1, K), of which the last ``extra`` are padding.

    0 where they are real, minus infinity elsewhere; None where all are real.
    """
    if context.valid is None and not extra:
        return None
    tokens = torch.zeros(context.tokens.shape[:2], device=context.tokens.device)
    if context.valid is not None:
        tokens = tokens.masked_fill(~context.valid, -torch.inf)
    mask = F.pad(F.pad(tokens, (1, 0)), (0, extra), value=-torch.inf)  # the vector is always real
    return mask[:, None, None]
