"""Two controls that know the reference: what a perfect envelope is worth, and what blur is worth.

``oracle`` is fresh noise with the reference's own third-octave levels, frame by frame, above the
cutoff: right envelope, wrong samples. ``smeared`` is the same with levels averaged over 0.3 s.
Frames are 512 samples every 128 at 48 kHz.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lily.dsp.filters import filter_whole, highpass_kernel
from lily.evaluation.metrics import SAMPLE_RATE, THIRD

N_FFT, HOP = 512, 128
SMEAR_SECONDS = 0.3
ENVELOPE_CONTROLS = ("oracle", "smeared")


def envelope_control(
    name: str, reference: Tensor, degraded: Tensor, cutoff_hz: float, seed: int
) -> Tensor:
    """The degraded recording (C, T) with the band above the cutoff of one of ENVELOPE_CONTROLS."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(reference.shape[-1], generator=generator)
    smear = round(SMEAR_SECONDS * SAMPLE_RATE / HOP) if name == "smeared" else 1
    highpass = highpass_kernel(0.95 * cutoff_hz, 1.05 * cutoff_hz, SAMPLE_RATE)
    made = torch.stack([_shaped(channel, white, cutoff_hz, smear) for channel in reference])
    return degraded + filter_whole(made - degraded, highpass)


def _shaped(channel: Tensor, white: Tensor, cutoff_hz: float, smear: int) -> Tensor:
    """White noise (T,) with the third-octave levels of a channel (T,) from the cutoff up."""
    window = torch.hann_window(N_FFT)
    target, noise = (
        torch.stft(x, N_FFT, HOP, window=window, return_complex=True) for x in (channel, white)
    )
    gains = torch.zeros_like(target.real)
    for low, high in _third_octaves(cutoff_hz):
        power = target[low:high].abs().square().mean(0)
        if smear > 1:
            half = smear // 2
            power = F.avg_pool1d(power[None], 2 * half + 1, 1, half, count_include_pad=False)[0]
        gains[low:high] = (power / window.square().sum()).sqrt()
    return torch.istft(noise * gains, N_FFT, HOP, window=window, length=len(channel))


def _third_octaves(cutoff_hz: float) -> list[tuple[int, int]]:
    """Bins of third octaves from a third octave below the cutoff, which fills the crossover, up."""
    edges = [max(1, round(cutoff_hz / THIRD * N_FFT / SAMPLE_RATE))]
    while edges[-1] < N_FFT // 2 + 1:
        edges.append(min(N_FFT // 2 + 1, max(edges[-1] + 1, round(edges[-1] * THIRD))))
    return list(zip(edges, edges[1:], strict=False))
