"""Laws of filtering: flat, deep, without delay, and no trace of the block sizes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lily.dsp.filters import StreamingFir, filter_whole, highpass_kernel, lowpass_kernel
from lily.errors import InputError


@pytest.mark.parametrize(("low", "high"), [(900, 1_000), (3_600, 4_000), (21_600, 24_000)])
def test_lowpass_is_flat_and_deep(low: float, high: float) -> None:
    response = torch.fft.rfft(lowpass_kernel(low, high, 48_000), n=1 << 18).abs()
    frequency = torch.linspace(0, 24_000, response.numel())
    assert (response[frequency <= low] - 1).abs().max() < 1e-4
    assert 20 * math.log10(response[frequency >= high].max()) < -89


def test_lowpass_and_highpass_sum_to_a_delayed_impulse() -> None:
    total = lowpass_kernel(900, 1_000, 48_000) + highpass_kernel(900, 1_000, 48_000)
    impulse = torch.zeros_like(total)
    impulse[total.numel() // 2] = 1.0
    assert torch.allclose(total, impulse, atol=1e-12)


@pytest.mark.parametrize("taps", [1, 3, 687, 5_001])
def test_filter_is_the_same_convolution(taps: int) -> None:
    generator = torch.Generator().manual_seed(taps)
    kernel = torch.randn(taps, generator=generator, dtype=torch.float64) / taps
    x = torch.randn(2, 30_000, generator=generator)
    ideal = torch.from_numpy(np.stack([np.convolve(row, kernel, "same") for row in x.double()]))
    assert torch.allclose(filter_whole(x, kernel), ideal.float(), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=8), st.sampled_from((1, 101, 2_743)))
def test_block_sizes_change_no_bit(sizes: list[int], taps: int) -> None:
    kernel = torch.hann_window(taps, periodic=False, dtype=torch.float64)
    x = torch.randn(1, sum(sizes), generator=torch.Generator().manual_seed(7))
    fir = StreamingFir(kernel)
    out = torch.cat([fir.push(block) for block in x.split(sizes, dim=-1)] + [fir.flush()], dim=-1)
    assert torch.equal(out, filter_whole(x, kernel))
    assert out.shape == x.shape


def test_impossible_filters_are_refused() -> None:
    with pytest.raises(InputError, match="pass < stop"):
        lowpass_kernel(4_000, 3_000, 48_000)
    with pytest.raises(InputError):
        lowpass_kernel(20_000, 25_000, 48_000)
    with pytest.raises(InputError):
        StreamingFir(torch.ones(4))
    with pytest.raises(InputError):
        StreamingFir(torch.ones(3)).flush()


@pytest.mark.parametrize(("pass_hz", "stop_hz"), [(7_600, 8_400), (950, 1_050), (22_800, 24_000)])
@pytest.mark.parametrize("attenuation_db", [60.0, 90.0, 120.0])
def test_the_kernel_is_scipys(pass_hz, stop_hz, attenuation_db):
    from scipy.signal import firwin, kaiser_beta, kaiserord

    taps, _ = kaiserord(attenuation_db, (stop_hz - pass_hz) / 24_000)
    window = ("kaiser", kaiser_beta(attenuation_db))
    theirs = firwin(taps | 1, (pass_hz + stop_hz) / 2, window=window, fs=48_000)
    ours = lowpass_kernel(pass_hz, stop_hz, 48_000, attenuation_db)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=0, atol=1e-13)
