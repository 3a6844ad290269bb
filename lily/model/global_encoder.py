"""The Global Audio Encoder: a whole recording as one vector and at most 128 tokens.

The log-mel averaged over 2 x 2 cells, three convolutions (12.5 tokens/s), a projection that keeps
the frequency axis, two transformer layers, average pooling with true centre times. Normalisation
never crosses time, so blocks with a halo give the result of one pass; memory is bounded and time
linear in the duration. Training asks each token for the cepstrum that the recording had at its time
before it was degraded (``token_loss``), and the vector for the recording's profile
(``recording_profile.py``).
Shapes: log-mel (B, 1, M, T); tokens (B, N, 64) with centre times in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import GlobalEncoderConfig
from lily.dsp.pair_memory import Pairs
from lily.model.layers import unit_variance
from lily.model.rotary import rotate, rotation

SILENCE = math.log(1e-5)  # the log-mel's floor; shifted to 0, so that padding reads as silence
FRAME_SECONDS = 0.01  # one log-mel frame
STRIDE = 8  # log-mel frames per token: averages of two, two convolutions of stride 2, one of 1
# Frames that a block needs before and after its own, whole tokens: token n sees frames 8 n - 14 to
# 8 n + 15, and the block's last frame is 8 n + 7 of its last token.
HALO, AFTER = 16, 8
# Recordings at the engine's level: their log-mel falls by so much, on average, from the lowest band
# to the highest, and cepstral coefficient k of 64 bands varies by 10 / (1 + k), 0.33 at least.
CEPSTRAL_FALL = (-2.6, -8.6)
CEPSTRAL_SPREAD, CEPSTRAL_LEAST = 10.0, 0.33
AFTER_GATE = math.sqrt(2)  # a SiLU or GELU passes about half of the power
BLOCK = 1024  # frames ContextReader reads at a time; of fewer, each operation takes longer to start
LAST = 256  # frames: the last block is a multiple of it, so that there are few shapes


@dataclass(frozen=True)
class GlobalContext:
    """What is known of a recording: the encoder's vector and tokens with their times, and pairs."""

    vector: Tensor  # (B, 64)
    tokens: Tensor  # (B, N, 64)
    times: Tensor  # (B, N) float64 on the CPU, centres in seconds
    spacing: float  # seconds between tokens
    valid: Tensor | None = None  # (B, N) bool where recordings of a batch differ in length
    pairs: Pairs | None = None  # of lows and highs; they act on the log-mel, outside the U-Net


class FrameNorm(nn.Module):
    """Normalise over channels and frequency within a frame, then scale and shift each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) to the same shape."""
        # Time is innermost: two means over whole rows are ten times as fast as var_mean's columns.
        mean = x.flatten(1, 2).mean(1)[:, None, None]
        power = x.square().flatten(1, 2).mean(1)[:, None, None]
        variance = (power - mean.square()).clamp(min=0)
        scale = self.weight[:, None, None] * torch.rsqrt(variance + 1e-5)  # (B, C, 1, T)
        return torch.addcmul(self.bias[:, None, None] - mean * scale, x, scale)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer whose only positions are rotations of queries and keys."""

    def __init__(self, hidden: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, feed_forward)
        self.down = nn.Linear(feed_forward, hidden)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(B, N, D) to the same shape; ``mask`` (B, 1, 1, N) is True where tokens are real."""
        batch, count, hidden = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, count, 3 * self.heads, hidden // self.heads)
        qk, v = qkv.transpose(1, 2).split([2 * self.heads, self.heads], dim=1)
        q, k = rotate(qk, *turn).chunk(2, dim=1)  # each (B, H, N, D / H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, hidden))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GlobalAudioEncoder(nn.Module):
    """Log-mel of a whole recording in, GlobalContext out."""

    # All pairs are (frequency, time). Averaging quarters the positions of the first two
    # convolutions, so that all three take a third of the time.
    average = (2, 2)
    kernels = ((8, 3), (4, 3), (4, 3))
    strides = ((4, 2), (2, 2), (2, 1))
    paddings = ((2, 1), (1, 1), (1, 1))

    def __init__(self, config: GlobalEncoderConfig, context_dim: int) -> None:
        super().__init__()
        self.config = config
        widths = (1, *config.channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], self.kernels[i], self.strides[i], self.paddings[i])
            for i in range(len(config.channels))
        )
        self.norms = nn.ModuleList(FrameNorm(width) for width in config.channels)
        bands = config.mel_bins // math.prod(s for s, _ in (self.average, *self.strides))
        heard = config.channels[-1] * bands
        self.project = unit_variance(nn.Linear(heard, config.hidden, bias=False), AFTER_GATE)
        self.layers = nn.ModuleList(
            EncoderLayer(config.hidden, config.heads, config.feed_forward)
            for _ in range(config.layers)
        )
        self.token_mlp = nn.Sequential(
            unit_variance(nn.Linear(config.hidden, config.hidden)),
            nn.GELU(),
            unit_variance(nn.Linear(config.hidden, context_dim), AFTER_GATE),
        )
        self.vector_head = unit_variance(nn.Linear(context_dim, context_dim))

    def forward(
        self, log_mel: Tensor, lengths: Tensor | None = None, pooling: int = 1
    ) -> GlobalContext:
        """Log-mel (B, 1, M, T) to context; ``lengths`` (B,) are frames that are real.

        ``pooling`` tokens are averaged before the transformer even if there is no need to, so that
        training meets the coarse tokens of long recordings.
        """
        if lengths is None:
            lengths = torch.full((log_mel.shape[0],), log_mel.shape[-1], device=log_mel.device)
        features = self.features(log_mel, 0, lengths)  # (B, N, D)
        factor = max(pooling, self.pooling_for(log_mel.shape[-1]))
        sums, counts = _pool_sums(features, _token_counts(lengths, features.shape[1]), factor)
        return self.contextualise(sums / counts.clamp(min=1)[..., None], counts, lengths, factor)

    def pooling_for(self, frames: int) -> int:
        """Tokens averaged into one, so that at most ``tokens_in`` reach the transformer."""
        return max(1, -(-math.ceil(frames / STRIDE) // self.config.tokens_in))

    def features(self, log_mel: Tensor, first: int, lengths: Tensor) -> Tensor:
        """Log-mel frames (B, 1, M, T) from frame ``first`` on, to (B, ceil(T / 8), hidden).

        ``lengths`` (B,) counts the recording's real frames; what lies outside is held at zero after
        every layer, exactly as a convolution's own padding would be.
        """
        x = _masked(log_mel - SILENCE, first, lengths)
        x, step = _averaged(x, self.average), self.average[1]
        first, lengths = first // step, (lengths + step - 1) // step
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            step = convolution.stride[1]
            first, lengths = first // step, (lengths + step - 1) // step
            x = _masked(F.silu(norm(convolution(x))), first, lengths)
        return self.project(x.flatten(1, 2).transpose(1, 2))  # (B, N, hidden)

    def contextualise(
        self, x: Tensor, counts: Tensor, lengths: Tensor, factor: int
    ) -> GlobalContext:
        """Pooled features (B, N, hidden), of ``counts`` (B, N) tokens each, to the context."""
        valid = None if bool((counts > 0).all()) else counts > 0
        mask = None if valid is None else valid[:, None, None, :]
        places = torch.arange(x.shape[1], dtype=torch.float64)
        pairs = self.config.hidden // self.config.heads // 2
        turn = rotation(places, 2.0, pairs, x.device)  # token steps: shortest period is two tokens
        for layer in self.layers:
            x = layer(x, turn, mask)
        tokens = self.token_mlp(x)  # (B, N, 64)
        step = max(1, -(-x.shape[1] // self.config.tokens_out))
        weights = counts.to(tokens.dtype)
        sums, _ = _pool_sums(tokens * weights[..., None], None, step)
        counts, _ = _pool_sums(weights[..., None], None, step)  # (B, N', 1)
        pooled = sums / counts.clamp(min=1)
        mean = sums.sum(1) / counts.sum(1).clamp(min=1)
        return GlobalContext(
            vector=self.vector_head(mean),
            tokens=pooled,
            times=_bin_centres(lengths, pooled.shape[1], factor * step),
            spacing=factor * step * STRIDE * FRAME_SECONDS,
            valid=None if valid is None else counts[..., 0] > 0,
        )


def token_loss(context: GlobalContext, original: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean square difference of the tokens and the original's own cepstra, scaled.

    ``original`` (B, T, M) is the log-mel before it was degraded, of ``lengths`` (B,) real frames.
    Cepstra, because their coefficients vary independently and are scaled alike: plain spectra are
    mostly loudness, which the U-Net sees anyway. Without this loss the tokens became a constant.
    """
    count, bands = context.tokens.shape[1:]
    bands_of = F.adaptive_avg_pool1d(original, bands)  # (B, T, bands)
    fall = torch.linspace(*CEPSTRAL_FALL, bands, device=original.device)
    cepstra = (bands_of - fall) @ _cepstral(bands, original.device)
    real = torch.ones(cepstra.shape[:2], device=cepstra.device)
    if lengths is not None:
        places = torch.arange(cepstra.shape[1], device=cepstra.device)
        real = (places < lengths[:, None]).float()
    sums, counts = _pool_sums(cepstra, real, round(context.spacing / FRAME_SECONDS))
    sums, counts = sums[:, :count], counts[:, :count]
    errors = (context.tokens - sums / counts.clamp(min=1)[..., None]).square().mean(-1)
    return (errors * counts).sum() / counts.sum()


def _cepstral(bands: int, device: torch.device) -> Tensor:
    """The cosine transform (bands, coefficients), each divided by how much it varies."""
    orders = torch.arange(bands, device=device)
    angles = (orders[:, None] + 0.5) * orders * (math.pi / bands)
    # Fewer bands than 64 are fewer terms in each sum: the spread falls with their root.
    spread = (CEPSTRAL_SPREAD / (1 + orders)).clamp(min=CEPSTRAL_LEAST) * math.sqrt(bands / 64)
    return angles.cos() * math.sqrt(2 / bands) / spread


class ContextReader:
    """Read a recording of known length block by block; memory does not grow with it."""

    def __init__(self, encoder: GlobalAudioEncoder, frames: int) -> None:
        self.encoder = encoder
        self.frames = frames
        parameter = next(encoder.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.factor = encoder.pooling_for(frames)
        self._lengths = torch.tensor([frames], device=self.device)
        bins = -(-math.ceil(frames / STRIDE) // self.factor)
        # Summed on the CPU: a GPU adds repeated indices in any order, and bits would vary.
        self._sums = torch.zeros(1, bins, encoder.config.hidden)
        self._counts = torch.zeros(1, bins)
        # Frames before the start are masked to zero.
        self._held = torch.zeros(HALO, encoder.config.mel_bins)
        self._next = 0  # first frame of the next block

    def push(self, log_mel: Tensor) -> None:
        """Take the next log-mel frames (L, M)."""
        self._held = torch.cat([self._held, log_mel.float().cpu()])
        while self._held.shape[0] >= HALO + BLOCK + AFTER:
            self._read(BLOCK)

    def finish(self) -> GlobalContext:
        """The context of the whole recording; every frame must have been pushed."""
        while self._next < self.frames:
            count = min(BLOCK, -(-(self.frames - self._next) // LAST) * LAST)
            missing = HALO + count + AFTER - self._held.shape[0]
            self._held = F.pad(self._held, (0, 0, 0, max(missing, 0)))
            self._read(count)
        means = self._sums / self._counts.clamp(min=1)[..., None]
        with torch.inference_mode():
            return self.encoder.contextualise(
                means.to(self.device, self.dtype),
                self._counts.to(self.device),
                self._lengths,
                self.factor,
            )

    def _read(self, count: int) -> None:
        """Read the next ``count`` frames."""
        block = self._held[: HALO + count + AFTER].T[None, None].to(self.device, self.dtype)
        with torch.inference_mode():
            features = self.encoder.features(block, self._next - HALO, self._lengths)
        features = features[:, HALO // STRIDE :]
        first = self._next // STRIDE
        last = min(first + count // STRIDE, math.ceil(self.frames / STRIDE))
        places = torch.arange(first, last) // self.factor
        self._sums.index_add_(1, places, features[:, : last - first].float().cpu())
        self._counts.index_add_(1, places, torch.ones(1, last - first))
        self._held = self._held[count:]
        self._next += count


def _averaged(x: Tensor, cell: tuple[int, int]) -> Tensor:
    """Means (B, 1, M', T') over cells of (bins, frames); zeros follow a T that is no multiple.

    Sums of slices, because ``avg_pool2d`` first copies a log-mel whose bins are innermost.
    """
    bins, frames = cell
    if extra := -x.shape[-1] % frames:
        x = F.pad(x, (0, extra))
    x = reduce(torch.add, [x[..., place::frames] for place in range(frames)])
    x = reduce(torch.add, [x[..., place::bins, :] for place in range(bins)])
    return (x / (bins * frames)).contiguous()


def _masked(x: Tensor, first: int, lengths: Tensor) -> Tensor:
    """``x`` (B, ..., T), zero outside the real frames; the first is frame ``first``."""
    if first >= 0 and first + x.shape[-1] <= int(lengths.min()):
        return x
    places = torch.arange(first, first + x.shape[-1], device=x.device)
    real = (places >= 0) & (places < lengths[:, None])  # (B, T)
    return x * real[:, None, None, :].to(x.dtype)


def _token_counts(lengths: Tensor, tokens: int) -> Tensor:
    """1 where a token is real, 0 where it is padding, (B, N)."""
    places = torch.arange(tokens, device=lengths.device)
    return (places * STRIDE < lengths[:, None]).float()


def _pool_sums(x: Tensor, weights: Tensor | None, factor: int) -> tuple[Tensor, Tensor]:
    """Sums over bins of ``factor`` tokens, (B, N, D) to (B, ceil(N / factor), D), and weights."""
    weights = torch.ones(x.shape[:2], device=x.device) if weights is None else weights
    extra = -x.shape[1] % factor
    x = F.pad(x * weights[..., None].to(x.dtype), (0, 0, 0, extra))
    weights = F.pad(weights, (0, extra))
    bins = x.shape[1] // factor
    return x.unflatten(1, (bins, factor)).sum(2), weights.unflatten(1, (bins, factor)).sum(2)


def _bin_centres(lengths: Tensor, bins: int, factor: int) -> Tensor:
    """Centre times (B, bins) in float64 seconds; a recording's last bin ends where it ends."""
    width = factor * STRIDE
    starts = torch.arange(bins, dtype=torch.float64) * width
    stops = torch.minimum(starts + width, lengths.cpu().double()[:, None])
    return (starts + torch.maximum(stops, starts)) / 2 * FRAME_SECONDS
