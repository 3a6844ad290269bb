"""Laws of the meters behind a certificate: true peak, levels, null depth, added bands."""

from __future__ import annotations

import math

import pytest
import torch

from lily.certify.null_test import PairMeter, SignalMeter
from lily.certify.true_peak import TruePeakMeter
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel

RATE = 48_000


def noise(seed: int, length: int = 100_000, channels: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def tone(hz: float, phase: float = 0.0, length: int = RATE) -> torch.Tensor:
    time = torch.arange(length, dtype=torch.float64)
    fade = (time / 12_000).clamp(max=1) * ((length - time) / 12_000).clamp(max=1)
    return (torch.sin(2 * math.pi * hz / RATE * time + phase) * fade)[None].float()


def measure(a: torch.Tensor, b: torch.Tensor, cutoffs: Cutoffs, block: int = 7_777) -> PairMeter:
    meter = PairMeter(cutoffs, RATE)
    for piece in a.split(block, -1):
        meter.push(recording=piece)
    for piece in b.split(block * 2, -1):
        meter.push(output=piece)
    meter.finish()
    return meter


@pytest.mark.parametrize("hz", [997.0, 11_999.0, 19_997.0, 21_600.0])
def test_the_true_peak_of_a_tone_is_its_amplitude_wherever_the_samples_fall(hz):
    for phase in (0.0, 0.4, math.pi / 4):
        meter = TruePeakMeter()
        for piece in tone(hz, phase).split(7_001, -1):
            meter.push(piece)
        assert abs(20 * math.log10(meter.result())) < 0.1


def test_a_peak_between_samples_is_found():
    """A quarter of the sample rate, 45 degrees off: every sample is 3 dB under the peak."""
    x, meter = tone(12_000.0, math.pi / 4), SignalMeter()
    meter.push(x)
    found = meter.result()
    assert found.peak_db == pytest.approx(-3.01, abs=0.02)
    assert found.true_peak_db == pytest.approx(0.0, abs=0.05)


def test_level_dc_and_correlation_are_what_they_are_called():
    x = noise(1)
    x[1] = -x[0]
    meter = SignalMeter()
    for piece in (x + torch.tensor([[0.25], [-0.125]])).split(3_001, -1):
        meter.push(piece)
    found = meter.result()
    mean_square = float((x + torch.tensor([[0.25], [-0.125]])).double().square().mean())
    assert found.level_db == pytest.approx(10 * math.log10(mean_square), abs=1e-3)
    assert found.dc == pytest.approx((0.25 + float(x[0].mean()), -0.125 + float(x[1].mean())))
    assert found.correlation == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.parametrize("cutoff_hz", [500.0, 4_000.0, 16_000.0])
@pytest.mark.parametrize("depth_db", [20.0, 60.0, 90.0])
def test_the_null_depth_is_the_ratio_of_band_to_difference(cutoff_hz, depth_db):
    below = filter_whole(noise(2, 200_000), lowpass_kernel(0.8 * cutoff_hz, 0.88 * cutoff_hz, RATE))
    above = filter_whole(noise(3, 200_000), highpass_kernel(0.92 * cutoff_hz, cutoff_hz, RATE, 130))
    other = below * (1 + 10 ** (-depth_db / 20))
    found = measure(below, other + above, Cutoffs.constant(cutoff_hz)).kept()
    assert found.null_db == pytest.approx(depth_db, abs=0.5)


def test_what_is_added_above_is_no_difference_below_and_told_by_band():
    below = filter_whole(noise(4), lowpass_kernel(3_400, 3_600, RATE))
    above = filter_whole(noise(5), highpass_kernel(4_100, 4_300, RATE, 130))
    meter = measure(below, below + above, Cutoffs.constant(4_000.0))
    assert meter.kept().null_db > 100 and meter.kept().worst_null_db > 100
    added = sum(10 ** (band.added_db / 10) for band in meter.bands())
    assert 10 * math.log10(added) == pytest.approx(
        10 * math.log10(float(above.double().square().mean())), abs=0.2
    )


def test_one_sample_in_two_minutes_is_seen_at_its_moment():
    x = filter_whole(noise(6, 120 * RATE, 1), lowpass_kernel(3_400, 3_600, RATE))
    y = x.clone()
    y[0, 5_000_000] += 0.25
    found = measure(x, y, Cutoffs.constant(4_000.0), block=100_000).kept()
    assert found.worst_null_db < 40 < found.null_db


def test_each_piece_is_held_to_its_own_cutoff():
    """A difference at 6 kHz is allowed where the cutoff is 4 kHz and not where it is 12."""
    x, difference = noise(7, 10 * RATE, 1), 0.1 * tone(6_000.0, length=2 * RATE)
    pieces = Cutoffs((0, 5 * RATE), (12_000.0, 4_000.0))
    for second, holds in ((1, False), (7, True)):
        y = x.clone()
        y[:, second * RATE : (second + 2) * RATE] += difference
        assert (measure(x, y, pieces).kept().null_db > 60) is holds


def test_block_sizes_change_no_figure_and_equal_signals_have_nothing_between_them():
    a, b = noise(8), noise(9)
    cutoffs = Cutoffs.constant(4_000.0)
    first, second = (measure(a, b, cutoffs, block) for block in (1_001, 65_536))
    assert first.kept() == second.kept() and first.bands() == second.bands()
    assert first.output.result() == second.output.result()
    assert measure(a, a, cutoffs).kept().null_db == 200.0


@pytest.mark.parametrize("length", [1, 2, 100, 3_000, 16_383, 16_385])
def test_any_length_is_measured_or_said_to_be_too_short(length):
    x = noise(10, length)
    found = measure(x, x, Cutoffs.constant(4_000.0)).kept()
    assert found.null_db in (None, 200.0) and found.level_change_db == 0.0
    if length >= 3_000:
        assert found.null_db == 200.0
