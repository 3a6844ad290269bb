"""Laws of clicks: crackle hides no cutoff, and what only sounds like it is kept."""

import pytest
import torch
from signals import RATE, hiss, low, meter_of, music

from lily.bandwidth.clicks import BESIDE, GAP, ISOLATED, _isolated, suppress_clicks


def crackle(x: torch.Tensor, rate: float, decay: float = 0.0) -> torch.Tensor:
    """Add clicks of 0.06 to 0.2 to (1, T), ``rate`` a second, fading over ``decay`` samples."""
    generator = torch.Generator().manual_seed(5)
    count = int(rate * x.shape[-1] / RATE)
    impulses = torch.zeros_like(x)
    places = torch.randint(0, x.shape[-1] - 200, (count,), generator=generator)
    impulses[0, places] = (0.06 + 0.14 * torch.rand(count, generator=generator)) * torch.where(
        torch.rand(count, generator=generator) < 0.5, -1.0, 1.0
    )
    if not decay:
        return x + impulses
    shape = torch.exp(-torch.arange(100) / decay).flip(0)[None, None]
    padded = torch.nn.functional.pad(impulses, (99, 0))
    return x + torch.nn.functional.conv1d(padded[None], shape)[0]


@pytest.mark.parametrize("rate", [1, 3, 10, 20])
@pytest.mark.parametrize("cutoff_hz", [4_000.0, 8_000.0, 12_000.0])
def test_crackle_over_a_wall_does_not_hide_it(cutoff_hz: float, rate: float) -> None:
    x = crackle(low(music(1, 10.0), cutoff_hz), rate)
    assert meter_of(x).result().cutoff_hz == pytest.approx(cutoff_hz, rel=0.07)


@pytest.mark.parametrize("decay", [2.0, 5.0, 15.0])
def test_pops_that_fade_do_not_hide_a_wall(decay: float) -> None:
    x = crackle(low(music(2, 10.0), 8_000), 5, decay)
    assert meter_of(x).result().cutoff_hz == pytest.approx(8_000, rel=0.07)


@pytest.mark.parametrize("cutoff_hz", [7_000.0, 11_000.0])
def test_crackle_with_hiss_does_not_hide_a_wall(cutoff_hz: float) -> None:
    x = low(music(3, 10.0), cutoff_hz)
    x = crackle(x + hiss(x, cutoff_hz, 25.0), 4)
    assert meter_of(x).result().cutoff_hz == pytest.approx(cutoff_hz, rel=0.07)


@pytest.mark.parametrize("rate", [1, 5, 20])
@pytest.mark.parametrize("slope_db", [-9.0, -3.0])
def test_crackle_over_a_full_recording_makes_no_cutoff(slope_db: float, rate: float) -> None:
    meter = meter_of(crackle(music(4, 12.0, slope_db), rate))
    assert meter.segments() == ((0.0, 24_000.0),)


@pytest.mark.parametrize("order", ["nw", "wn"])
def test_clicks_in_part_of_a_narrow_segment_make_no_wide_one(order: str) -> None:
    narrow, wide = low(music(20, 16.0), 5_000), music(21, 12.0)
    clicked = narrow.clone()
    clicked[:, RATE // 10 : 6 * RATE : RATE // 5] += 0.2
    parts = [clicked, wide] if order == "nw" else [wide, clicked.flip(-1)]
    found = meter_of(torch.cat(parts, dim=-1)).segments()
    assert [hz for _, hz in found] == pytest.approx(
        [5_000, 24_000] if order == "nw" else [24_000, 5_000], rel=0.05
    )
    assert found[1][0] == pytest.approx(parts[0].shape[-1] / RATE, abs=0.5)


def test_each_channel_is_freed_of_its_own_clicks() -> None:
    left, right = low(music(5, 8.0), 5_000), low(music(6, 8.0), 10_000)
    ((_, left_hz),), ((_, right_hz),) = meter_of(
        torch.cat([crackle(left, 5), right])
    ).channel_segments()
    assert left_hz == pytest.approx(5_000, rel=0.07)
    assert right_hz == pytest.approx(10_000, rel=0.07)


def frames(x: torch.Tensor) -> torch.Tensor:
    return torch.fft.rfft(x.unfold(-1, 2_048, 1_024) * torch.hann_window(2_048)).abs().square()


def test_strokes_pulses_and_consonants_are_no_clicks() -> None:
    time = torch.arange(2 * RATE) / RATE
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(1, 2 * RATE, generator=generator)
    stroke = noise * torch.exp(-(time % 0.5) / 0.01)
    consonant = noise * (time % 0.5 < 0.05)
    pulses = (torch.arange(2 * RATE) % 240 == 0).float()[None]
    for x in (stroke, consonant, noise):
        assert suppress_clicks(x, frames(x), 2_048) is None
    power = frames(pulses)
    declicked = suppress_clicks(pulses, power, 2_048)
    assert declicked is None or torch.equal(declicked, power)


def test_a_click_is_removed_and_the_rest_is_kept() -> None:
    x = low(music(8, 2.0), 6_000)
    clean = frames(x)
    x[:, RATE] += 0.5
    power = frames(x)
    declicked = suppress_clicks(x, power, 2_048)
    assert declicked is not None
    above = slice(400, None)  # from 9.4 kHz on
    touched = power[0, :, above].mean(-1) > 10 * clean[0, :, above].mean(-1) + 1e-9
    assert 1 <= touched.sum() <= 2
    assert (declicked[0, touched, above].mean(-1) < 0.01 * power[0, touched, above].mean(-1)).all()
    assert torch.equal(declicked[0, ~touched], power[0, ~touched])


def test_a_cell_is_isolated_where_it_is_far_above_both_medians() -> None:
    cells = torch.rand(2, 400, generator=torch.Generator().manual_seed(0)) ** 8
    cells[:, 50:60] = 0.0  # where everything is far above
    expected = torch.zeros_like(cells, dtype=torch.bool)
    padded = torch.nn.functional.pad(cells, (GAP + BESIDE, GAP + BESIDE))
    for channel, place in torch.cartesian_prod(torch.arange(2), torch.arange(400)).tolist():
        middle = place + GAP + BESIDE
        before = padded[channel, middle - GAP - BESIDE : middle - GAP].median()
        after = padded[channel, middle + GAP + 1 : middle + GAP + 1 + BESIDE].median()
        expected[channel, place] = cells[channel, place] > ISOLATED * max(before, after)
    assert 5 < expected.sum() < 200
    assert torch.equal(_isolated(cells), expected)
