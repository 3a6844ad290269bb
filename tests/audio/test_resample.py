"""Laws of resampling: ideal interpolation, exact lengths, and no trace of the block sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.audio.resample import Resampler, resample, resampled_length
from lily.errors import InputError

COMMON = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100)
ODD = (44_101, 47_999, 96_000, 191_999, 192_000, 767_999)


def tone(frequency: float, length: int, sample_rate: int) -> torch.Tensor:
    """A tone (1, length) in float64, sample 0 at time 0."""
    time = torch.arange(length, dtype=torch.float64) / sample_rate
    return torch.cos(2 * math.pi * frequency * time + 0.3)[None]


@pytest.mark.parametrize("rate", COMMON + ODD)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_tone_becomes_the_same_tone_at_the_other_rate(rate: int, share: float) -> None:
    frequency = share * min(rate, 48_000) / 2
    length = max(4_000, rate // 10)
    out = resample(tone(frequency, length, rate).float(), rate, 48_000)
    ideal = tone(frequency, out.shape[-1], 48_000)
    edge = out.shape[-1] // 3  # beyond the reach of the zeros around the signal
    error = (out - ideal)[:, edge:-edge].abs().max()
    assert 20 * math.log10(error) < -90


@pytest.mark.parametrize("rate", [96_000, 192_000, 191_999, 768_000])
def test_what_lies_above_the_lower_nyquist_is_gone(rate: int) -> None:
    for frequency in (24_300, 27_000, min(95_000, 0.49 * rate)):
        out = resample(tone(frequency, rate // 10, rate).float(), rate, 48_000)
        assert 20 * math.log10(out[:, 1_500:-1_500].abs().max()) < -90


@pytest.mark.parametrize("rate", COMMON)
def test_images_above_the_old_nyquist_are_gone(rate: int) -> None:
    noise = torch.randn(1, rate // 2, generator=torch.Generator().manual_seed(1))
    out = resample(noise, rate, 48_000)[:, 4_000:20_384].double()
    power = torch.fft.rfft(out * torch.kaiser_window(16_384, False, 16.0)).abs().square()
    frequency = torch.linspace(0, 24_000, power.shape[-1])
    above = power[:, frequency > rate / 2 + 30].max()
    assert 10 * math.log10(above / power.max()) < -88


@pytest.mark.parametrize("rate", [8_000, 44_100, 44_101, 48_000, 96_000, 768_000])
def test_block_sizes_change_no_bit(rate: int) -> None:
    generator = torch.Generator().manual_seed(rate)
    x = torch.randn(2, 9_000, generator=generator)
    resampler = Resampler(rate, 48_000)
    out, start = [], 0
    while start < x.shape[-1]:
        size = int(torch.randint(1, 3_000, (), generator=generator))
        out.append(resampler.push(x[:, start : start + size]))
        start += size
    out.append(resampler.flush())
    assert torch.equal(torch.cat(out, dim=-1), resample(x, rate, 48_000))


def test_after_flush_the_resampler_is_as_new() -> None:
    x = torch.randn(1, 700, generator=torch.Generator().manual_seed(0))
    resampler = Resampler(44_100, 48_000)
    first = torch.cat([resampler.push(x), resampler.flush()], dim=-1)
    assert torch.equal(first, torch.cat([resampler.push(x), resampler.flush()], dim=-1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 700), st.sampled_from((8_000, 22_050, 44_100, 48_000, 96_000, 192_000)))
def test_length_is_the_ceiling_of_the_exact_one(length: int, rate: int) -> None:
    expected = math.ceil(length * 48_000 / rate)
    assert resampled_length(length, rate, 48_000) == expected
    assert resample(torch.zeros(1, length), rate, 48_000).shape == (1, expected)


def test_identity_at_equal_rates() -> None:
    x = torch.randn(2, 1_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(x, 48_000, 48_000), x)


def test_a_constant_stays_that_constant() -> None:
    for rate in (8_000, 44_100, 44_101, 192_000):
        out = resample(torch.full((1, 4_000), 0.5), rate, 48_000)
        middle = out[:, out.shape[-1] // 2 - 50 : out.shape[-1] // 2 + 50]
        assert torch.allclose(middle, torch.tensor(0.5), atol=1e-6)


def test_impossible_rates_and_an_empty_stream_are_refused() -> None:
    with pytest.raises(InputError):
        Resampler(0, 48_000)
    with pytest.raises(InputError):
        Resampler(44_100, 48_000).flush()
