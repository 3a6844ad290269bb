"""Laws of the channels' own segments: they differ only where a channel is clearly narrower."""

import pytest
import torch
from signals import low, meter_of, music

from lily.bandwidth.meter import BandwidthMeter


def channels_of(x: torch.Tensor, **options: int) -> tuple:
    return meter_of(x, **options).channel_segments()


def test_a_muffled_channel_has_its_own_cutoff_and_a_full_one_keeps_its_own() -> None:
    x = torch.cat([low(music(1, 8.0), 6_000), music(2, 8.0)])
    ((_, left_hz),), ((_, right_hz),) = channels_of(x)
    assert left_hz == pytest.approx(6_000, rel=0.05)
    assert right_hz == 24_000


def test_three_channels_have_three_cutoffs() -> None:
    cutoffs = [4_000, 8_000, 16_000]
    x = torch.cat([low(music(hz, 8.0), hz) for hz in cutoffs])
    found = [hz for ((_, hz),) in channels_of(x)]
    assert found == pytest.approx(cutoffs, rel=0.05)


@pytest.mark.parametrize("cutoff_hz", [5_000.0, None])
def test_channels_that_agree_have_no_segments_of_their_own(cutoff_hz: float | None) -> None:
    x = torch.cat([music(3, 8.0), 0.1 * music(4, 8.0)])
    x = low(x, cutoff_hz) if cutoff_hz else x
    assert channels_of(x) == ()
    assert channels_of(x[:1]) == ()
    assert channels_of(torch.cat([x[:1], -x[:1]])) == ()


def test_a_silent_channel_does_not_differ() -> None:
    x = low(music(5, 8.0), 7_000)
    assert channels_of(torch.cat([x, torch.zeros_like(x)])) == ()
    assert channels_of(torch.zeros(2, 100)) == ()
    assert BandwidthMeter().channel_segments() == ()


def test_cutoffs_less_than_a_quarter_octave_apart_are_one() -> None:
    x = music(6, 8.0)
    assert channels_of(torch.cat([low(x, 9_000), low(x, 10_000)])) == ()
    assert channels_of(torch.cat([low(x, 8_000), low(x, 10_500)])) != ()


def test_a_channel_may_change_while_the_other_does_not() -> None:
    left = torch.cat([music(7, 10.0), low(music(8, 10.0), 4_000)], dim=-1)
    ((_, first_hz), (start, then_hz)), right = channels_of(torch.cat([left, music(9, 20.0)]))
    assert (first_hz, right) == (24_000, ((0.0, 24_000.0),))
    assert start == pytest.approx(10.0, abs=1.5)
    assert then_hz == pytest.approx(4_000, rel=0.05)


def test_a_change_that_channels_share_has_one_time() -> None:
    left, right = music(10, 10.0), low(music(11, 10.0), 8_000)
    after = low(music(12, 10.0).repeat(2, 1), 4_000)
    x = torch.cat([torch.cat([left, right]), after], dim=-1)
    (_, (boundary, _)) = meter_of(x).segments()
    found_left, found_right = channels_of(x)
    assert [start for start, _ in found_left] == [start for start, _ in found_right]
    assert found_left[1][0] == boundary
    assert found_right[0][1] == pytest.approx(8_000, rel=0.05)


def test_blocks_and_the_order_of_channels_change_nothing() -> None:
    x = torch.cat([low(music(13, 8.0), 5_000), music(14, 8.0)])
    expected = channels_of(x, block=1 << 20)
    assert channels_of(x, block=777) == expected
    assert channels_of(x.flip(0)) == expected[::-1]
