"""Laws of degradation: seeded, without delay, and the highs are gone."""

import math

import pytest
import torch

from lily.dsp.degrade import (
    FAMILIES,
    Degradation,
    LowpassSpec,
    apply_lowpass,
    degrade,
    random_degradation,
    random_lowpass,
)
from lily.errors import InputError

RATE = 48_000


def tone(frequency: float) -> torch.Tensor:
    time = torch.arange(24_000, dtype=torch.float64) / RATE
    return torch.sin(2 * math.pi * frequency * time)[None].float()


def test_the_generator_alone_decides() -> None:
    drawn = [
        [random_lowpass(generator) for _ in range(50)]
        for generator in (torch.Generator().manual_seed(5), torch.Generator().manual_seed(5))
    ]
    assert drawn[0] == drawn[1]
    assert {spec.family for spec in drawn[0]} == set(FAMILIES)
    assert all(2 <= spec.order <= 10 for spec in drawn[0])
    assert all(2_000 <= spec.cutoff_hz <= 16_000 for spec in drawn[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [2, 8])
def test_lows_stay_in_place_and_highs_go(family: str, order: int) -> None:
    spec = LowpassSpec(family, order, 6_000.0)
    middle = slice(6_000, 18_000)
    low = tone(500.0)
    error = (apply_lowpass(low, spec, RATE) - low)[:, middle].abs().max()
    assert error < 0.03  # two passes of 0.1 dB ripple; a delay of one sample would be 0.065
    high = apply_lowpass(tone(20_000.0), spec, RATE)
    assert high[:, middle].abs().max() < 0.05


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [1, 10, 1_001])
def test_any_length_is_kept(family: str, length: int) -> None:
    x = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    out = apply_lowpass(x, LowpassSpec(family, 8, 4_000.0), RATE)
    assert out.shape == x.shape and out.dtype == torch.float32 and out.isfinite().all()


def test_impossible_degradations_are_refused() -> None:
    x = torch.zeros(1, 100)
    for spec in (
        LowpassSpec("brick", 8, 4_000.0),
        LowpassSpec("butter", 11, 4_000.0),
        LowpassSpec("butter", 8, 24_000.0),
    ):
        with pytest.raises(InputError):
            apply_lowpass(x, spec, RATE)
    with pytest.raises(InputError):
        random_lowpass(torch.Generator(), (5_000.0, 4_000.0))


def test_what_is_degraded_follows_from_the_generator_and_keeps_its_level() -> None:
    x = 0.1 * torch.randn(1, 48_000, generator=torch.Generator().manual_seed(1))
    kinds = set()
    for seed in range(12):
        made = []
        for _ in range(2):
            generator = torch.Generator().manual_seed(seed)
            drawn = random_degradation(generator, (4_000.0, 8_000.0), codec_share=0.3)
            made.append(degrade(x, drawn, RATE, generator))
        kinds.add(type(drawn.how).__name__)
        assert torch.equal(*made)
        assert made[0].shape == x.shape
        assert 0.2 < float(made[0].square().mean() / x.square().mean()) < 1.2
    assert kinds == {"LowpassSpec", "CodecSpec"}


def test_sixteen_bits_of_a_quiet_recording_are_heard() -> None:
    x = tone(1_000.0)
    spec = LowpassSpec("butter", 8, 8_000.0)
    errors = []
    for level in (0.0, -40.0):
        generator = torch.Generator().manual_seed(0)
        rounded = degrade(x, Degradation(spec, level, rounded=True), RATE, generator)
        exact = degrade(x, Degradation(spec, level, rounded=False), RATE, generator)
        errors.append(float((rounded - exact).square().mean()))
    assert errors[1] / errors[0] == pytest.approx(10**4, rel=0.2)  # 40 dB
