"""Laws of codec round trips: aligned to the sample, the same length, worse at a lower rate."""

import math

import pytest
import torch

from lily.dsp.codec import CODECS, CodecSpec, mp3, random_codec, round_trip
from lily.errors import InputError


def sweep(channels: int = 1, seconds: float = 3.0) -> torch.Tensor:
    """Tones that come and go, so that every delay but the right one agrees less."""
    time = torch.arange(round(48_000 * seconds), dtype=torch.float64) / 48_000
    tone = torch.sin(2 * math.pi * (300 + 900 * time) * time) * (0.3 + 0.2 * torch.sin(9 * time))
    return tone.float().expand(channels, -1).clone()


@pytest.mark.parametrize("spec", [mp3(48), mp3(64), mp3(192), CodecSpec("vorbis", 0.7)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_round_trip_is_aligned_and_as_long(spec: CodecSpec, channels: int) -> None:
    x = sweep(channels)
    made = round_trip(x, spec)
    assert made.shape == x.shape
    middle = slice(10_000, -10_000)
    error = (made - x)[:, middle].square().mean() / x[:, middle].square().mean()
    assert 10 * math.log10(float(error)) < -15


def test_a_lower_rate_is_worse() -> None:
    x = 0.1 * torch.randn(1, 96_000, generator=torch.Generator().manual_seed(0))
    errors = [float((round_trip(x, mp3(rate)) - x).square().mean()) for rate in (48, 96, 192)]
    assert errors[0] > errors[1] > errors[2]


def test_minutes_at_once_are_no_danger() -> None:
    x = sweep(seconds=90.0)
    assert round_trip(x, CodecSpec("vorbis", 0.9)).shape == x.shape


def test_the_generator_alone_decides() -> None:
    drawn = [
        [random_codec(torch.Generator().manual_seed(seed)) for seed in range(30)] for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert {spec.name for spec in drawn[0]} == set(CODECS)


def test_what_is_not_possible_is_one_sentence() -> None:
    with pytest.raises(InputError, match="32 to 320"):
        mp3(500)
    with pytest.raises(InputError, match="choose mp3"):
        round_trip(sweep(), CodecSpec("aac", 0.5))
