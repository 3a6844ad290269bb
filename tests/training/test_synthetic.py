"""Synthetic crops: at their level, drawn by the generator, and tones with the right partials."""

from __future__ import annotations

import pytest
import torch

from lily.training.synthetic import PEAK, harmonic_tone, synthetic

COUNT = 9_600


def test_crops_are_a_function_of_the_generator_and_have_their_level():
    for seed in range(12):  # every kind is drawn
        made, again = (synthetic(COUNT, torch.Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(made, again)
        assert made.shape == (COUNT,)
        assert float(made.abs().max()) == pytest.approx(PEAK)


def test_a_harmonic_tone_has_its_partials_where_they_belong_and_none_above_the_top():
    tone = harmonic_tone(torch.full((48_000,), 1_000.0), 1.0, torch.Generator(), top_hz=10_500.0)
    power = torch.fft.rfft(tone).abs().square()  # bins of 1 Hz
    partials = torch.arange(1_000, 11_000, 1_000)
    assert power[partials].sum() > 0.999 * power.sum()
    assert float(power[2_000] / power[1_000]) == pytest.approx(0.25, rel=1e-3)
