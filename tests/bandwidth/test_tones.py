"""A few tones say nothing of where a band ends, so none of them is lost; anything else does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lily.bandwidth.meter import BandwidthMeter
from lily.dsp.filters import filter_whole, lowpass_kernel

RATE, SECONDS = 48_000, 6
TIME = torch.arange(SECONDS * RATE, dtype=torch.float64) / RATE


def tone(*frequencies_hz: float, level: float = 0.3) -> torch.Tensor:
    return level * sum(torch.sin(2 * math.pi * hz * TIME) for hz in frequencies_hz)


def noise(level: float) -> torch.Tensor:
    return level * torch.randn(len(TIME), generator=torch.Generator().manual_seed(0)).double()


def sweep(first_hz: float, last_hz: float) -> torch.Tensor:
    ratio = last_hz / first_hz
    cycles = first_hz * SECONDS / math.log(ratio) * ratio ** (TIME / SECONDS)
    return 0.5 * torch.sin(2 * math.pi * cycles)


def beeps() -> torch.Tensor:
    """Notes of half a second that rise and fall gently, in digital silence."""
    place = TIME % 0.5
    hz = 220 * 2 ** (((TIME / 0.5).long() * 7 % 24) / 12)
    gate = torch.sin(math.pi * place / 0.4).clamp(min=0) ** 2 * (place < 0.4)
    return 0.4 * torch.sin(2 * math.pi * hz * place) * gate


def sixteen_bits(x: torch.Tensor) -> torch.Tensor:
    return (x * 2**15).round() / 2**15


TONES = {
    "440 Hz": tone(440.0),
    "440 Hz at 16 bits": sixteen_bits(tone(440.0)),
    "440 Hz in dither": sixteen_bits(tone(440.0) + noise(2.0**-16)),
    "440 Hz, quiet": 1e-3 * tone(440.0),
    "3 kHz": tone(3_000.0),
    "9 kHz at 16 bits": sixteen_bits(tone(9_000.0)),
    "19 kHz": tone(19_000.0),
    "two tones": tone(440.0, 1_000.0),
    "two of a keypad": tone(941.0, 1_477.0),
    "two near ones": tone(697.0, 770.0),
    "two far apart": tone(60.0, 7_000.0),
    "hum": tone(50.0, 150.0, level=0.05),
    "440 Hz on an offset": tone(440.0) + 0.25,
    "sweep to 3 kHz": sweep(200.0, 3_000.0),
    "sweep to 20 kHz": sweep(20.0, 20_000.0),
    "beeps": beeps(),
}
OTHERS = {
    "ten partials": tone(*(220.0 * k for k in range(1, 11)), level=0.05),
    "noise": noise(0.1),
    "a tone in noise": tone(440.0) + noise(0.01),
    "noise below 2 kHz": filter_whole(
        noise(0.1)[None].float(), lowpass_kernel(1_900.0, 2_100.0, RATE)
    )[0],
    "noise below 500 Hz": filter_whole(
        noise(0.1)[None].float(), lowpass_kernel(450.0, 550.0, RATE)
    )[0],
    "noise below 1 kHz": filter_whole(
        noise(0.1)[None].float(), lowpass_kernel(950.0, 1_050.0, RATE)
    )[0],
    "quiet noise on an offset": noise(1e-3) + 0.25,
    "quiet noise on rumble": noise(1e-3) + tone(12.0),
    "silence": 0 * TIME,
    "an offset alone": 0 * TIME + 0.25,
}


def metered(*channels: torch.Tensor, nyquist_hz: float | None = None, block: int = 10_007):
    meter = BandwidthMeter(RATE, nyquist_hz)
    for part in torch.stack(channels).float().split(block, -1):
        meter.push(part)
    return meter


@pytest.mark.parametrize("name", TONES)
@pytest.mark.parametrize("nyquist_hz", [24_000.0, 22_050.0])
def test_a_few_tones_end_at_the_nyquist_frequency(name, nyquist_hz):
    meter = metered(TONES[name], nyquist_hz=nyquist_hz)
    found = meter.result()
    assert found.tones and found.full and found.cutoff_hz == nyquist_hz
    assert meter.segments() == ((0.0, nyquist_hz),)


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_no_few_tones(name):
    assert not metered(OTHERS[name]).result().tones


def test_block_sizes_change_no_frame():
    x = torch.cat([TONES["beeps"][:RATE], noise(0.1)[:RATE]])  # both kinds of frames
    whole, pieces = (metered(x, block=size) for size in (10**6, 1_001))
    assert whole.result() == pieces.result()
    few = [meter._loudest._tones._few.all for meter in (whole, pieces)]
    assert np.array_equal(*few) and 0 < few[0].mean() < 1


def test_a_channel_of_tones_loses_none_beside_one_of_music():
    music = filter_whole(noise(0.1)[None].float(), lowpass_kernel(5_800.0, 6_200.0, RATE))[0]
    meter = metered(tone(3_000.0), music)
    assert not meter.result().tones
    segments = meter.channel_segments() or (meter.segments(),)
    assert segments[0][0][1] > 5_500.0


def test_tones_before_music_are_no_few_tones():
    x = torch.cat([tone(440.0)[: 2 * RATE], noise(0.1)[: 4 * RATE]])
    assert not metered(x).result().tones
