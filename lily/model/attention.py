"""The LDM SpatialTransformer, and the one that also attends to the recording's context.

Feature maps are (B, C, L, M'): latent time by latent frequency. Attribute names are those of
AudioSR's checkpoints (``latent_diffusion/modules/attention.py``); what begins with ``global_`` is
Lily's and starts neutral.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.model.global_encoder import GlobalContext
from lily.model.layers import group_norm, unit_variance, zeroed
from lily.model.rotary import rotate, rotation

LATENT_SECONDS = 0.08  # one latent frame


class CrossAttention(nn.Module):
    """Multi-head attention over (B, N, C); every AudioSR transformer attends to itself twice."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        q, k, v = (split_heads(to(x), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        return self.to_out(join_heads(F.scaled_dot_product_attention(q, k, v)))


class GEGLU(nn.Module):
    """A gated linear unit with GELU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, inner)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Widen four times, gate, narrow."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            GEGLU(width, 4 * width), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return self.net(x)


class BasicTransformerBlock(nn.Module):
    """Attend, attend, feed forward; each on a normalised copy, each added back."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, heads, head_width, dropout)
        self.ff = FeedForward(width, dropout)
        self.attn2 = CrossAttention(width, heads, head_width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x))
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over every position of a feature map (B, C, L, M')."""

    def __init__(self, width: int, head_width: int, depth: int, dropout: float) -> None:
        super().__init__()
        heads = width // head_width
        self.heads, self.head_width = heads, head_width
        self.norm = group_norm(width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(width, heads, head_width, dropout) for _ in range(depth)
        )
        self.proj_out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L, M') to the same shape."""
        columns, rows = x.shape[-2:]
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # (B, L * M', C)
        for block in self.transformer_blocks:
            h = block(h)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, (columns, rows)))


@dataclass(frozen=True)
class ContextCache:
    """Keys and values of one context for every transformer: made once per recording."""

    keys: tuple[Tensor, ...]  # each (B or 1, H, K, D), already rotated; K: vector, tokens, padding
    values: tuple[Tensor, ...]
    spacing: float  # seconds between tokens
    mask: Tensor | None  # (B, 1, 1, K): 0 where keys are real, else -inf; None where all are real

    @property
    def bytes(self) -> int:
        """Memory the cached keys and values hold."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def to(self, device: torch.device) -> ContextCache:
        """The same keys and values on a device."""
        return replace(
            self,
            keys=tuple(key.to(device) for key in self.keys),
            values=tuple(value.to(device) for value in self.values),
            mask=None if self.mask is None else self.mask.to(device),
        )

    def scaled(self, share: float) -> ContextCache:
        """A cache that answers ``share`` times this one's; ``global_out``'s bias is not scaled."""
        if share == 1:
            return self
        return replace(self, values=tuple(share * value for value in self.values))

    def attend(self, index: int, q: Tensor) -> Tensor:
        """What transformer ``index`` reads for its queries (R, H, N', D); same shape."""
        k, v = self.keys[index].to(q.dtype), self.values[index].to(q.dtype)
        mask = None if self.mask is None else self.mask.to(q.dtype)
        shape = (q.shape[0], -1, -1, -1)
        return F.scaled_dot_product_attention(q, k.expand(shape), v.expand(shape), attn_mask=mask)

    def rotation(self, times: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (R, N', pairs) that turn queries at ``times`` (R, N') in seconds."""
        return rotation(times, 2 * self.spacing, pairs, self.keys[0].device)

    def select(self, index: Tensor) -> ContextCache:
        """The cache with rows picked by ``index`` (R,): several chunks of one recording share."""
        return ContextCache(
            keys=tuple(k[index] for k in self.keys),
            values=tuple(v[index] for v in self.values),
            spacing=self.spacing,
            mask=None if self.mask is None else self.mask[index],
        )


@dataclass(frozen=True)
class RowContexts:
    """A context a row, of any recordings: each row attends alone, so that no other changes it."""

    caches: tuple[ContextCache, ...]  # each of one recording, (1, H, K, D); K may differ

    @property
    def _shared(self) -> bool:
        """Whether all rows are chunks of one recording."""
        return len(set(map(id, self.caches))) == 1

    def attend(self, index: int, q: Tensor) -> Tensor:
        """As ``ContextCache.attend``, for as many rows as there are caches."""
        if self._shared:
            return self.caches[0].attend(index, q)
        rows = zip(self.caches, q.split(1), strict=True)
        return torch.cat([cache.attend(index, row) for cache, row in rows])

    def rotation(self, times: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
        """As ``ContextCache.rotation``; the periods follow each recording's own tokens."""
        if self._shared:
            return self.caches[0].rotation(times, pairs)
        rows = zip(self.caches, times.split(1), strict=True)
        cosines, sines = zip(*(cache.rotation(row, pairs) for cache, row in rows), strict=True)
        return torch.cat(cosines), torch.cat(sines)


@dataclass
class Conditioning:
    """One U-Net call's view of contexts: which rows have one, and when their chunks start."""

    cache: ContextCache | RowContexts
    starts: Tensor  # (R,) float64 seconds on the CPU, chunk starts of the rows that have context
    rows: Tensor | None = None  # (R,) indices of these rows in the batch; None: the first R
    _turns: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def turn(self, columns: int, stride: int, bands: int, pairs: int) -> tuple[Tensor, Tensor]:
        """Rotation of the queries (R, 1, columns * bands, pairs), made once per resolution."""
        key = (columns, bands, pairs)
        if key not in self._turns:
            offsets = torch.arange(columns, dtype=torch.float64)
            times = self.starts[:, None] + offsets * (stride * LATENT_SECONDS)
            times = times.repeat_interleave(bands, dim=1)
            cosines, sines = self.cache.rotation(times, pairs)
            self._turns[key] = (cosines[:, None], sines[:, None])
        return self._turns[key]


class GlobalConditionedSpatialTransformer(SpatialTransformer):
    """A SpatialTransformer plus one residual cross-attention over [vector; tokens].

    Queries are the features averaged over frequency to a few bands per time column; a band's answer
    is added to all its positions. ``global_out`` starts at zero: untrained, it changes no bit.
    """

    def __init__(
        self,
        width: int,
        head_width: int,
        depth: int,
        dropout: float,
        *,
        context_dim: int,
        bands: int,
        stride: int,
        index: int,
    ) -> None:
        super().__init__(width, head_width, depth, dropout)
        self.bands, self.stride, self.index = bands, stride, index
        self.pairs = head_width // 4  # half of a head's dimensions turn with time
        self.global_proj = unit_variance(nn.Linear(context_dim, width))
        self.global_q = unit_variance(nn.Linear(width, width))
        self.global_k = unit_variance(nn.Linear(width, width))
        self.global_v = unit_variance(nn.Linear(width, width))
        self.global_out = zeroed(nn.Linear(width, width))

    def global_layers(self) -> list[nn.Module]:
        """The layers that read the context: what training the encoder alone moves."""
        return [self.global_proj, self.global_q, self.global_k, self.global_v, self.global_out]

    def once_a_recording(self) -> list[nn.Module]:
        """The layers that run once a recording: their precision costs nothing."""
        return [self.global_proj, self.global_k, self.global_v]

    def keys_values(self, context: GlobalContext) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, 1 + N, D) of a context; the vector comes first."""
        tokens = torch.cat([context.vector[:, None], context.tokens], dim=1)
        projected = self.global_proj(tokens)
        keys = split_heads(self.global_k(projected), self.heads)
        values = split_heads(self.global_v(projected), self.heads)
        cosines, sines = rotation(context.times, 2 * context.spacing, self.pairs, keys.device)
        turned = rotate(keys[:, :, 1:], cosines[:, None], sines[:, None])
        # The vector has no time: zero where a score would depend on it.
        still = torch.cat(
            [torch.zeros_like(keys[:, :, :1, : 2 * self.pairs]), keys[:, :, :1, 2 * self.pairs :]],
            dim=-1,
        )
        # As the queries will be, whose layer may be stored in half precision.
        dtype = self.global_q.weight.dtype
        return torch.cat([still, turned], dim=2).to(dtype), values.to(dtype)

    def forward(self, x: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """(B, C, L, M') to the same shape; without conditioning exactly SpatialTransformer."""
        x = super().forward(x)
        if conditioning is None:
            return x
        count = len(conditioning.starts)
        if conditioning.rows is not None:
            answered = self._answered(x[conditioning.rows], conditioning)
            return x.index_copy(0, conditioning.rows, answered)
        if count == x.shape[0]:
            return self._answered(x, conditioning)
        return torch.cat([self._answered(x[:count], conditioning), x[count:]])

    def _answered(self, x: Tensor, conditioning: Conditioning) -> Tensor:
        """Features (R, C, L, M') and what the context says to each band of theirs."""
        columns, positions = x.shape[-2:]
        bands = min(self.bands, positions)
        each = positions // bands
        pooled = x if each == 1 else x.unflatten(3, (bands, each)).mean(-1)  # (R, C, L, bands)
        features = pooled.flatten(2).transpose(1, 2)  # (R, L * bands, C)
        q = split_heads(self.global_q(F.layer_norm(features, features.shape[-1:])), self.heads)
        q = rotate(q, *conditioning.turn(columns, self.stride, bands, self.pairs))
        mixed = conditioning.cache.attend(self.index, q)
        answer = self.global_out(join_heads(mixed)).transpose(1, 2)  # (R, C, L * bands)
        answer = answer.unflatten(2, (columns, bands))[..., None].to(x.dtype)
        return (x.unflatten(3, (bands, -1)) + answer).flatten(3)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, H * D) to (B, H, N, D)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) to (B, N, H * D)."""
    return x.transpose(1, 2).flatten(2)
