"""Laws of a changing cutoff: segments share every sample, a single one is the plain filter."""

import pytest
import torch

from lily.dsp.cutoffs import FADE, FULL_BAND_HZ, Cutoffs, PiecewiseFir
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.splice import Splicer
from lily.errors import InputError

RATE = 48_000


def noise(seed: int, length: int = 120_000, channels: int = 2) -> torch.Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def kernel(hz: float) -> torch.Tensor:
    return band_limit_kernel(hz, RATE)


def filtered(x: torch.Tensor, cutoffs: Cutoffs, block: int = 7_000) -> torch.Tensor:
    fir = PiecewiseFir(cutoffs, kernel)
    return torch.cat([*(fir.push(b) for b in x.split(block, dim=-1)), fir.flush()], dim=-1)


def test_weights_sum_to_one_everywhere():
    cutoffs = Cutoffs((0, 10_000, 30_000, 31_000), (4_000.0, 20_000.0, 4_000.0, 8_000.0))
    total = sum(cutoffs.weights(hz, 0, 50_000) for hz in set(cutoffs.hz))
    assert torch.allclose(total, torch.ones(50_000), atol=1e-6)


def test_one_segment_gives_the_bits_of_the_plain_filter():
    x = noise(0)
    assert torch.equal(filtered(x, Cutoffs.constant(6_000.0)), filter_whole(x, kernel(6_000.0)))


def test_away_from_a_boundary_each_segment_is_its_own_filter_whatever_the_blocks():
    x, boundary = noise(1), 60_000
    cutoffs = Cutoffs((0, boundary), (3_000.0, 10_000.0))
    made = filtered(x, cutoffs)
    assert made.shape == x.shape
    assert torch.equal(made, filtered(x, cutoffs, block=50_000))
    low, high = filter_whole(x, kernel(3_000.0)), filter_whole(x, kernel(10_000.0))
    assert torch.allclose(made[:, : boundary - FADE], low[:, : boundary - FADE], atol=1e-6)
    assert torch.allclose(made[:, boundary + FADE :], high[:, boundary + FADE :], atol=1e-6)


def test_a_full_segment_of_the_output_is_the_recording_to_the_bit():
    recording, generated, boundary = noise(2), noise(3), 60_000
    splicer = Splicer(Cutoffs((0, boundary), (4_000.0, 24_000.0)), RATE, 2)
    made = torch.cat([splicer.push(recording, generated), splicer.flush()], dim=-1)
    assert torch.equal(made[:, boundary + FADE :], recording[:, boundary + FADE :])
    assert not torch.equal(made[:, : boundary - FADE], recording[:, : boundary - FADE])


def test_at_gives_the_cutoff_at_a_place():
    cutoffs = Cutoffs.from_seconds([(0, 4_000), (1.5, 9_000)], RATE)
    assert cutoffs.at(torch.tensor([0, 71_999, 72_000, 10**9])).tolist() == [4e3, 4e3, 9e3, 9e3]
    assert cutoffs.lowest_hz == 4_000
    assert not cutoffs.full


@pytest.mark.parametrize("segments", [[], [(1.0, 4_000)], [(0, 4_000), (0, 5_000)]])
def test_segments_that_make_no_sense_are_refused(segments):
    with pytest.raises(InputError, match="the first at 0 s"):
        Cutoffs.from_seconds(segments, RATE)


def test_a_change_is_cross_faded_over_20_ms():
    cutoffs = Cutoffs((0, 48_000), (4_000.0, 20_000.0))
    before, at, after = (float(cutoffs.weights(4_000.0, 48_000 + n, 1)) for n in (-240, 0, 240))
    assert (before, at, after) == pytest.approx((0.75, 0.5, 0.25))
    assert float(cutoffs.weights(4_000.0, 48_000 - 481, 1)) == 1.0
    assert float(cutoffs.weights(4_000.0, 48_000 + 481, 1)) == 0.0


@pytest.mark.parametrize("hz, full", [(18_600.0, False), (19_900.0, False), (20_000.0, True)])
def test_a_band_is_full_from_20_khz_on(hz, full):
    assert Cutoffs.constant(hz).full is full


def test_full_segments_stay_even_if_they_share_one_cutoff():
    """``0:20000,5:20000`` says where the recording is complete; one cutoff asks for more."""
    segments = Cutoffs((0, 5), (FULL_BAND_HZ, FULL_BAND_HZ))
    assert segments.keeps(FULL_BAND_HZ)
    assert not Cutoffs.constant(FULL_BAND_HZ).keeps(FULL_BAND_HZ)
