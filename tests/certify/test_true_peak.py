"""True peak on tones of known amplitude (the cases of EBU Tech 3341, table 1)."""

from __future__ import annotations

import math

import pytest
import torch

from lily.certify.true_peak import TruePeakMeter


def tone(step: float, degrees: float, amplitude: float = 1.0, length: int = 9_600) -> torch.Tensor:
    """A tone (1, length) of ``step`` cycles a sample, faded in and out."""
    time = torch.arange(length, dtype=torch.float64)
    fade = (time / 2_400).clamp(max=1) * ((length - time) / 2_400).clamp(max=1)
    phase = 2 * math.pi * (step * time + degrees / 360)
    return (amplitude * torch.sin(phase) * fade)[None].float()


def true_peak_db(samples: torch.Tensor, block: int = 1_001) -> float:
    meter = TruePeakMeter()
    for piece in samples.split(block, -1):
        meter.push(piece)
    return 20 * math.log10(meter.result())


@pytest.mark.parametrize(
    ("step", "degrees", "amplitude", "expected_db"),
    [
        (1 / 4, 0, 0.5, -6.0),
        (1 / 4, 45, 0.5, -6.0),
        (1 / 6, 60, 0.5, -6.0),
        (1 / 8, 67.5, 0.5, -6.0),
        (1 / 4, 45, 1.41, 3.0),
    ],
)
def test_the_tones_of_ebu_tech_3341_read_within_its_tolerance(
    step, degrees, amplitude, expected_db
):
    assert -0.4 < true_peak_db(tone(step, degrees, amplitude)) - expected_db < 0.2


def test_a_peak_halfway_between_the_samples_of_twice_the_rate_is_found():
    """At a quarter of the sample rate, 22.5 degrees off: twice the rate reads -0.69 dB."""
    x = tone(1 / 4, 22.5)
    assert 20 * math.log10(float(x.abs().max())) == pytest.approx(-0.69, abs=0.01)
    assert true_peak_db(x) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("hz", [997.0, 11_999.0, 19_997.0, 21_600.0])
def test_any_frequency_reads_its_amplitude(hz):
    assert abs(true_peak_db(tone(hz / 48_000, 0.0, length=48_000), 7_001)) < 0.1
