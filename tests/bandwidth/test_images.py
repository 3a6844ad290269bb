"""Laws of images: upsampling without a filter is no bandwidth, and real highs are no images."""

import numpy as np
import pytest
import torch
from scipy import signal
from signals import low, meter_of, music


def upsampled(x: torch.Tensor, factor: int, kind: str) -> torch.Tensor:
    """Decimate (1, T) with a filter, and go back without one."""
    old = signal.resample_poly(x[0].double().numpy(), 1, factor)
    places = np.arange(x.shape[-1] - 4 * factor) / factor
    if kind == "linear":
        made = np.interp(places, np.arange(len(old)), old)
    elif kind == "held":
        made = old[places.astype(int)]
    else:
        before = places.astype(int).clip(1, len(old) - 3)
        t = places - before
        a, b, c, d = (old[before + k] for k in (-1, 0, 1, 2))
        made = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return torch.from_numpy(made).float()[None]


@pytest.mark.parametrize("factor", [2, 3, 6])
@pytest.mark.parametrize("kind", ["linear", "cubic", "held"])
def test_images_end_at_the_old_nyquist(kind: str, factor: int) -> None:
    old_nyquist_hz = 24_000 / factor
    result = meter_of(upsampled(music(1, 8.0, -3.0), factor, kind)).result()
    assert 0.9 * old_nyquist_hz <= result.cutoff_hz <= 1.02 * old_nyquist_hz
    assert result.steep


@pytest.mark.parametrize("rate", [11_025, 22_050])
def test_images_of_rates_that_do_not_divide_end_at_the_old_nyquist(rate: int) -> None:
    x = music(2, 8.0, -3.0)
    old = signal.resample_poly(x[0].double().numpy(), rate // 75, 640)
    made = np.interp(np.arange(x.shape[-1] - 100) * rate / 48_000, np.arange(len(old)), old)
    found = meter_of(torch.from_numpy(made).float()[None]).result().cutoff_hz
    assert 0.9 * rate / 2 <= found <= 1.02 * rate / 2


@pytest.mark.parametrize("kind", ["linear", "held"])
def test_a_wall_below_the_images_is_found(kind: str) -> None:
    found = meter_of(upsampled(low(music(3, 8.0), 5_000), 3, kind)).result().cutoff_hz
    assert found == pytest.approx(5_000, rel=0.05)


@pytest.mark.parametrize("slope_db", [-9.0, -3.0, 0.0])
def test_a_full_recording_has_no_images(slope_db: float) -> None:
    assert meter_of(music(4, 8.0, slope_db)).result().cutoff_hz == 24_000


@pytest.mark.parametrize("pitch_hz", [100.0, 120.0, 160.0, 220.5])
def test_harmonics_on_both_sides_are_no_images(pitch_hz: float) -> None:
    time = torch.arange(8 * 48_000, dtype=torch.float64) / 48_000
    phases = torch.rand(
        int(23_900 / pitch_hz), generator=torch.Generator().manual_seed(5), dtype=torch.float64
    )
    tones = sum(
        torch.sin(2 * torch.pi * (pitch_hz * k * time + phase)) / k
        for k, phase in enumerate(phases.tolist(), 1)
    )
    x = (0.1 * tones * (1 + 0.9 * torch.sin(2 * torch.pi * 1.3 * time))).float()[None]
    assert meter_of(x).result().cutoff_hz > 20_000
