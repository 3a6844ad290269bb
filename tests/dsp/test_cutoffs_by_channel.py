"""Laws of cutoffs that differ between channels: each channel is treated as if it were alone."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.cutoffs import FADE, Cutoffs, PiecewiseFir
from lily.dsp.filters import band_limit_kernel
from lily.dsp.mel import LOG_FLOOR, LogMel
from lily.dsp.splice import Splicer
from lily.dsp.temporal_shape import TemporalShape
from lily.dsp.unknown import UnknownBins

RATE = 48_000
NARROW, WIDE = Cutoffs.constant(4_000.0), Cutoffs.constant(12_000.0)
FULL = Cutoffs.constant(22_000.0)
CHANGING = Cutoffs((0, 60_000), (4_000.0, 24_000.0))
PAIRS = [(NARROW, WIDE), (FULL, NARROW), (CHANGING, NARROW), (CHANGING, FULL)]


def noise(seed: int, channels: int = 2, length: int = 120_000) -> torch.Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(seed))


def through(stream, x: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    parts = zip(*(signal.split(7_001, dim=-1) for signal in (x, *more)), strict=True)
    return torch.cat([*(stream.push(*part) for part in parts), stream.flush()], dim=-1)


def test_channels_that_are_the_same_are_one():
    assert Cutoffs.of_channels([CHANGING, CHANGING]) == CHANGING
    assert not Cutoffs.of_channels([CHANGING, CHANGING]).channels


def test_the_lowest_of_any_channel_is_the_recordings():
    both = Cutoffs.of_channels([CHANGING, WIDE])
    assert (both.starts, both.hz) == ((0, 60_000), (4_000.0, 12_000.0))
    assert (both.lowest_hz, both.distinct_hz) == (4_000.0, [4_000.0, 12_000.0, 24_000.0])
    assert (both.of(0), both.of(1)) == (CHANGING, WIDE)
    assert Cutoffs.of_channels([NARROW, FULL, CHANGING]).hz == (4_000.0,)


@pytest.mark.parametrize("pair", PAIRS)
def test_only_a_channel_that_is_full_throughout_is_untouched(pair):
    both = Cutoffs.of_channels(pair)
    assert [both.untouched(0), both.untouched(1)] == [track == FULL for track in pair]
    assert not both.full and not FULL.untouched(0)


@pytest.mark.parametrize("pair", PAIRS)
def test_weights_of_a_channel_sum_to_one(pair):
    both = Cutoffs.of_channels(pair)
    total = sum(both.weights(hz, 50_000, 20_000) for hz in both.distinct_hz)
    assert total.shape == (2, 20_000)
    assert torch.allclose(total, torch.ones(2, 20_000), atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_each_channel_is_filtered_as_if_it_were_alone(pair):
    def kernel(hz: float) -> torch.Tensor:
        return band_limit_kernel(hz, RATE)

    x = noise(0)
    made = through(PiecewiseFir(Cutoffs.of_channels(pair), kernel), x)
    for channel, track in enumerate(pair):
        alone = through(PiecewiseFir(track, kernel), x[channel : channel + 1])
        assert torch.allclose(made[channel], alone[0], atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_full_channel_of_the_output_is_the_recording_to_the_bit(pair):
    recording, generated = noise(1), noise(2)
    made = through(Splicer(Cutoffs.of_channels(pair), RATE, 2), recording, generated)
    for channel, track in enumerate(pair):
        same = made[channel] == recording[channel]
        assert bool(same.all()) is (track == FULL)
        if track == CHANGING:
            assert same[60_000 + FADE :].all() and not same[: 60_000 - FADE].all()


@pytest.mark.parametrize("variants", [1, 2])
def test_each_channel_follows_its_own_level(variants):
    gate = (torch.arange(96_000) % 24_000 < 4_800).float()
    recording = noise(3, 2, 96_000) * torch.stack([gate, torch.ones(96_000)])
    generated = noise(4, 2, 96_000).expand(variants, 2, -1)

    def shaped(cutoffs: Cutoffs, chosen: slice) -> torch.Tensor:
        shape = TemporalShape(cutoffs, gain=1.0)
        first = shape.push(recording[chosen], generated[:, chosen])[1]
        return torch.cat([first, shape.flush()[1]], dim=-1)

    both = shaped(Cutoffs.of_channels([NARROW, WIDE]), slice(0, 2))
    for channel, track in enumerate((NARROW, WIDE)):
        alone = shaped(track, slice(channel, channel + 1))
        assert torch.allclose(both[:, channel], alone[:, 0], atol=1e-5)


def test_a_bin_is_read_from_the_channels_that_have_it():
    unknown = UnknownBins(LogMel(MelConfig()))
    log_mels = torch.stack([torch.full((2, 256), -2.0), torch.full((2, 256), -6.0)])
    log_mels[0, :, 150:] = LOG_FLOOR
    cutoffs_hz = torch.tensor([[4_000.0] * 2, [24_000.0] * 2], dtype=torch.float64)
    read = unknown.known_mean(log_mels, cutoffs_hz)
    assert read[:, -20:].allclose(torch.tensor(-6.0))
    both = 0.5 * torch.tensor([-4.0, -12.0]).exp().mean().log()
    assert read[:, 20].allclose(both)


def test_channels_that_are_equal_read_as_one():
    unknown = UnknownBins(LogMel(MelConfig()))
    one = torch.randn(5, 256, generator=torch.Generator().manual_seed(0)) - 4
    cutoffs_hz = torch.full((3, 5), 8_000.0, dtype=torch.float64)
    assert torch.allclose(unknown.known_mean(one.expand(3, -1, -1), cutoffs_hz), one, atol=1e-5)
