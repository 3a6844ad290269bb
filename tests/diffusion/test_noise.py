"""Noise is a pure function of seed, step and place."""

from __future__ import annotations

import pytest
import torch

from lily.diffusion.noise import FRAMES, SAMPLES, NoiseField


@pytest.fixture
def field() -> NoiseField:
    return NoiseField(seed=7, channels=3, bins=4)


@pytest.mark.parametrize("start", [0, 8, 56, 64, 120, 1000 * FRAMES - 8, -8, -72])
def test_a_window_holds_what_the_whole_recording_has_there(field, start):
    first = -2 * FRAMES
    if start < 1000:
        whole = field.latent(0, [first], 5 * FRAMES)
    else:
        first = 999 * FRAMES
        whole = field.latent(0, [first], 3 * FRAMES)
    window = field.latent(0, [start], 40)
    assert torch.equal(window, whole[:, :, start - first : start - first + 40])


def test_rows_of_a_batch_are_what_each_start_gives_alone(field):
    starts = [200, 0, 64, 0]
    together = field.latent(5, starts, 16)
    assert together.shape == (4, 3, 16, 4)
    assert together.dtype == torch.float32
    alone = [field.latent(5, [start], 16) for start in starts]
    assert torch.equal(together, torch.cat(alone))


def test_seed_step_and_block_each_change_the_noise(field):
    here = field.latent(0, [0], FRAMES)
    others = [
        field.latent(1, [0], FRAMES),
        field.latent(0, [FRAMES], FRAMES),
        field.latent(0, [-FRAMES], FRAMES),
        NoiseField(8, 3, 4).latent(0, [0], FRAMES),
    ]
    for other in others:
        correlation = (here * other).mean() / (here.std() * other.std())
        assert abs(correlation) < 0.15  # five deviations of 768 independent products


def test_a_new_field_and_whatever_was_drawn_before_give_the_same_bits(field):
    first = field.latent(3, [16], 32)
    field.latent(0, [512], 64)
    field.white(-100, 500)
    assert torch.equal(first, field.latent(3, [16], 32))
    assert torch.equal(first, NoiseField(7, 3, 4).latent(3, [16], 32))


def test_the_global_generator_is_neither_read_nor_moved(field):
    before = torch.get_rng_state()
    field.latent(0, [0], 16)
    field.white(0, 16)
    assert torch.equal(before, torch.get_rng_state())


def test_latent_noise_is_unit_normal(field):
    noise = field.latent(0, [0], 64 * FRAMES)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


@pytest.mark.parametrize("start", [-SAMPLES - 5, -5, 0, SAMPLES - 5, 3 * SAMPLES + 11])
def test_white_noise_is_one_long_signal_read_anywhere(field, start):
    first = -2 * SAMPLES
    whole = field.white(first, 6 * SAMPLES)
    assert torch.equal(field.white(start, 480), whole[start - first : start - first + 480])


def test_white_noise_is_white_and_of_unit_variance(field):
    noise = field.white(0, 4 * SAMPLES)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    for lag in (1, 2, SAMPLES):
        assert abs((noise[lag:] * noise[:-lag]).mean()) < 0.01


def test_no_samples_are_no_samples(field):
    assert field.white(10, 0).shape == (0,)


def test_the_largest_seeds_are_as_good_as_any():
    a, b = (NoiseField(seed, 1, 8).latent(0, [0], 8) for seed in (2**31 - 1, 2**31 - 2))
    assert not torch.equal(a, b)


def test_noise_stays_what_it_was_when_results_were_published(field):
    # A change here changes every result that anyone has written down with its seed.
    latent = field.latent(0, [0], 1)[0, 0, 0].tolist()
    assert latent == pytest.approx([-1.258212, 0.058951, 0.088612, 0.491247], abs=1e-5)
    white = field.white(0, 3).tolist()
    assert white == pytest.approx([-1.218483, -1.039020, 0.414348], abs=1e-5)


def test_places_are_constant_within_segments_and_a_function_of_the_seed_and_the_place():
    field = NoiseField(3, 2, 4)
    spread = field.places(-7, 30, 10)
    assert spread.shape == (30,)
    assert [len(set(spread[a:b].tolist())) for a, b in ((0, 7), (7, 17), (17, 27), (27, 30))] == [
        1,
        1,
        1,
        1,
    ]
    assert len(set(spread.tolist())) == 4
    assert torch.equal(field.places(5, 9, 10), spread[12:21])
    assert not torch.equal(NoiseField(4, 2, 4).places(-7, 30, 10), spread)
    assert float(spread.min()) >= 0 and float(spread.max()) < 1
