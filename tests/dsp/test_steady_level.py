"""Laws of steadying: slow changes shrink, the mean, attacks, silence and what is known stay."""

from __future__ import annotations

import math

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.dsp.steady_level import BLOCK, FOLLOWED, WINDOW, SlowChange, SteadyLevel

MEL = LogMel(MelConfig())
HZ = bin_centres_hz(MEL)
FRAMES, CUTOFF_HZ = 512, 8_000.0
SHARE = 0.5


def steadied(generated, low, cutoff_hz=CUTOFF_HZ, share=SHARE):
    cutoffs_hz = torch.full((len(low),), cutoff_hz)
    return SteadyLevel(share, MEL).apply(generated, low, cutoffs_hz)


def wave(seconds: float, size: float = 0.5) -> torch.Tensor:
    return size * torch.sin(torch.arange(FRAMES) * 0.01 * 2 * math.pi / seconds)[:, None]


def level(frames: torch.Tensor) -> torch.Tensor:
    return frames[:, -40:].mean(1)


def test_a_slow_change_that_the_lows_lack_is_halved_and_the_mean_stays() -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0)
    made = steadied(low + wave(2.56), low)
    assert level(made).std() / level(low + wave(2.56)).std() == pytest.approx(0.55, abs=0.1)
    assert level(made).mean() == pytest.approx(-3.0, abs=0.05)


def test_a_change_as_the_lows_tell_stays() -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0) + wave(2.56)
    generated = torch.full((FRAMES, len(HZ)), -5.0) + FOLLOWED * wave(2.56)
    assert (steadied(generated, low) - generated).abs().max() < 0.02


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_fast_movement_stays(seconds: float) -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0)
    generated = low + wave(seconds)
    moved = (steadied(generated, low) - generated)[60:-60]
    assert moved.abs().max() < 0.05


def test_all_mels_move_together_and_a_constant_level_not_at_all(randn) -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0)
    texture = randn(FRAMES, len(HZ)) * 0.3 - 3.0 + wave(4.0)
    change = steadied(texture, low) - texture
    assert torch.allclose(change, change[:, :1].expand_as(change), atol=1e-6)
    assert torch.allclose(steadied(low.clone(), low), low, atol=1e-5)


def test_silence_stays_silence_and_a_short_sound_is_left_alone() -> None:
    low = torch.full((FRAMES, len(HZ)), LOG_FLOOR)
    low[:100] = -3.0
    generated = torch.full((FRAMES, len(HZ)), LOG_FLOOR)
    generated[:100] = -4.0 + wave(1.0)[:100]
    assert torch.equal(steadied(generated, low), generated)
    low[:300] = -3.0
    generated[:300] = -4.0 + wave(1.0)[:300]
    assert torch.equal(steadied(generated, low)[300:], generated[300:])


def test_each_cutoff_is_steadied_by_its_own_frames() -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0)
    generated = low.clone()
    generated[256:] += 2.0  # another cutoff, another level: no slow change
    cutoffs_hz = torch.full((FRAMES,), CUTOFF_HZ)
    cutoffs_hz[256:] = 4_000.0
    made = SteadyLevel(SHARE, MEL).apply(generated, low, cutoffs_hz)
    assert torch.allclose(made, generated, atol=1e-5)
    moving = generated + torch.where(cutoffs_hz == CUTOFF_HZ, wave(2.56)[:, 0], 0.0)[:, None]
    made = SteadyLevel(SHARE, MEL).apply(moving, low, cutoffs_hz)
    assert torch.allclose(made[256:], generated[256:], atol=1e-5)
    assert level(made[:256]).std() < 0.8 * level(moving[:256]).std()


def test_a_pause_that_lows_and_highs_share_is_moved_by_3_db_at_most() -> None:
    low = torch.full((FRAMES, len(HZ)), -2.0)
    low[256:] -= 7.0  # 61 dB
    generated = low - 1.0
    change = (steadied(generated, low) - generated) * NEPER_DB
    assert change.abs().max() <= 3.001


def test_a_burst_keeps_its_level_within_3_db() -> None:
    low = torch.full((FRAMES, len(HZ)), -7.0)
    low[250:275] += 5.0  # 43 dB for 0.25 s
    change = (steadied(low - 1.0, low) - low + 1.0) * NEPER_DB
    assert change.abs().max() <= 3.001


def test_a_sound_far_from_others_is_no_change() -> None:
    low = torch.full((FRAMES, len(HZ)), LOG_FLOOR)
    low[:2], low[200:] = -3.0, -3.0
    generated = torch.where(low > LOG_FLOOR, -5.0, LOG_FLOOR)
    assert torch.allclose(steadied(generated, low), generated, atol=1e-4)


def test_a_share_of_zero_changes_nothing(randn) -> None:
    generated, low = randn(2, FRAMES, len(HZ)).unbind()
    assert torch.equal(steadied(generated, low, share=0.0), generated)


def test_frames_of_another_cutoff_count_as_absent() -> None:
    low = torch.full((FRAMES, len(HZ)), -3.0)
    generated = low + wave(2.56)
    cutoffs_hz = torch.where(torch.arange(FRAMES) < 200, 4_000.0, CUTOFF_HZ)
    made = SteadyLevel(SHARE, MEL).apply(generated, low, cutoffs_hz)
    for cutoff_hz, part in ((4_000.0, slice(0, 200)), (CUTOFF_HZ, slice(200, FRAMES))):
        alone = steadied(generated[part], low[part], cutoff_hz)
        assert torch.allclose(made[part], alone, atol=1e-5)


@pytest.mark.parametrize("frames", [1, BLOCK - 1, BLOCK, BLOCK + 1, 300])
def test_slow_changes_are_weighted_means_over_a_hann_window(randn, frames: int) -> None:
    levels, here = randn(2, frames), torch.arange(frames) % 7 != 3
    window = torch.hann_window(WINDOW + 2, periodic=False)[1:-1]
    distances = torch.arange(frames) - torch.arange(frames)[:, None] + WINDOW // 2
    near = (distances >= 0) & (distances < WINDOW) & here
    weights = window[distances.clamp(0, WINDOW - 1)] * near  # (of a frame, others)
    means = levels @ (weights / weights.sum(1, keepdim=True)).T
    expected = means - means[:, here].mean(1, keepdim=True)
    torch.testing.assert_close(SlowChange()(levels, here), expected, atol=1e-5, rtol=0)
