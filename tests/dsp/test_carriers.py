"""Laws of the carriers: exact lines, no trace of blocks, one image, and nothing from nothing."""

from __future__ import annotations

import math

import pytest
import torch

from lily.dsp.carriers import FEATURES, HOP, LowBand
from lily.dsp.filters import band_limit_kernel, filter_whole
from lily.dsp.lag import CLEAR

CUTOFF = 8_000.0
HALO = 24 * 480  # what a vocoder block has on each side


def tone(pitch: float, seconds: float = 1.0, vibrato: float = 0.0) -> torch.Tensor:
    """Partials to 20 kHz, (1, n) with n a multiple of 960."""
    time = torch.arange(round(seconds * 48_000) // HOP * HOP, dtype=torch.float64) / 48_000
    phase = pitch * time + vibrato * pitch / (2 * math.pi * 5) * torch.sin(2 * math.pi * 5 * time)
    partials = range(1, int(20_000 / pitch) + 1)
    return sum(0.1 / k * torch.sin(2 * math.pi * k * (phase + 0.1 * k)) for k in partials)[
        None
    ].float()


def noise(channels: int = 1, seconds: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * 48_000) // HOP * HOP, generator=generator)


def low_band(samples: torch.Tensor, cutoff: float = CUTOFF, start: int = 0) -> LowBand:
    low = filter_whole(samples, band_limit_kernel(cutoff, 48_000))[None]
    return LowBand(low, torch.full((1, low.shape[-1] // 480), cutoff), start)


def places(band: LowBand, value: float = 0.3) -> torch.Tensor:
    return torch.full_like(band.lag, value)


@pytest.mark.parametrize("pitch", [100.0, 220.0, 441.0, 1_000.0])
def test_the_aligned_copy_of_a_tone_has_its_lines_where_its_partials_are(pitch):
    samples = tone(pitch, 2.0)
    copy = low_band(samples).aligned()[0, 0]
    inner = slice(24_000, 72_000)  # bins of 1 Hz
    window = torch.hann_window(48_000)
    power = torch.fft.rfft(copy[inner] * window).abs().square()
    hz = torch.arange(len(power), dtype=torch.float64)
    from_a_partial = (hz / pitch - (hz / pitch).round()).abs() * pitch
    above = (hz > CUTOFF) & (hz < 16_000)
    near = from_a_partial < 15
    assert float(power[above & near].sum() / power[above].sum()) > (0.95 if pitch > 150 else 0.9)


@pytest.mark.parametrize(("vibrato", "off"), [(0.0, 2e-4), (0.003, 2e-3)])
@pytest.mark.parametrize("pitch", [110.0, 330.0, 733.0, 886.0])
def test_the_lag_is_a_multiple_of_the_pitch_and_follows_vibrato(pitch, vibrato, off):
    band = low_band(tone(pitch, 2.0, vibrato))
    seconds = torch.arange(band.lag.shape[1]) / 50
    there = pitch * (1 + vibrato * torch.cos(2 * math.pi * 5 * seconds))
    ratio = (band.lag[0] * 12.5 / there)[20:-20]
    assert (ratio / ratio.round() - 1).abs().quantile(0.9) < off
    assert band.peak[0, 20:-20].min() > CLEAR


def test_noise_has_no_clear_lag():
    assert low_band(noise(seconds=2.0)).peak.max() < CLEAR


@pytest.mark.parametrize("cutoff", [4_000.0, 8_000.0])
def test_the_drawn_copy_of_a_tone_has_the_lines_of_the_aligned_one(cutoff):
    band = low_band(tone(441.0, 2.0) + 1e-4 * noise(seconds=2.0), cutoff)
    inner = slice(9_600, -9_600)
    assert torch.equal(band.drawn(places(band))[..., inner], band.aligned()[..., inner])


@pytest.mark.parametrize("copy", ["aligned", "drawn"])
def test_a_window_of_the_recording_has_the_copies_of_the_whole(copy):
    samples = tone(441.0, 3.0) + 0.1 * noise(seconds=3.0)
    whole = low_band(samples)
    low = whole.samples[0]
    start, stop = 49 * HOP, 99 * HOP
    padded = low[:, start - HALO : stop + HALO]
    part = LowBand(padded[None], torch.full((1, padded.shape[-1] // 480), CUTOFF), start - HALO)

    def made(band: LowBand) -> torch.Tensor:
        return band.aligned() if copy == "aligned" else band.drawn(places(band))

    expected = made(whole)[..., start:stop]
    assert torch.allclose(made(part)[..., HALO:-HALO], expected, atol=1e-4 * expected.abs().max())


def test_features_and_level_of_a_window_are_those_of_the_whole():
    samples = tone(441.0, 3.0) + 0.1 * noise(seconds=3.0)
    whole = low_band(samples)
    start, stop = 49 * HOP, 99 * HOP
    padded = whole.samples[..., start - HALO : stop + HALO]
    part = LowBand(padded, torch.full((1, padded.shape[-1] // 480), CUTOFF), start - HALO)
    edge = 24 - 7  # frames: what the vocoder's own layers reach beyond a block
    inner = part.features()[..., edge:-edge]
    expected = whole.features()[..., start // 480 - 7 : stop // 480 + 7]
    assert inner.shape == (1, FEATURES, expected.shape[-1])
    assert torch.allclose(inner, expected, atol=2e-3)
    assert torch.allclose(
        part.level()[..., 96:-96], whole.level()[..., start // 120 : stop // 120], atol=1e-4
    )


def test_channels_share_the_analysis_and_keep_their_relation():
    left = tone(330.0) + 0.1 * noise()
    band = low_band(torch.cat([left, -left, 0.5 * left]))
    alone = low_band(left)
    for made, single in ((band.aligned(), alone.aligned()), (band.drawn(places(band)), None)):
        assert torch.allclose(made[:, 1], -made[:, 0], atol=1e-6)
        assert torch.allclose(made[:, 2], 0.5 * made[:, 0], atol=1e-6)
        if single is not None:  # inverted channels do not cancel in the analysis
            assert torch.allclose(made[:, :1], single, atol=1e-5)
    assert torch.allclose(band.level(), alone.level(), atol=1e-4)


def test_the_drawn_copy_is_decided_by_its_place_and_by_nothing_else():
    band = low_band(noise())
    assert torch.equal(band.drawn(places(band)), band.drawn(places(band)))
    correlation = torch.corrcoef(
        torch.stack([band.drawn(places(band, value))[0, 0] for value in (0.2, 0.7)])
    )
    assert abs(float(correlation[0, 1])) < 0.2


def test_copies_hold_nothing_below_the_source_s_end():
    copy = low_band(noise()).aligned()[0, 0, 4_800:-4_800]
    power = torch.fft.rfft(copy * torch.hann_window(len(copy))).abs().square()
    hz = torch.fft.rfftfreq(len(copy), 1 / 48_000)
    assert float(power[hz < 0.88 * CUTOFF].sum() / power.sum()) < 1e-4


SQUARE = torch.sign(torch.sin(torch.arange(24_000) * 0.013))[None]
CLICK = torch.zeros(1, 24_000).index_fill(1, torch.tensor([12_000]), 1.0)
SINE = torch.sin(torch.arange(24_000) * 0.4)[None]


@pytest.mark.parametrize("cutoff", [500.0, 2_000.0, 12_000.0, 22_000.0])
@pytest.mark.parametrize("samples", [torch.zeros(1, 24_000), SQUARE, CLICK, SINE, SINE[:, :960]])
def test_nothing_makes_a_copy_or_a_feature_that_is_not_finite(samples, cutoff):
    band = LowBand(samples[None], torch.full((1, samples.shape[-1] // 480), cutoff))
    guide = band.guide(places(band))
    for made in (guide.copies, guide.features, guide.level):
        assert made.isfinite().all()
    if not samples.any():
        assert not guide.copies.any()
        assert torch.equal(guide.level, torch.ones_like(guide.level))
    most = 1 + 24_000 / (0.2 * cutoff)  # copies of one source that may add up
    assert float(guide.copies.abs().max()) <= most * float(samples.abs().max())


def test_a_cutoff_that_changes_is_followed_frame_by_frame():
    cutoff = torch.full((1, 100), 4_000.0)
    cutoff[:, 50:] = 9_000.0
    band = LowBand(noise()[None], cutoff)
    assert band.end[0, 10] == 288 and band.end[0, 40] == 648


def test_lengths_off_the_grid_are_refused():
    with pytest.raises(ValueError, match="960"):
        LowBand(torch.zeros(1, 1, 1_000), torch.zeros(1, 2))
