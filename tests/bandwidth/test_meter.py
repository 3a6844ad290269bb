"""Laws of the bandwidth meter: it finds every kind of cutoff, and none where there is none."""

import numpy as np
import pytest
import torch
from scipy import signal

from lily.audio.resample import resample
from lily.bandwidth.meter import Bandwidth, BandwidthMeter
from lily.dsp.cutoffs import FULL_BAND_HZ
from lily.dsp.degrade import LowpassSpec, apply_lowpass
from lily.dsp.filters import filter_whole, lowpass_kernel

RATE = 48_000
CUTOFFS = [2_000, 4_000, 8_000, 12_000, 16_000]


def recording(seed: int, slope_db: float = -6.0, seconds: float = 4.0) -> torch.Tensor:
    """Noise (1, T) in bursts, falling by `slope_db` an octave: as much like music as it needs."""
    generator = torch.Generator().manual_seed(seed)
    length = int(seconds * RATE)
    spectrum = torch.fft.rfft(torch.randn(1, length, generator=generator).double())
    octaves = torch.log2(torch.linspace(0, RATE / 2, spectrum.shape[-1]).clamp(min=100.0) / 100)
    shaped = torch.fft.irfft(spectrum * 10 ** (slope_db * octaves / 20), n=length)
    bursts = torch.rand(1, 1, int(seconds * 8), generator=generator)
    envelope = torch.nn.functional.interpolate(bursts, length, mode="linear")[0]
    x = shaped * envelope.square()
    return (0.7 * x / x.abs().max()).float()


def measure(x: torch.Tensor, block: int = 10_000, **options: float) -> Bandwidth:
    meter = BandwidthMeter(**options)
    for part in x.split(block, dim=-1):
        meter.push(part)
    return meter.result()


def steep(x: torch.Tensor, cutoff_hz: float) -> torch.Tensor:
    return filter_whole(x, lowpass_kernel(0.97 * cutoff_hz, 1.03 * cutoff_hz, RATE))


def quantised(x: torch.Tensor, bits: int, dither: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(bits)
    noise = torch.rand(2, *x.shape, generator=generator)
    steps = x * 2 ** (bits - 1) + (noise[0] - noise[1] if dither else 0)
    return steps.round() / 2 ** (bits - 1)


@pytest.mark.parametrize("slope_db", [0.0, -6.0, -12.0])
def test_a_full_recording_is_full(slope_db: float) -> None:
    result = measure(recording(0, slope_db))
    assert result == Bandwidth(24_000.0, True)


@pytest.mark.parametrize("cutoff_hz", CUTOFFS)
@pytest.mark.parametrize("slope_db", [0.0, -6.0, -12.0])
def test_a_steep_edge_is_found(cutoff_hz: float, slope_db: float) -> None:
    result = measure(steep(recording(1, slope_db), cutoff_hz))
    assert result.cutoff_hz == pytest.approx(cutoff_hz, rel=0.05)
    assert not result.full


@pytest.mark.parametrize("cutoff_hz", CUTOFFS)
@pytest.mark.parametrize("slope_db", [0.0, -6.0])
@pytest.mark.parametrize("order", [6, 8, 10])
def test_butterworth_forwards_and_backwards_is_found(
    cutoff_hz: float, slope_db: float, order: int
) -> None:
    x = apply_lowpass(recording(2, slope_db), LowpassSpec("butter", order, cutoff_hz), RATE)
    assert measure(x).cutoff_hz == pytest.approx(cutoff_hz, rel=0.05)


def test_a_converters_gentle_roll_off_is_read_above_its_bend() -> None:
    hz = [0, 14_000, 14_500, 15_100, 15_800, 16_500, 17_200, 18_000, 18_800, 21_000, 24_000]
    fall_db = [0, 0, -3, -6, -13, -23, -35, -42, -62, -80, -100]  # as of a game's music
    x = recording(2, 0.0)
    spectrum = torch.fft.rfft(x.double())
    gain_db = np.interp(np.linspace(0, RATE / 2, spectrum.shape[-1]), hz, fall_db)
    made = torch.fft.irfft(spectrum * torch.from_numpy(10 ** (gain_db / 20)), n=x.shape[-1])
    assert 15_200 < measure(made.float()).cutoff_hz < 16_500


@pytest.mark.parametrize("cutoff_hz", [2_000, 4_000, 8_000])
def test_butterworth_run_once_is_found(cutoff_hz: float) -> None:
    sections = signal.butter(8, cutoff_hz, fs=RATE, output="sos")
    x = torch.from_numpy(signal.sosfilt(sections, recording(3).double().numpy())).float()
    assert measure(x).cutoff_hz == pytest.approx(cutoff_hz, rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100])
def test_a_resampled_recording_gives_its_old_nyquist(rate: int) -> None:
    old = resample(recording(4), RATE, rate)
    for bits in (16, 24):
        x = resample(quantised(old, bits, False), rate, RATE)
        result = measure(x, nyquist_hz=rate / 2)
        assert 0.93 * rate / 2 <= result.cutoff_hz <= rate / 2
        assert result.full == (result.cutoff_hz >= FULL_BAND_HZ)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("cutoff_hz", [4_000, 8_000])
def test_quantisation_noise_is_no_content(bits: int, dither: bool, cutoff_hz: float) -> None:
    x = quantised(steep(recording(5), cutoff_hz), bits, dither)
    assert measure(x).cutoff_hz == pytest.approx(cutoff_hz, rel=0.05)


def test_a_quiet_recording_ends_where_it_sinks_into_16_bits() -> None:
    x = quantised(0.003 * steep(recording(6), 8_000), 16, True)
    assert measure(x).cutoff_hz == pytest.approx(8_000, rel=0.1)


def test_hiss_and_rain_are_content() -> None:
    hiss = 0.003 * torch.randn(1, 4 * RATE, generator=torch.Generator().manual_seed(7))
    assert measure(hiss).full
    assert measure(0.1 * steep(recording(7), 6_000) + hiss).cutoff_hz > 5_700


def test_one_loud_click_moves_no_cutoff() -> None:
    x = steep(recording(8), 6_000)
    before = measure(x).cutoff_hz
    x[:, 70_000] = 0.99
    assert measure(x).cutoff_hz == pytest.approx(before, rel=0.01)


def test_codec_noise_above_the_cutoff_is_not_content() -> None:
    generator = torch.Generator().manual_seed(9)
    fuzz = torch.randn(1, 4 * RATE, generator=generator) * 3e-5
    fuzz *= (torch.arange(4 * RATE) // 4_800 % 3 == 0).float()  # a third of the time, 40 dB down
    x = steep(recording(9, 0.0), 11_000) + fuzz
    assert measure(x).cutoff_hz == pytest.approx(11_000, rel=0.05)


def test_any_channel_with_content_counts() -> None:
    x = recording(10)
    both = torch.cat([steep(x, 4_000), steep(x, 12_000), torch.zeros_like(x)])
    assert measure(both).cutoff_hz == pytest.approx(12_000, rel=0.05)


def test_mostly_silence_does_not_hide_the_rest() -> None:
    x = steep(recording(11, seconds=2.0), 9_000)
    x = torch.cat([torch.zeros(1, 40 * RATE), x, torch.zeros(1, 20 * RATE)], dim=-1)
    assert measure(x, block=65_536).cutoff_hz == pytest.approx(9_000, rel=0.05)


@pytest.mark.parametrize("length", [0, 1, 500, 3_000, 200_000])
def test_silence_is_defined(length: int) -> None:
    assert measure(torch.zeros(2, length)) == Bandwidth(24_000.0, True)
    assert measure(torch.zeros(2, length), nyquist_hz=4_000.0) == Bandwidth(4_000.0, False)
    assert BandwidthMeter().result() == Bandwidth(24_000.0, True)


@pytest.mark.parametrize("length", [1, 300, 2_048, 5_000])
def test_the_shortest_recordings_give_a_number(length: int) -> None:
    result = measure(recording(12)[:, :length])
    assert 0 < result.cutoff_hz <= 24_000


def test_block_sizes_and_level_change_nothing() -> None:
    x = steep(recording(13), 7_000)
    expected = measure(x, block=1 << 20)
    assert measure(x, block=777) == expected
    assert measure(x * 0.1).cutoff_hz == pytest.approx(expected.cutoff_hz, rel=0.02)
    assert measure(-x) == expected


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
def test_other_rates_measure_the_same_cutoff(rate: int) -> None:
    x = resample(steep(recording(14), 3_000), RATE, rate)
    assert measure(x, sample_rate=rate).cutoff_hz == pytest.approx(3_000, rel=0.05)
    full = resample(recording(14), RATE, rate)
    assert measure(full, sample_rate=rate).cutoff_hz >= 0.93 * min(rate, RATE) / 2


def test_a_cymbal_in_one_frame_of_a_hundred_is_part_of_the_band() -> None:
    x = steep(recording(5, seconds=30.0), 8_000)
    crash = recording(6, 0.0, seconds=0.3)  # 1 % of the recording, up to 24 kHz
    x[:, 480_000 : 480_000 + crash.shape[-1]] += 0.5 * crash
    assert measure(x).full
