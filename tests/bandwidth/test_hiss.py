"""Laws of edges under steady noise: hiss hides no cutoff, and makes none."""

import pytest
import torch
from signals import RATE, hiss, low, meter_of, music

from lily.audio.resample import resample
from lily.bandwidth.meter import BandwidthMeter


def cutoff_of(x: torch.Tensor, **options: float) -> float:
    return meter_of(x, **options).result().cutoff_hz


@pytest.mark.parametrize("under_db", [10.0, 15.0, 20.0, 30.0, 40.0])
@pytest.mark.parametrize("cutoff_hz", [4_000.0, 7_000.0, 10_000.0])
def test_hiss_over_a_wall_does_not_hide_it(cutoff_hz: float, under_db: float) -> None:
    x = low(music(1, 10.0), cutoff_hz)
    assert cutoff_of(x + hiss(x, cutoff_hz, under_db)) == pytest.approx(cutoff_hz, rel=0.07)


@pytest.mark.parametrize("slope_db", [-6.0, -3.0, 3.0])
def test_hiss_of_any_colour_does_not_hide_a_wall(slope_db: float) -> None:
    x = low(music(2, 10.0), 8_000)
    found = cutoff_of(x + hiss(x, 8_000, 20.0, slope_db))
    assert found == pytest.approx(8_000, rel=0.07)


def test_hiss_that_ends_itself_does_not_hide_a_wall() -> None:
    x = low(music(3, 10.0), 6_000)
    x = low(x + hiss(x, 6_000, 20.0), 16_000)
    assert cutoff_of(x) == pytest.approx(6_000, rel=0.07)


def test_hiss_in_a_file_of_another_rate_does_not_hide_a_wall() -> None:
    x = low(music(4, 10.0), 9_000)
    x = resample(resample(x + hiss(x, 9_000, 20.0), RATE, 44_100), 44_100, RATE)
    assert cutoff_of(x, nyquist_hz=22_050) == pytest.approx(9_000, rel=0.07)


@pytest.mark.parametrize("under_db", [5.0, 15.0, 25.0, 40.0])
@pytest.mark.parametrize("slope_db", [-12.0, -6.0, 0.0])
def test_hiss_over_a_full_recording_makes_no_cutoff(slope_db: float, under_db: float) -> None:
    x = music(5, 10.0, slope_db)
    meter = meter_of(x + hiss(x, 8_000, under_db))
    assert meter.segments() == ((0.0, 24_000.0),)


@pytest.mark.parametrize("band_hz", [(8_000.0, 24_000.0), (100.0, 24_000.0)])
def test_steady_noise_alone_has_no_cutoff(band_hz: tuple[float, float]) -> None:
    noise = hiss(music(6, 10.0), 8_000, 0.0)
    noise = noise - low(noise, band_hz[0])
    assert cutoff_of(noise) == 24_000


@pytest.mark.parametrize("under_db", [15.0, 25.0, 35.0])
@pytest.mark.parametrize("order", ["wn", "nw", "wnw", "nwn"])
def test_a_change_of_bandwidth_is_found_under_hiss(order: str, under_db: float) -> None:
    parts = [music(10 + seed, 10.0, 0.0) for seed in range(len(order))]
    parts = [low(x, 5_000) if what == "n" else x for x, what in zip(parts, order, strict=True)]
    x = torch.cat(parts, dim=-1)
    found = meter_of(x + hiss(x, 5_000, under_db)).segments()
    assert [start for start, _ in found] == pytest.approx(
        [10.0 * index for index in range(len(order))], abs=1.5
    )
    assert [hz for _, hz in found] == pytest.approx(
        [5_000 if what == "n" else 24_000 for what in order], rel=0.07
    )


@pytest.mark.parametrize("pause", [2.0, 5.0, 8.0])
def test_a_pause_under_hiss_belongs_to_the_narrow_part(pause: float) -> None:
    narrow, wide = low(music(30, 12.0, 0.0), 5_000), music(31, 12.0, 0.0)
    narrow[:, int((12 - pause) * RATE) :] = 0.0
    x = torch.cat([narrow, wide], dim=-1)
    (_, (start, _)) = meter_of(x + hiss(x, 5_000, 15.0)).segments()
    assert start == pytest.approx(12.0, abs=0.3)


def test_faint_highs_under_hiss_belong_to_the_wide_part() -> None:
    narrow, wide = low(music(33, 10.0, 0.0), 5_000), music(34, 14.0, 0.0)
    kept = low(wide, 5_000)
    gain = torch.cat([torch.full((4 * RATE,), 0.2), torch.ones(10 * RATE)])  # -14 dB for 4 s
    x = torch.cat([narrow, kept + gain * (wide - kept)], dim=-1)
    (_, (start, _)) = meter_of(x + hiss(x, 5_000, 12.0)).segments()
    assert start == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("every", [1.0, 3.0, 5.0])
def test_where_the_next_part_is_hardly_wide_no_boundary_is_placed_far_off(every: float) -> None:
    before, after = music(40, 10.0, 0.0), music(42, 14.0, 0.0)
    kept = low(after, 5_000)
    sounds = ((torch.arange(14 * RATE) / RATE + 3.0) % every < 0.4).float()
    parts = [before, low(music(41, 12.0, 0.0), 5_000), kept + sounds * (after - kept)]
    x = torch.cat(parts, dim=-1)
    found = meter_of(x + hiss(x, 5_000, 15.0)).segments()
    assert all(min(abs(start - 10.0), abs(start - 22.0)) < 3.0 for start, _ in found[1:])


@pytest.mark.parametrize("hz", [15_625.0, 15_700.0, 15_734.0, 19_000.0])
@pytest.mark.parametrize("level_db", [-30.0, -60.0])
def test_a_pilot_tone_above_a_wall_does_not_hide_it(hz: float, level_db: float) -> None:
    x = music(7, 8.0)
    tone = 10 ** (level_db / 20) * torch.sin(2 * torch.pi * hz * torch.arange(8 * RATE) / RATE)
    assert cutoff_of(low(x, 6_000) + tone) == pytest.approx(6_000, rel=0.05)
    assert cutoff_of(x + tone) == 24_000


def test_a_tone_that_plays_is_content() -> None:
    time = torch.arange(8 * RATE) / RATE
    played = 0.05 * torch.sin(2 * torch.pi * 12_000 * time) * (time % 1.0 < 0.5)
    x = low(music(8, 8.0), 6_000) + played
    assert cutoff_of(x) > 11_500


@pytest.mark.parametrize("floor_db", [-60.0, -80.0, -100.0, -300.0])
def test_mains_hum_alone_has_no_cutoff(floor_db: float) -> None:
    time = torch.arange(10 * RATE, dtype=torch.float64) / RATE
    hum = sum(0.1 / k**2 * torch.sin(2 * torch.pi * 50 * k * time) for k in range(1, 14))
    noise = torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(9))
    x = hum.float() + 10 ** (floor_db / 20) * noise
    assert meter_of(x).segments() == ((0.0, 24_000.0),)


def test_a_meter_that_is_read_twice_gives_the_same() -> None:
    x = low(music(9, 8.0), 6_000)
    x = x + hiss(x, 6_000, 20.0)
    meter = BandwidthMeter()
    meter.push(x)
    assert meter.result() == meter.result()
    assert meter.segments() == meter.segments()


@pytest.mark.parametrize("cutoff_hz", [4_000.0, 8_000.0])
@pytest.mark.parametrize("dither", [False, True])
@pytest.mark.parametrize("afterwards", ["gain", "resampling", "both"])
def test_the_noise_of_8_bits_hides_no_wall_after_gain_or_resampling(
    cutoff_hz: float, dither: bool, afterwards: str
) -> None:
    generator = torch.Generator().manual_seed(11)
    x = 0.8 * low(music(9, 8.0, -3.0), cutoff_hz)
    if afterwards != "gain":
        x = resample(x, RATE, 44_100)
    noise = torch.rand(2, *x.shape, generator=generator)
    x = (x * 128 + (noise[0] - noise[1] if dither else 0)).round() / 128
    if afterwards != "gain":
        x = resample(x, 44_100, RATE)
    if afterwards != "resampling":
        x = 0.9 * x  # its grid is gone
    bound_hz = 24_000.0 if afterwards == "gain" else 22_050.0
    assert cutoff_of(x, nyquist_hz=bound_hz) == pytest.approx(cutoff_hz, rel=0.08)
