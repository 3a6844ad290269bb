"""Sharpen the generated band: let it follow the short-time level of the recording's own top.

A vocoder driven by 43 ms windows cannot place an attack. The recording's top (0.4 to 0.95 x cutoff)
can: r is its power in windows of 5.3 ms over its mean over 43 ms, and the generated band is
multiplied by (r + 0.02)^(exponent / 2). The exponent rises from 0.5 to 1.3 as the peak of r within
10 ms rises from 1.5 to 3, so that attacks are sharpened and steady sounds mostly left alone. The
idea is inter-TES of extended HE-AAC (ISO/IEC 23003-3), with a rule in place of its parameters.

Gains are read from the mean power of all channels, so the stereo image is kept; where channels
differ in their cutoffs, each has gains of its own. Signals are (C, n) at 48 kHz.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.cutoffs import FULL_BAND_HZ, Cutoffs, PiecewiseFir
from lily.dsp.filters import highpass_kernel

SAMPLE_RATE = 48_000
WINDOW, HOP = 256, 120  # samples: 5.3 ms, 400 frames a second
MEAN_FRAMES = 19  # 43 ms under a Hann window
TOP = (0.4, 0.95)  # x cutoff: the part of the recording whose level is followed
LOWEST_BIN = 3  # below 560 Hz a window of 5.3 ms shows the wave's periods, not its level
FLOOR = 1e-7  # of power at the level of the networks: under it nothing is followed
OFFSET = 0.02  # of r: the gap between two attacks is not made silent
PEAK_FRAMES, SMOOTH_FRAMES = 9, 5  # 10 ms to each side, then a mean
# On 24 held-out clips at 8 kHz the sharpest rises grow from 10.2 to 15.4 dB in 4 ms; a fixed
# exponent of 1 gives 15.0 and correlates less with the recording's envelope.
EXPONENTS, PEAKS = (0.5, 1.3), (1.5, 3.0)
BLOCK, HALO = 48_000, 2_400  # samples: gains are computed in blocks at fixed places
SEPARATED = (0.75, 0.9)  # x cutoff: only what lies above is multiplied


class TemporalShape:
    """Multiply the generated band by gains from the recording, stream to stream.

    Gains are computed in blocks at fixed places with a halo, so the lengths of the blocks that are
    pushed do not change one bit. Only what lies above 0.75 to 0.9 x the cutoff is kept: the splice
    takes nothing from below, and a loud bass must not be modulated into the highs.
    """

    def __init__(self, cutoffs: Cutoffs, *, gain: float | Tensor) -> None:
        """``gain``, or gains (C, 1), bring the recording to the level of the networks."""
        self._cutoffs, self._gain = cutoffs, gain
        self._highpass = PiecewiseFir(cutoffs, _separating_kernel)
        self._analysed: Tensor | None = None  # recording from HALO before the next block of gains
        self._gains: Tensor | None = None  # of the next samples: (n,), or (C, n) by channel
        self._high: Tensor | None = None  # generated, from the same sample on
        self._recorded: Tensor | None = None  # the recording, from the same sample on
        self._shape: torch.Size | None = None  # of the generated blocks but for their length
        self._block_start = 0
        self._pushed = 0  # samples of the recording

    def push(self, recording: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Take blocks (C, n) of the recording and (..., n) of what is generated.

        Returns the recording (C, m) and the shaped band (..., m) that are final by now, in step.
        """
        if self._analysed is None or self._recorded is None:
            self._analysed = recording.new_zeros(recording.shape[0], HALO)
            self._recorded = recording[:, :0]
        self._shape = generated.shape[:-1]
        self._analysed = torch.cat([self._analysed, recording * self._gain], dim=-1)
        self._recorded = torch.cat([self._recorded, recording], dim=-1)
        self._pushed += recording.shape[-1]
        while self._analysed.shape[-1] >= BLOCK + 2 * HALO:
            self._next_gains()
        return self._multiplied(self._highpass.push(generated.flatten(0, -2)))

    def flush(self) -> tuple[Tensor, Tensor]:
        """Return the rest; in total as much as was pushed. Raises InputError if nothing was."""
        high = self._highpass.flush()
        assert self._analysed is not None
        while self._block_start < self._pushed:
            missing = BLOCK + 2 * HALO - self._analysed.shape[-1]
            self._analysed = F.pad(self._analysed, (0, max(0, missing)))
            self._next_gains()
        return self._multiplied(high)

    def _next_gains(self) -> None:
        """Compute the gains of one block from its samples and their halo."""
        assert self._analysed is not None
        samples = self._analysed[:, : BLOCK + 2 * HALO]
        tracks = self._cutoffs.channels
        if tracks:
            pairs = zip(samples.split(1), tracks, strict=True)
            made = torch.stack([self._followed(own, track) for own, track in pairs])
        else:
            made = self._followed(samples, self._cutoffs)
        self._gains = made if self._gains is None else torch.cat([self._gains, made], dim=-1)
        self._analysed = self._analysed[:, BLOCK:]
        self._block_start += BLOCK

    def _followed(self, samples: Tensor, cutoffs: Cutoffs) -> Tensor:
        """The gains (BLOCK,) that follow channels (C, BLOCK + 2 HALO) of the same cutoffs."""
        frames = torch.arange(samples.shape[-1] // HOP)
        places = self._block_start - HALO + frames * HOP + HOP // 2
        cutoff_hz = cutoffs.at(places).float()[None]
        shaped = shape_gains(short_levels(samples[None], cutoff_hz, [TOP])[:, 0])
        shaped = F.interpolate(shaped[:, None], size=samples.shape[-1], mode="linear")
        return shaped[0, 0, HALO:-HALO]

    def _multiplied(self, high: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply what has both its gains and its samples."""
        assert self._recorded is not None and self._shape is not None
        self._high = high if self._high is None else torch.cat([self._high, high], dim=-1)
        gains = torch.zeros(0) if self._gains is None else self._gains
        count = min(self._high.shape[-1], gains.shape[-1])
        made = self._high[:, :count].unflatten(0, self._shape) * gains[..., :count]
        recorded, self._recorded = self._recorded[:, :count], self._recorded[:, count:]
        self._high = self._high[:, count:]
        self._gains = None if self._gains is None else self._gains[..., count:]
        return recorded, made


def _separating_kernel(cutoff_hz: float) -> Tensor:
    """The high-pass (taps,) of what is multiplied; a full band is passed on as it is."""
    if cutoff_hz >= FULL_BAND_HZ:
        return torch.ones(1, dtype=torch.float64)
    low, high = SEPARATED
    return highpass_kernel(low * cutoff_hz, high * cutoff_hz, SAMPLE_RATE)


def short_levels(samples: Tensor, cutoff_hz: Tensor, bands: list[tuple[float, float]]) -> Tensor:
    """Power of bands in 5.3 ms windows over its mean over 43 ms: (B, bands, n / 120).

    ``samples`` (B, C, n), ``cutoff_hz`` (B, n / 120); bands are multiples of the cutoff. A band
    without a bin has 1 throughout.
    """
    edge = (WINDOW - HOP) // 2
    padded = F.pad(samples, (edge, WINDOW - HOP - edge))
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.fft.rfft(padded.unfold(-1, WINDOW, HOP) * window)
    power = (spectrum.real.square() + spectrum.imag.square()).mean(1)  # (B, n / 120, F)
    summed = F.pad(power.double().cumsum(2), (1, 0))
    bins = cutoff_hz * WINDOW / SAMPLE_RATE
    levels = []
    for low, high in bands:
        first = (low * bins).round().long().clamp(LOWEST_BIN, power.shape[2])
        stop = torch.maximum((high * bins).round().long(), first + 1)
        stop = torch.where(high * bins > LOWEST_BIN, stop, first).clamp(max=power.shape[2])
        inside = summed.gather(2, stop[..., None]) - summed.gather(2, first[..., None])
        levels.append(_over_mean(inside[..., 0].float()))
    return torch.stack(levels, 1)


def shape_gains(level: Tensor) -> Tensor:
    """Gains (B, N) for levels r (B, N) at 400 frames a second."""
    half = PEAK_FRAMES // 2
    peak = F.max_pool1d(level[:, None], PEAK_FRAMES, 1, half)
    peak = F.avg_pool1d(peak, SMOOTH_FRAMES, 1, SMOOTH_FRAMES // 2, count_include_pad=False)[:, 0]
    place = ((peak - PEAKS[0]) / (PEAKS[1] - PEAKS[0])).clamp(0, 1)
    exponent = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * place
    return (level + OFFSET) ** (exponent / 2)


def _over_mean(power: Tensor) -> Tensor:
    """Power (B, N) over its weighted mean over 19 frames."""
    weights = torch.hann_window(MEAN_FRAMES + 2, device=power.device)[1:-1]
    half = MEAN_FRAMES // 2
    padded = F.pad(power[:, None], (half, half), mode="replicate")
    mean = F.conv1d(padded, (weights / weights.sum())[None, None])[:, 0]
    return (power + FLOOR) / (mean + FLOOR)
