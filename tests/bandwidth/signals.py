"""Signals that stand for recordings, and meters of them."""

import torch

from lily.bandwidth.meter import BandwidthMeter
from lily.dsp.filters import filter_whole, lowpass_kernel

RATE = 48_000


def music(seed: int, seconds: float, slope_db: float = -6.0) -> torch.Tensor:
    """Noise (1, T) in bursts and pauses, falling by ``slope_db`` an octave, full band."""
    generator = torch.Generator().manual_seed(seed)
    length = int(seconds * RATE)
    spectrum = torch.fft.rfft(torch.randn(1, length, generator=generator).double())
    octaves = torch.log2(torch.linspace(0, RATE / 2, spectrum.shape[-1]).clamp(min=100.0) / 100)
    shaped = torch.fft.irfft(spectrum * 10 ** (slope_db * octaves / 20), n=length)
    bursts = torch.rand(1, 1, max(2, int(seconds * 4)), generator=generator)
    bursts = bursts * (torch.rand(bursts.shape, generator=generator) > 0.3)
    x = shaped * torch.nn.functional.interpolate(bursts, length, mode="linear")[0].square()
    return (0.5 * x / x.abs().max()).float()


def low(x: torch.Tensor, cutoff_hz: float) -> torch.Tensor:
    return filter_whole(x, lowpass_kernel(0.97 * cutoff_hz, 1.03 * cutoff_hz, RATE))


def meter_of(x: torch.Tensor, block: int = 50_000, **options: float) -> BandwidthMeter:
    meter = BandwidthMeter(**options)
    for part in x.split(block, dim=-1):
        meter.push(part)
    return meter


def hiss(x: torch.Tensor, near_hz: float, under_db: float, slope_db: float = 0.0) -> torch.Tensor:
    """Steady noise (1, T), ``under_db`` below ``x`` in the third of an octave below ``near_hz``.

    Its level changes by ``slope_db`` an octave.
    """
    generator = torch.Generator().manual_seed(99)
    noise = torch.randn(1, x.shape[-1], generator=generator, dtype=torch.float64)
    hz = torch.linspace(0, RATE / 2, x.shape[-1] // 2 + 1).clamp(min=50.0)
    spectrum = torch.fft.rfft(noise) * (hz / near_hz) ** (slope_db / 6.02)
    band = (hz > near_hz / 2 ** (1 / 3)) & (hz < 0.95 * near_hz)
    mine, other = (s[:, band].abs().square().mean() for s in (spectrum, torch.fft.rfft(x.double())))
    gain = (other / mine).sqrt() * 10 ** (-under_db / 20)
    return (gain * torch.fft.irfft(spectrum, n=x.shape[-1])).float()
