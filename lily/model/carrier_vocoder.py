"""The small preset's vocoder that hears the recording: gates mix its carriers, a shape sharpens it.

The trunk is the ISTFT vocoder's. What the recording says of tonality and attacks joins it before
its last blocks; a gate head then mixes white noise with the aligned and the drawn copy of the
recording's own spectrum (``lily/dsp/carriers.py``), in bands and 200 frames a second, and a shape
head sets how closely four bands above the cutoff follow the short-time level of the recording's
top. Without a guide it is the ISTFT vocoder.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lily.config.presets import CarrierVocoderConfig
from lily.dsp.carriers import FEATURES, SAMPLE_RATE, SOURCE_END, Guide
from lily.dsp.cutoffs import LOWEST_TRAINED_HZ
from lily.model.istft_vocoder import ConvNeXtBlock, IstftVocoder
from lily.model.layers import start_normal

CARRIERS = 3  # white noise, aligned copy, drawn copy
START_DB = (0.0, -6.0, -12.0)  # open enough for gradients; the aligned copy is learned first
# Per unit of 2 x (how clearly the recorded spectrum repeats itself) - 1: where it does, the aligned
# copy's lines are right and the drawn copy's are not.
START_SLOPES_DB = (0.0, 6.0, -6.0)
LAG_FEATURES = 2  # the first of the features: that clarity, and the lag
GATE_RANGE = (-6.0, 3.0)  # log gain: -52 to +26 dB
WHITENED_BINS = 41  # 1.9 kHz: wider than the gap between the partials of most tones
SHAPE_BANDS = 4
SHAPE_TOP_HZ = 20_000.0  # the four bands divide cutoff to here by equal ratios
EXPONENT_START, EXPONENT_MOST = 0.7, 1.5
OFFSET_START = 0.02  # of the level, so that a gap between attacks does not become silence
BELOW = 0.95  # x cutoff: nothing below is shaped


class CarrierVocoder(IstftVocoder):
    """Log-mel, white noise and a guide in, samples out."""

    uses_recording = True

    def __init__(self, config: CarrierVocoderConfig) -> None:
        super().__init__(config)
        bands, frames = config.gate_bands, config.frames_per_mel
        self.guided_blocks, self.sharpen = config.guided_blocks, config.sharpen
        tilt = config.lines_db * math.log(10) / 20
        # Numbers, not sums of tensors: PyTorch's compiler describes those on the meta device.
        tilts = torch.tensor([[-tilt], [tilt], [tilt]])
        self.register_buffer("tilt", tilts, persistent=False)  # (carriers, 1)
        self.adapt = nn.Conv1d(FEATURES, config.dim, 3, padding=1)
        nn.init.zeros_(self.adapt.weight)
        nn.init.zeros_(self.adapt.bias)
        self.side = nn.Conv1d(FEATURES, config.side, 7, padding=3)
        self.side_block = ConvNeXtBlock(config.side, 3 * config.side, 0.5)
        heads = config.dim + config.side + LAG_FEATURES
        self.gates = nn.Linear(heads, frames * CARRIERS * bands)
        self.shape = nn.Linear(heads, 2 * SHAPE_BANDS)
        start_normal(self.gates.weight, 1e-3)
        start_normal(self.shape.weight, 1e-3)
        ratio = EXPONENT_START / EXPONENT_MOST
        # On the CPU even where parameters are only described: PyTorch's compiler describes sums.
        with torch.no_grad(), torch.device("cpu"):
            start, slope = torch.tensor([START_DB, START_SLOPES_DB]) * math.log(10) / 20
            self.gates.bias.copy_(start[None, :, None].expand(frames, -1, bands).flatten())
            slopes = slope[None, :, None].expand(frames, -1, bands).flatten()
            self.gates.weight[:, -LAG_FEATURES].copy_(slopes)
            self.shape.bias[:SHAPE_BANDS] = math.log(ratio / (1 - ratio))
            self.shape.bias[SHAPE_BANDS:] = 0.0

    def forward(
        self, log_mel: Tensor, noise: Tensor | None = None, guide: Guide | None = None
    ) -> Tensor:
        """Log-mel (B, M, L), unit white noise (B, L * hop) and a guide of one channel a row."""
        if guide is None:
            return super().forward(log_mel, noise)
        if noise is None:
            raise ValueError("CarrierVocoder needs noise of shape (B, L * hop)")
        hidden, heads = self._hidden(log_mel, guide.features)
        gain, real, imaginary = self.split_head(hidden)
        gates = self._gates(heads)  # (B, S, carriers, bins)
        noisy = gates[:, :, 0] * gain.clamp(max=4.0).exp()
        mixed = noisy * self.analyse(noise.float()) + torch.complex(real, imaginary)
        cutoff = self._frame_cutoffs(guide.cutoff_hz.cpu())
        first = self._first_copied(cutoff)
        cutoff = cutoff.to(log_mel.device)
        mixed = self._with_copies(mixed, gates[:, :, 1:], guide.copies[:, 0], cutoff, first)
        return self._shaped(self.base(log_mel) * mixed, heads, guide.level, cutoff)

    def _frame_cutoffs(self, cutoff_hz: Tensor) -> Tensor:
        """Cutoffs (B, L) for each frame (B, S, 1), or for all alike (B, 1, 1) if none changes."""
        if torch.equal(cutoff_hz, cutoff_hz[:, :1].expand_as(cutoff_hz)):
            return cutoff_hz[:, :1, None]
        return cutoff_hz.repeat_interleave(self.config.frames_per_mel, 1)[..., None]

    def _first_copied(self, cutoff: Tensor) -> int:
        """The bin below which no frame has a copy, for cutoffs on the CPU."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, self.bins)
        return int((hz < SOURCE_END * cutoff.min()).sum())

    def _with_copies(
        self, mixed: Tensor, gates: Tensor, copies: Tensor, cutoff: Tensor, first: int
    ) -> Tensor:
        """Add the whitened copies (B, 2, n) under their gates to a spectrum (B, S, bins)."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, self.bins, device=cutoff.device)
        copied = (hz >= SOURCE_END * cutoff).float()
        above = copied[..., first:]
        count = _local_sum(above).clamp(min=1)
        added = torch.zeros_like(mixed[..., first:])
        for place, copy in enumerate(copies.unbind(1)):
            white = _whiten(self.analyse(copy)[..., first:], above, count)
            added = added + gates[:, :, place, first:] * white
        return mixed + F.pad(added, (first, 0))

    def _hidden(self, log_mel: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's output (B, L, dim), and what the gate and shape heads read (B, L, heads)."""
        h = self.embedded(log_mel)
        first_guided = len(self.blocks) - self.guided_blocks
        for place, block in enumerate(self.blocks):
            h = block(h + self.adapt(features) if place == first_guided else h)
        h = self.norm_out(h.transpose(1, 2))
        side = self.side_block(F.gelu(self.side(features))).transpose(1, 2)
        lag = features[:, :LAG_FEATURES].transpose(1, 2)
        return h, torch.cat([h, side, lag], 2)

    def _gates(self, heads: Tensor) -> Tensor:
        bands, frames = self.config.gate_bands, self.config.frames_per_mel
        logs = self.gates(heads).float().unflatten(2, (frames, CARRIERS, bands)).flatten(1, 2)
        logs = _bounded(_tilted(logs.clamp(*GATE_RANGE), self.tilt)).flatten(0, 1)
        wide = F.interpolate(logs, size=self.bins, mode="linear", align_corners=True)
        return wide.exp().unflatten(0, (heads.shape[0], -1))

    def _shaped(self, spectrum: Tensor, heads: Tensor, level: Tensor, cutoff: Tensor) -> Tensor:
        """Synthesise (B, S, bins) with four bands above the cutoff following ``level`` (B, 4 L)."""
        settings = self.shape(heads).float().transpose(1, 2)  # (B, 8, L)
        exponent = EXPONENT_MOST * (settings[:, :SHAPE_BANDS] + self.sharpen).sigmoid()
        offset = OFFSET_START * settings[:, SHAPE_BANDS:].clamp(-3.0, 3.0).exp()
        exponent, offset = (
            F.interpolate(x, size=level.shape[-1], mode="linear") for x in (exponent, offset)
        )
        gains = (exponent / 2 * (level[:, None] + offset).log()).exp()
        gains = F.interpolate(gains, size=spectrum.shape[1] * self.hop, mode="linear")
        frames = torch.fft.irfft(spectrum * (1 - self._rise(cutoff, 0)), n=self.config.n_fft)
        for band in range(SHAPE_BANDS):
            mask = self._rise(cutoff, band) - self._rise(cutoff, band + 1)
            part = torch.fft.irfft(spectrum * mask, n=self.config.n_fft)
            frames.addcmul_(part, self.frames(gains[:, band]))
        return self.overlap_add(frames)

    def _rise(self, cutoff: Tensor, band: int) -> Tensor:
        """0 below a band's lower edge, 1 above; (B, S, bins). The last band has no upper edge."""
        hz = torch.linspace(0, SAMPLE_RATE / 2, self.bins, device=cutoff.device)
        if band == SHAPE_BANDS:
            return torch.zeros_like(hz)
        top = (1.1 * cutoff).clamp(min=SHAPE_TOP_HZ)
        edge = cutoff * (top / cutoff) ** (band / SHAPE_BANDS)
        width = 0.1 if band else 1 - BELOW
        return ((hz / edge - BELOW) / width).clamp(0, 1)


def _tilted(logs: Tensor, tilt: Tensor) -> Tensor:
    """Log gains (B, S, carriers, bands) plus ``tilt`` (carriers, 1), at the same total power."""
    tilted = logs + tilt
    power, before = ((2 * x).logsumexp(2, keepdim=True) for x in (tilted, logs))
    return tilted + (before - power) / 2


def _bounded(logs: Tensor) -> Tensor:
    """Log gains (B, S, carriers, bands); bands that are not trained have unit power at most."""
    hz = torch.linspace(0, SAMPLE_RATE / 2, logs.shape[-1], device=logs.device)
    excess = ((2 * logs).logsumexp(2, keepdim=True) / 2).clamp(min=0)
    return logs - excess * (hz < LOWEST_TRAINED_HZ)


def _whiten(copy: Tensor, copied: Tensor, count: Tensor) -> Tensor:
    """Spectra (B, S, bins) to unit mean magnitude over 41 bins of those that were ``copied``.

    ``copied`` is 1 where there is a copy and 0 elsewhere, ``count`` its local sum.
    """
    power = (copy.real.square() + copy.imag.square()) * copied
    level = _local_sum(power) / count + 1e-7
    return copy * (copied * (2 / math.sqrt(math.pi)) * level.rsqrt())


def _local_sum(x: Tensor) -> Tensor:
    """The sum (B, S, bins) over 41 bins around each, by doubling: 41 = 32 + 8 + 1."""
    bins, half = x.shape[-1], WHITENED_BINS // 2
    sums = {1: F.pad(x, (half, half))}
    for width in (1, 2, 4, 8, 16):
        shorter = sums[width]
        sums[2 * width] = shorter[..., :-width] + shorter[..., width:]
    return sums[32][..., :bins] + sums[8][..., 32 : 32 + bins] + sums[1][..., 40 : 40 + bins]
