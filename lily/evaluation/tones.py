"""Twenty harmonic tones, whose partials above a cutoff are known: the synthetic test of ``match``.

Pitches from 100 to 1000 Hz by equal ratios, partials of amplitude 1 / k^0.8 up to 20 kHz, every
second one with 0.3 % of vibrato at 5 Hz, over a noise floor of -80 dB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lily.evaluation.metrics import SAMPLE_RATE
from lily.training.synthetic import harmonic_tone

COUNT, SECONDS = 20, 3.0
LOWEST_HZ, HIGHEST_HZ = 100.0, 1000.0
VIBRATO, VIBRATO_HZ = 0.003, 5.0
ROLL_OFF, PEAK, FLOOR = 0.8, 0.5, 1e-4


def harmonic_tones() -> Iterator[tuple[str, Tensor]]:
    """Name and samples (1, T) of every tone."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    for place in range(COUNT):
        hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (place / (COUNT - 1))
        depth = VIBRATO if place % 2 else 0.0
        pitch = hz * (1 + depth * torch.sin(2 * math.pi * VIBRATO_HZ * time))
        tone = harmonic_tone(pitch, ROLL_OFF, generator)
        tone = PEAK * tone / tone.abs().max() + FLOOR * torch.randn(len(tone), generator=generator)
        yield f"tone-{hz:.0f}hz{'-vibrato' if depth else ''}", tone[None]
