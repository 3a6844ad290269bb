"""The samplers solve the equation they claim to, at every number of steps."""

from __future__ import annotations

import math

import pytest
import torch

from lily.diffusion.samplers import SAMPLERS, TIMES, sample, trailing_times
from lily.errors import InputError

# Where rounding is delicate (61, 103, 121 and 122 break diffusers' own spacing), the counts where
# t - 1000 // steps is not the next sampled time, and the ends.
COUNTS = [1, 2, 3, 4, 7, 8, 12, 16, 18, 20, 30, 50, 61, 103, 121, 122, 199, 200]


def alphas_cumprod() -> torch.Tensor:
    """The capped cosine schedule from its formula, (1000,) float64."""

    def power(t: int) -> float:
        return math.cos((t / TIMES + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - power(t + 1) / power(t), 0.999) for t in range(TIMES)]
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)


ALPHAS_CUMPROD = alphas_cumprod()


def scales(t: int | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Signal and noise scale at time t."""
    return ALPHAS_CUMPROD[t].sqrt(), (1 - ALPHAS_CUMPROD[t]).sqrt()


def curved(x: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
    """A v that is linear in nothing."""
    signal, spread = scales(t)
    shape = (-1, 1, 1, 1)
    return spread.reshape(shape) * torch.tanh(x.double()) - 0.5 * signal.reshape(shape) * x.cos()


def closed_form_ddim(x: torch.Tensor, steps: int) -> torch.Tensor:
    """DDIM with eta 0 (Song et al. 2020, equation 12) in float64, to the next sampled time."""
    times = [max(round(TIMES * k / steps) - 1, 0) for k in range(steps, 0, -1)]
    x = x.double()
    for here, after in zip(times, [*times[1:], None], strict=True):
        signal, spread = scales(here)
        v = curved(x, here)
        clean, eps = signal * x - spread * v, spread * x + signal * v
        signal, spread = scales(after) if after is not None else (1.0, 0.0)
        x = signal * clean + spread * eps
    return x


def last(predict_v, noise: torch.Tensor, sampler: str, steps: int) -> torch.Tensor:
    *_, (k, x) = sample(predict_v, lambda _k: noise, sampler=sampler, steps=steps)
    assert k == steps - 1
    return x


def gaussian(mean: float, deviation: float):
    """The exact v of data that is normal with this mean and deviation."""

    def predict_v(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        signal, spread = (s[:, None, None, None] for s in scales(t))
        surprise = (x.double() - signal * mean) / (signal**2 * deviation**2 + spread**2)
        clean, eps = mean + signal * deviation**2 * surprise, spread * surprise
        return signal * eps - spread * clean

    return predict_v


def spread_of(sampler: str, steps: int, mean: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation the sampler gives: the map is affine, two points tell all of it."""
    ends = last(
        gaussian(mean, deviation), torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1), sampler, steps
    )
    low, high = ends.flatten().tolist()
    return (low + high) / 2, (high - low) / 2


@pytest.mark.parametrize("steps", COUNTS)
def test_ddim_goes_to_the_next_sampled_time(randn, steps):
    noise = randn(2, 3, 4, 2)
    expected = closed_form_ddim(noise, steps)
    torch.testing.assert_close(
        last(curved, noise, "ddim", steps).double(), expected, atol=3e-5, rtol=0
    )


@pytest.mark.slow
def test_ddim_goes_to_the_next_sampled_time_at_every_offered_count(randn):
    noise = randn(1, 2, 2, 2)
    for steps in range(1, 201):
        error = last(curved, noise, "ddim", steps).double() - closed_form_ddim(noise, steps)
        assert error.abs().max() < 3e-5, steps


def test_times_are_as_many_as_steps_start_at_the_noisiest_and_are_evenly_spaced():
    for steps in range(1, 201):
        times = trailing_times(steps)
        assert len(times) == steps
        assert times[0] == TIMES - 1
        gaps = [a - b for a, b in zip(times, [*times[1:], -1], strict=True)]
        assert min(gaps) >= math.floor(TIMES / steps), steps
        assert max(gaps) <= math.ceil(TIMES / steps), steps


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 5, 61, 122])
def test_the_model_is_asked_once_a_step_at_these_times(randn, sampler, steps):
    asked = []

    def predict_v(x, t):
        assert t.shape == (2,)
        assert x.dtype == torch.float32
        asked.append(int(t[0]))
        return x.bfloat16()

    told = [
        k for k, _ in sample(predict_v, lambda _k: randn(2, 1, 4, 4), sampler=sampler, steps=steps)
    ]
    assert told == list(range(steps))
    assert asked == trailing_times(steps)


@pytest.mark.parametrize("deviation", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_normal_distribution_comes_out_with_its_mean_and_deviation(sampler, deviation):
    # What is left is the solvers' truncation error, of first and of second order in 1 / steps.
    allowed = {"ddim": {8: 0.25, 16: 0.13, 50: 0.04}, "dpmpp2m": {8: 0.16, 16: 0.04, 50: 0.006}}
    for steps, error in allowed[sampler].items():
        mean, spread = spread_of(sampler, steps, 0.7, deviation)
        assert abs(mean - 0.7) < 0.01
        assert abs(spread / deviation - 1) < error, steps


def test_the_second_order_solver_converges_faster():
    def error(sampler: str, steps: int) -> float:
        return abs(spread_of(sampler, steps, 0.0, 1.0)[1] - 1)

    assert error("dpmpp2m", 40) < error("dpmpp2m", 20) / 3  # second order: a quarter
    assert error("dpmpp2m", 20) < error("ddim", 20) / 5
    assert error("ddim", 40) > error("ddim", 20) / 3  # first order: a half


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 13, 14, 15, 100])
def test_every_count_is_finite_and_repeatable(randn, sampler, steps):
    noise = randn(1, 2, 4, 4)
    first = last(curved, noise, sampler, steps)
    assert first.isfinite().all()
    assert first.abs().max() < 20
    assert torch.equal(first, last(curved, noise, sampler, steps))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_perfect_knowledge_of_the_clean_latent_gives_it_back(randn, sampler):
    noise, clean = randn(1, 2, 4, 4), randn(1, 2, 4, 4)

    def predict_v(x, t):
        signal, spread = (s.float() for s in scales(t))
        return (signal * x - clean) / spread

    for steps in (1, 2, 8, 50):
        torch.testing.assert_close(last(predict_v, noise, sampler, steps), clean, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_the_initial_noise_is_asked_for(randn, sampler):
    asked = []

    def noise(k):
        asked.append(k)
        return randn(1, 1, 4, 4)

    list(sample(curved, noise, sampler=sampler, steps=4))
    assert asked == [0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_do_not_know_each_other(randn, sampler):
    noise = randn(3, 2, 4, 4)
    together = last(curved, noise, sampler, 6)
    for row in range(3):
        alone = last(curved, noise[row : row + 1], sampler, 6)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=0)


def test_an_unknown_sampler_is_refused_at_the_call_with_the_known_ones():
    with pytest.raises(InputError, match="'euler'.*dpmpp2m, ddim"):
        sample(curved, torch.zeros, sampler="euler", steps=4)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_counts_are_refused_at_the_call(steps):
    with pytest.raises(InputError, match="1 to 1000"):
        sample(curved, torch.zeros, sampler="ddim", steps=steps)
