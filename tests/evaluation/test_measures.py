"""Each measure gives its known value on signals made for it."""

from __future__ import annotations

import math

import pytest
import torch

from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.evaluation.levels import bias_db, lsd_in_band, patchiness
from lily.evaluation.measures import SHOWN, measure
from lily.evaluation.modulation import modulation_db
from lily.evaluation.spectra import Band, Spectra
from lily.evaluation.strokes import envelope_correlation, rise_db
from lily.evaluation.tonality import match, peakiness, persistence, tonal_persistence

CUTOFF = 8_000.0
BAND = Band(CUTOFF, 20_000.0)


def noise(seconds: float = 3.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, round(seconds * 48_000), generator=generator)


def tones(hz: list[float], seconds: float = 3.0) -> torch.Tensor:
    time = torch.arange(round(seconds * 48_000), dtype=torch.float64) / 48_000
    return sum(0.02 * torch.sin(2 * math.pi * f * time) for f in hz).float()[None]


def comb(spacing: float) -> torch.Tensor:
    """Lines from 9 to 19 kHz over a little noise."""
    return tones([9_000 + spacing * k for k in range(int(10_000 / spacing))]) + 1e-3 * noise()


def test_a_recording_ends_where_its_low_pass_does():
    low = filter_whole(noise(), lowpass_kernel(14_900, 15_100, 48_000))
    assert Spectra(low).end_hz == pytest.approx(15_100, abs=150)


def test_the_distance_in_band_counts_nothing_above_the_reference_s_end():
    low = filter_whole(noise(), lowpass_kernel(14_900, 15_100, 48_000))
    reference, band = Spectra(low), Band(CUTOFF, 14_800)
    filled = Spectra(
        low + noise(seed=1) - filter_whole(noise(seed=1), lowpass_kernel(15_100, 15_300, 48_000))
    )
    assert lsd_in_band(reference, Spectra(10 * low), band) == pytest.approx(2.0, abs=1e-2)
    assert lsd_in_band(reference, filled, band) < 0.1
    assert lsd_in_band(reference, filled, Band(CUTOFF, CUTOFF)) is None


def test_a_gain_is_its_own_bias():
    assert bias_db(Spectra(noise()), Spectra(2 * noise()), BAND) == pytest.approx(6.02, abs=0.01)


def test_a_rise_is_the_steepest_growth_over_four_milliseconds():
    time = torch.arange(48_000) / 48_000
    growth = 10 ** ((time % 0.1) * 2_000 / 20 - 10)  # 2 dB a millisecond, over 200 dB
    growth = growth.clamp(1e-3, 1.0)
    sweep = (growth * torch.sin(2 * math.pi * 12_000 * time))[None]
    # The window of 5.3 ms sees the same slope: 8 dB over 192 samples.
    assert rise_db(Spectra(sweep), BAND) == pytest.approx(8.0, abs=0.4)
    assert rise_db(Spectra(tones([12_000.0])), BAND) == pytest.approx(0.0, abs=0.1)


def test_the_envelope_correlates_with_itself_at_any_gain_and_not_with_another():
    moving = noise() * (1.5 + torch.sin(torch.arange(144_000) / 800))
    other = noise(seed=1) * (1.5 + torch.cos(torch.arange(144_000) / 800))
    same = envelope_correlation(Spectra(moving), Spectra(0.3 * moving), BAND)
    assert same == pytest.approx(1.0, abs=1e-3)
    assert abs(envelope_correlation(Spectra(moving), Spectra(other), BAND)) < 0.2
    assert envelope_correlation(Spectra(moving), Spectra(torch.zeros_like(moving)), BAND) is None


def test_lines_persist_and_noise_does_not():
    assert persistence(Spectra(comb(500.0)), BAND).mean() > 0.9
    assert persistence(Spectra(noise()), BAND).mean().abs() < 0.05


def test_persistence_and_match_are_read_in_the_reference_s_tonal_frames():
    lines, elsewhere = Spectra(comb(500.0)), Spectra(comb(510.0))
    assert tonal_persistence(lines, elsewhere, BAND) > 0.9
    assert match(lines, lines, BAND) == pytest.approx(1.0, abs=1e-3)
    assert match(lines, elsewhere, BAND) < 0.4
    assert abs(match(lines, Spectra(noise(seed=1)), BAND)) < 0.05
    assert match(Spectra(noise()), lines, BAND) is None


def test_noise_has_the_peakiness_of_noise_and_lines_have_more():
    reference = Spectra(noise())
    # log10 of an exponential power has a standard deviation of 0.557; 49 bins' mean is taken out.
    assert peakiness(reference, reference, BAND) == pytest.approx(0.545, abs=0.01)
    assert peakiness(reference, Spectra(comb(500.0)), BAND) > 0.7


def test_modulation_sees_a_tremolo_and_no_gain():
    time = torch.arange(144_000) / 48_000
    still = Spectra(noise())
    moving = Spectra(noise() * (1 + 0.8 * torch.sin(2 * math.pi * 8 * time)))
    assert modulation_db(still, Spectra(5 * noise()), BAND) == pytest.approx(0.0, abs=1e-3)
    chance = modulation_db(still, Spectra(noise(seed=1)), BAND)
    assert chance < 3.0 < modulation_db(still, moving, BAND)
    assert modulation_db(Spectra(noise(1.0)), Spectra(noise(1.0)), BAND) is None


def test_patches_of_highs_are_seen_beside_lows_that_hold_still():
    seconds, second = 16, 48_000
    low = filter_whole(noise(seconds), lowpass_kernel(5_000, 6_000, 48_000))
    high = noise(seconds, 1) - filter_whole(noise(seconds, 1), lowpass_kernel(8_000, 9_000, 48_000))
    weather = 10 ** (torch.randn(seconds, generator=torch.Generator().manual_seed(2)) * 2 / 20)
    reference = Spectra(low + high * weather.repeat_interleave(second))
    patchy = 10 ** (3 / 20) ** (torch.arange(seconds) % 2 * 2.0 - 1)  # every other second, +-3 dB
    made = Spectra(low + high * (weather * patchy).repeat_interleave(second))
    steady = Spectra(low + high)
    assert patchiness(reference, reference, BAND) == pytest.approx(1.0, abs=1e-6)
    assert patchiness(reference, made, BAND) > 1.3
    assert patchiness(reference, steady, BAND) < 0.7
    assert patchiness(Spectra(noise()), Spectra(noise()), BAND) is None


def test_every_measure_is_taken_and_a_recording_is_like_itself():
    reference = Spectra(noise())
    found = measure(reference, reference, CUTOFF)
    taken_elsewhere = {"draws_lsd_hf", "zimtohrli", "visqol", "real_time_factor"}
    assert set(SHOWN) - taken_elsewhere <= set(found)
    assert found["lsd_in_band"] == found["bias_db"] == found["modulation_db"] == 0
    assert found["envelope_correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "samples",
    [torch.zeros(1, 48_000), torch.zeros(1, 48_000).index_fill(1, torch.tensor([9]), 1.0)],
)
def test_silence_and_a_click_are_measured_without_a_nan(samples):
    found = measure(Spectra(samples), Spectra(samples), CUTOFF)
    assert all(value is None or math.isfinite(value) for value in found.values())
