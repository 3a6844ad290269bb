"""The null test reads the depth that signals were built with, in every band, length and block."""

from __future__ import annotations

import pytest
import torch

from lily.certify.null_test import NullDepth, NullTest
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel
from lily.dsp.splice import Splicer

RATE = 48_000


def noise(seed: int, length: int = 100_000, channels: int = 2) -> torch.Tensor:
    return 0.1 * torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def tone(hz: float, length: int) -> torch.Tensor:
    time = torch.arange(length, dtype=torch.float64)
    fade = (time / 12_000).clamp(max=1) * ((length - time) / 12_000).clamp(max=1)
    return (torch.sin(2 * torch.pi * hz / RATE * time) * fade)[None].float()


def null(
    a: torch.Tensor, b: torch.Tensor, cutoffs: Cutoffs | None, block: int = 7_777
) -> NullDepth:
    test = NullTest(cutoffs, RATE)
    for pair in torch.stack([a, b]).split(block, -1):
        test.push(*pair)
    return test.finish()


@pytest.mark.parametrize("cutoff_hz", [500.0, 4_000.0, 16_000.0])
@pytest.mark.parametrize("depth_db", [20.0, 60.0, 90.0])
def test_the_depth_is_the_ratio_of_band_to_difference(cutoff_hz, depth_db):
    below = filter_whole(noise(2, 200_000), lowpass_kernel(0.8 * cutoff_hz, 0.88 * cutoff_hz, RATE))
    above = filter_whole(noise(3, 200_000), highpass_kernel(0.92 * cutoff_hz, cutoff_hz, RATE, 130))
    other = below * (1 + 10 ** (-depth_db / 20))
    found = null(below, other + above, Cutoffs.constant(cutoff_hz))
    assert found.depth_db == pytest.approx(depth_db, abs=0.5)


def test_what_is_added_above_the_cutoff_does_not_count():
    below = filter_whole(noise(4), lowpass_kernel(3_400, 3_600, RATE))
    above = filter_whole(noise(5), highpass_kernel(4_100, 4_300, RATE, 130))
    found = null(below, below + above, Cutoffs.constant(4_000.0))
    assert found.depth_db > 100 and found.worst_db > 100
    assert null(below, below + above, None).depth_db < 20


def test_a_tone_at_the_start_of_the_crossover_does_not_leak_into_the_band():
    below = filter_whole(noise(4, channels=1), lowpass_kernel(3_200, 3_400, RATE))
    found = null(below, below + 0.1 * tone(3_603.0, 100_000), Cutoffs.constant(4_000.0))
    assert found.depth_db > 60 and found.worst_db > 50  # its fades of 0.25 s are what is left


def test_one_sample_in_two_minutes_shows_in_the_worst_moment():
    x = filter_whole(noise(6, 120 * RATE, 1), lowpass_kernel(3_400, 3_600, RATE))
    y = x.clone()
    y[0, 5_000_000] += 0.25
    found = null(x, y, Cutoffs.constant(4_000.0), block=100_000)
    assert found.worst_db < 40 < found.depth_db


def test_each_segment_is_tested_below_its_own_cutoff():
    """A difference at 6 kHz is allowed where the cutoff is 4 kHz and not where it is 12."""
    x, difference = noise(7, 10 * RATE, 1), 0.1 * tone(6_000.0, 2 * RATE)
    segments = Cutoffs((0, 5 * RATE), (12_000.0, 4_000.0))
    for second, passes in ((1, False), (7, True)):
        y = x.clone()
        y[:, second * RATE : (second + 2) * RATE] += difference
        assert (null(x, y, segments).depth_db > 60) is passes


def test_correlation_and_level_changes_are_those_of_the_band():
    common, left, right = noise(11, channels=1), noise(12, channels=1), noise(13, channels=1)
    x = torch.cat([common + left, common + right])  # correlation 1/2
    y = torch.cat([common + left, common - right])  # as well, of other signals
    assert null(x, y, None).correlation_change == pytest.approx(0, abs=0.02)
    flipped = null(x, x * torch.tensor([[1.0], [-1.0]]), None)
    assert flipped.correlation_change == pytest.approx(-1.0, abs=0.02)
    louder = null(x, x * 10 ** (0.5 / 20), None)
    assert louder.level_change_db == pytest.approx(0.5, abs=1e-4)
    assert louder.correlation_change == pytest.approx(0, abs=1e-6)
    assert null(x[:1], y[:1], None).correlation_change is None


def test_block_sizes_change_no_figure_and_equal_signals_read_200_db():
    a, b, cutoffs = noise(8), noise(9), Cutoffs.constant(4_000.0)
    assert null(a, b, cutoffs, 1_001) == null(a, b, cutoffs, 65_536)
    assert null(a, a, cutoffs).depth_db == 200.0


@pytest.mark.parametrize("length", [1, 2, 100, 3_000, 16_383, 16_385])
def test_any_length_is_measured_or_reported_as_too_short(length):
    x = noise(10, length)
    found = null(x, x, Cutoffs.constant(4_000.0))
    assert found.depth_db in (None, 200.0) and found.level_change_db == 0.0
    if length >= 3_000:
        assert found.depth_db == 200.0
        assert null(x, 1.1 * x, Cutoffs.constant(4_000.0)).depth_db == pytest.approx(20, abs=0.1)


def spliced_tone(hz: float, cutoffs: Cutoffs, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A tone without fades, and its output with generated noise."""
    time = torch.arange(length, dtype=torch.float64)
    x = torch.sin(2 * torch.pi * hz / RATE * time)[None].float()
    splicer = Splicer(cutoffs, RATE, 1)
    return x, torch.cat([splicer.push(x, noise(3, length, 1)), splicer.flush()], -1)


@pytest.mark.parametrize("cutoff_hz", [500.0, 700.0, 1_000.0, 4_000.0, 12_000.0])
@pytest.mark.parametrize("place", [0.8, 0.88, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("length", [960, 100_000])
def test_the_splice_passes_beside_a_lone_tone(length, place, cutoff_hz):
    """What lies below the crossover is the tone's leak, of window and fades."""
    cutoffs = Cutoffs.constant(cutoff_hz)
    found = null(*spliced_tone(place * cutoff_hz, cutoffs, length), cutoffs)
    assert found.depth_db > 70 and found.worst_db > 60
    assert abs(found.level_change_db) < 0.001


@pytest.mark.parametrize("cutoff_hz", [1_000.0, 4_000.0, 12_000.0])
@pytest.mark.parametrize("change_db", [-0.1, 0.1])
@pytest.mark.parametrize("length", [960, 100_000])
def test_a_change_of_a_lone_tone_below_the_crossover_does_not_pass(length, change_db, cutoff_hz):
    cutoffs = Cutoffs.constant(cutoff_hz)
    x, y = spliced_tone(0.4 * cutoff_hz, cutoffs, length)
    found = null(x, y + (10 ** (change_db / 20) - 1) * x, cutoffs)
    assert found.depth_db < 50
    assert found.level_change_db == pytest.approx(change_db, abs=0.001)


@pytest.mark.parametrize("below_db", [40.0, 80.0])
def test_a_deleted_band_does_not_pass_however_loud_the_discarded_highs_are(below_db):
    """Of a wider recording with a given cutoff, nothing above that counts."""
    highs = filter_whole(noise(4), highpass_kernel(4_200, 4_400, RATE, 150))
    lows = filter_whole(noise(5), lowpass_kernel(3_200, 3_500, RATE))
    lows *= 10 ** (-below_db / 20) * highs.norm() / lows.norm()
    found = null(highs + lows, highs, Cutoffs.constant(4_000.0))
    assert found.depth_db < 1 and found.level_change_db < -1
    turned = lows[:1] * torch.tensor([[1.0], [-1.0]])
    found = null(highs + lows[:1], highs + turned, Cutoffs.constant(4_000.0))
    assert found.correlation_change < -1.5


@pytest.mark.parametrize("change_db", [50.0, 90.0])
def test_where_the_band_is_empty_a_difference_is_compared_with_a_hundredth_of_the_recording(
    change_db,
):
    x = tone(3_900.0, 200_000)
    added = 10 ** (-change_db / 20) * tone(2_000.0, 200_000)
    found = null(x, x + added, Cutoffs.constant(4_000.0))
    assert found.depth_db == pytest.approx(change_db - 20, abs=0.1)


@pytest.mark.parametrize("below_db", [40.0, 60.0])
def test_the_level_of_a_band_far_below_a_tone_in_the_crossover_is_still_checked(below_db):
    loud = tone(3_900.0, 200_000)
    quiet = 10 ** (-below_db / 20) * tone(2_000.0, 200_000)
    assert null(loud + quiet, loud, Cutoffs.constant(4_000.0)).level_change_db < -0.1
