"""The pinned distance: known answers for known differences, and the baseline it is read against."""

from __future__ import annotations

import pytest
import torch

from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.errors import InputError
from lily.evaluation.baselines import BASELINES, continued, fit_tilt
from lily.evaluation.metrics import distances, ssr_eval_lsd


def noise(seconds: float = 2.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, round(seconds * 48_000), generator=generator)


def test_a_gain_is_its_own_distance():
    found = distances(noise(), 10 * noise(), 8000.0)
    assert found.lsd == pytest.approx(2.0, abs=1e-3)  # 20 dB are 2 in log10 of power
    assert found.lsd_hf == pytest.approx(2.0, abs=1e-3)


def test_identical_recordings_have_no_distance():
    assert distances(noise(), noise(), 8000.0).lsd == 0


def test_two_draws_of_the_same_noise_differ_by_the_known_floor():
    # For two independent exponential powers, log10 differs by 0.7876 root mean square.
    found = distances(noise(4.0, 0), noise(4.0, 1), 8000.0)
    assert found.lsd_hf == pytest.approx(0.78, abs=0.02)


def test_the_split_separates_what_is_missing_from_what_is_kept():
    low = filter_whole(noise(), lowpass_kernel(8150, 8350, 48_000))
    found = distances(noise(), low, 8100.0)
    assert found.lsd_hf > 3 and found.lsd_lf < 0.3


def test_silent_frames_are_left_out_and_counted():
    samples = noise()
    samples[:, 48_000:] = 0
    found = distances(samples, samples + 1e-3, 8000.0)
    assert found.silent > 80 and found.frames > 80


def test_lengths_must_agree():
    with pytest.raises(InputError):
        distances(noise(), noise()[:, 1:], 8000.0)


def test_quiet_frames_are_judged_for_what_is_added_to_them():
    samples = noise(4.0)
    samples[:, 96_000:] *= 0.01  # 40 dB under the first half: quiet, not silent
    louder = samples.clone()
    louder[:, 96_000:] *= 2.0
    found = distances(samples, louder, 8000.0)
    assert found.quiet > 80
    assert found.quiet_excess_db == pytest.approx(6.02, abs=0.2)
    assert distances(noise(), noise(seed=1), 8000.0).quiet_excess_db is None


def test_the_envelope_ignores_the_draw_and_sees_the_level():
    assert distances(noise(4.0, 0), noise(4.0, 1), 8000.0).envelope_db < 1.0
    assert distances(noise(4.0, 0), 2 * noise(4.0, 1), 8000.0).envelope_db == pytest.approx(
        6, abs=1
    )


def test_the_stereo_image_is_compared_above_the_cutoff():
    left, right = noise(2.0, 0), noise(2.0, 1)
    wide, narrow = torch.cat([left, right]), torch.cat([left, left])
    assert distances(wide, narrow, 8000.0).stereo_change == pytest.approx(1.0, abs=0.05)
    assert distances(left, left, 8000.0).stereo_change is None


def test_the_other_definition_gives_the_value_its_package_gives():
    generator = torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(1, 48_000, generator=generator)
    made = 0.1 * torch.randn(1, 48_000, generator=generator) * torch.linspace(0.2, 1, 48_000)
    # ssr-eval 0.0.7, AudioMetrics(48000).evaluation(made, target)["lsd"], librosa's STFT
    assert ssr_eval_lsd(target, made) == pytest.approx(0.997080385684967, abs=1e-4)


@pytest.mark.parametrize("carrier", BASELINES)
def test_a_baseline_continues_white_noise_to_the_floor_of_chance(carrier):
    white = noise(4.0)
    low = filter_whole(white, lowpass_kernel(5_900, 6_100, 48_000))
    tilt = fit_tilt([noise(4.0, 5)], 6_000.0, carrier)
    filled = continued(low, 6_000.0, tilt, carrier, seed=1)
    assert distances(white, filled, 6_400.0).lsd_hf < 0.9


def test_what_lies_under_the_clamp_has_no_distance():
    """Bins hold 768 x the variance of white noise: both signals lie between 1e-11 and 1e-8."""
    quiet = noise() / 0.1 * 3e-7
    assert 1e-11 < 768 * 9e-14 < 1e-8
    assert distances(quiet, 2 * quiet, 8000.0).lsd == 0
    assert distances(1e3 * quiet, 2e3 * quiet, 8000.0).lsd == pytest.approx(0.602, abs=1e-3)


def test_the_noise_baseline_continues_white_noise_at_its_own_level():
    tilt = fit_tilt([noise(4.0, seed) for seed in (2, 3)], 8000.0, "noise")
    low = filter_whole(noise(4.0), lowpass_kernel(8000, 8400, 48_000))
    made = continued(low, 8000.0, tilt, "noise", seed=1)
    power = torch.fft.rfft(made[0]).abs().square()
    hz = torch.fft.rfftfreq(made.shape[-1], 1 / 48_000)
    above, below = (power[(hz > a) & (hz < b)].mean() for a, b in ((9e3, 16e3), (4.5e3, 7.5e3)))
    assert 10 * float((above / below).log10()) == pytest.approx(0, abs=0.5)
