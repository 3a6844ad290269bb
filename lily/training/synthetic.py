"""Synthetic crops for the carrier vocoder: tones of known partials and attacks, never stored.

Five kinds, drawn at random: a harmonic tone, a chord, struck inharmonic modes, plucked notes, and
bursts of coloured noise. Partials reach 20 kHz. Frequencies are in Hz, times in seconds at 48 kHz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SAMPLE_RATE = 48_000
TOP_HZ = 20_000.0
PITCH_HZ = (80.0, 1200.0)  # log-uniform
PEAK = 0.5


def synthetic(count: int, generator: torch.Generator) -> Tensor:
    """A crop (count,) with its peak at 0.5."""
    kinds = (_harmonic, _chord, _modes, _plucks, _bursts)
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    samples = kind(count, generator)
    hiss = 10 ** (_uniform(generator, -5.0, -2.5))  # no recording is without any
    samples = samples / samples.abs().max().clamp(min=1e-6)
    samples = samples + hiss * torch.randn(count, generator=generator)
    return samples * (PEAK / samples.abs().max())


def harmonic_tone(
    pitch: Tensor, roll_off: float, generator: torch.Generator, top_hz: float = TOP_HZ
) -> Tensor:
    """Partials k x ``pitch`` (T,) Hz of amplitude k^-roll_off, random phases, to ``top_hz``."""
    turns = pitch.double().cumsum(0) / SAMPLE_RATE
    total = torch.zeros(len(pitch), dtype=torch.float64)
    for k in range(1, int(top_hz / float(pitch.max())) + 1):
        phase = float(torch.rand((), generator=generator))
        total += k**-roll_off * torch.sin(2 * math.pi * ((k * turns + phase) % 1.0))
    return total.float()


def _harmonic(count: int, generator: torch.Generator) -> Tensor:
    tone = harmonic_tone(_pitch(count, generator), _uniform(generator, 0.3, 1.4), generator)
    return tone * _envelope(count, generator)


def _chord(count: int, generator: torch.Generator) -> Tensor:
    total = torch.zeros(count)
    for _ in range(2 + int(torch.randint(3, (), generator=generator))):
        level = 10 ** (-_uniform(generator, 0, 12) / 20)
        total += level * _harmonic(count, generator)
    return total


def _modes(count: int, generator: torch.Generator) -> Tensor:
    """A struck bar or bell: 10 to 60 decaying sines at places of their own."""
    time = torch.arange(count) / SAMPLE_RATE
    start = int(torch.randint(max(1, count // 2), (), generator=generator))
    number = 10 + int(torch.randint(50, (), generator=generator))
    hz = 300 * (TOP_HZ / 300) ** torch.rand(number, generator=generator)
    decay = 10 ** (-1.3 + 1.5 * torch.rand(number, generator=generator))  # seconds to 1/e
    level = 10 ** (-1.5 * torch.rand(number, generator=generator)) * (300 / hz).sqrt()
    phase = 2 * math.pi * torch.rand(number, generator=generator)
    ringing = torch.exp(-time[None] / decay[:, None]) * torch.sin(
        2 * math.pi * hz[:, None] * time[None] + phase[:, None]
    )
    total = torch.zeros(count)
    total[start:] = (level[:, None] * ringing).sum(0)[: count - start]
    return total


def _plucks(count: int, generator: torch.Generator) -> Tensor:
    """Two to eight notes whose upper partials fade first."""
    total = torch.zeros(count)
    for _ in range(2 + int(torch.randint(7, (), generator=generator))):
        start = int(torch.randint(count - 4800, (), generator=generator))
        length = count - start
        pitch = torch.full((length,), _log_uniform(generator, *PITCH_HZ))
        time = torch.arange(length) / SAMPLE_RATE
        bright = harmonic_tone(pitch, _uniform(generator, 0.2, 0.8), generator)
        dull = harmonic_tone(pitch, _uniform(generator, 1.2, 2.0), generator)
        fast, slow = _log_uniform(generator, 0.02, 0.3), _log_uniform(generator, 0.2, 2.0)
        total[start:] += bright * torch.exp(-time / fast) + dull * torch.exp(-time / slow)
    return total


def _bursts(count: int, generator: torch.Generator) -> Tensor:
    """Strokes of coloured noise, a few to dozens a second."""
    envelope = torch.full((count,), 10 ** _uniform(generator, -3, -1.5))
    time = torch.arange(count) / SAMPLE_RATE
    for _ in range(1 + int(torch.randint(12, (), generator=generator))):
        start = int(torch.randint(count - 480, (), generator=generator))
        decay = _log_uniform(generator, 0.003, 0.2)
        level = 10 ** (-_uniform(generator, 0, 24) / 20)
        envelope[start:] += level * torch.exp(-time[: count - start] / decay)
    spectrum = torch.fft.rfft(torch.randn(count, generator=generator))
    hz = torch.fft.rfftfreq(count, 1 / SAMPLE_RATE).clamp(min=50)
    return envelope * torch.fft.irfft(spectrum * hz ** -_uniform(generator, 0, 0.8), n=count)


def _pitch(count: int, generator: torch.Generator) -> Tensor:
    """A pitch (count,) with vibrato and drift, or without."""
    time = torch.arange(count) / SAMPLE_RATE
    depth = 0.0
    if float(torch.rand((), generator=generator)) < 0.5:
        depth = _log_uniform(generator, 0.001, 0.01)
    rate, phase = _uniform(generator, 3, 8), _uniform(generator, 0, 2 * math.pi)
    drift = _uniform(generator, -0.01, 0.01) if depth else 0.0
    bend = depth * torch.sin(2 * math.pi * rate * time + phase) + drift * time
    return _log_uniform(generator, *PITCH_HZ) * (1 + bend)


def _envelope(count: int, generator: torch.Generator) -> Tensor:
    """A level (count,) that holds, or rises at once and falls."""
    if float(torch.rand((), generator=generator)) < 0.5:
        return torch.ones(count)
    start = int(torch.randint(count // 2, (), generator=generator))
    envelope = torch.zeros(count)
    time = torch.arange(count - start) / SAMPLE_RATE
    attack = _log_uniform(generator, 0.001, 0.03)
    fall = _log_uniform(generator, 0.1, 2.0)
    envelope[start:] = (1 - torch.exp(-time / attack)) * torch.exp(-time / fall)
    return envelope


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    return math.exp(_uniform(generator, math.log(low), math.log(high)))
