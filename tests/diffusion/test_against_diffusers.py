"""The samplers take the steps of diffusers' schedulers, the reference implementation."""

from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from lily.diffusion.samplers import (
    AUDIOSR,
    AUDIOSR_STEPS,
    SAMPLERS,
    TIMES,
    audiosr_times,
    sample,
    signal_powers,
    trailing_times,
)

SETTINGS = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def predict_v(x, t):
    """A v that is linear in nothing and depends on the time."""
    return torch.tanh(x * 1.5 + t.float()[:, None] / TIMES) - 0.4 * x


def ours(noises, sampler: str, steps: int) -> torch.Tensor:
    *_, (_, x) = sample(predict_v, noises.__getitem__, sampler=sampler, steps=steps)
    return x


def theirs_deterministic(noise, sampler: str, steps: int) -> torch.Tensor:
    scheduler = DPMSolverMultistepScheduler(
        TIMES,
        algorithm_type="dpmsolver++",
        solver_order={"dpmpp2m": 2, "ddim": 1}[sampler],
        final_sigmas_type="zero",
        **SETTINGS,
    )
    scheduler.set_timesteps(timesteps=trailing_times(steps))
    scheduler.set_begin_index(0)
    x = noise
    for time in trailing_times(steps):
        x = scheduler.step(predict_v(x, torch.full((len(x),), time)), time, x).prev_sample
    return x


def theirs_noisy(noises, steps: int) -> torch.Tensor:
    scheduler = DDIMScheduler(
        TIMES,
        clip_sample=False,
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        **SETTINGS,
    )
    scheduler.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == audiosr_times(steps)
    x = noises[0]
    for k, time in enumerate(audiosr_times(steps)):
        v = predict_v(x, torch.full((len(x),), time))
        x = scheduler.step(v, time, x, eta=1.0, variance_noise=noises[k + 1]).prev_sample
    return x


def test_the_schedule_is_the_capped_cosine():
    theirs = DDIMScheduler(TIMES, **SETTINGS).alphas_cumprod.double()
    torch.testing.assert_close(
        torch.tensor(signal_powers(), dtype=torch.float64), theirs, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_offered_count_takes_the_same_steps(randn, sampler):
    noise = randn(2, 8)
    for steps in [*range(1, 51), 61, 103, 121, 122, 200]:
        expected = theirs_deterministic(noise, sampler, steps)
        error = (ours([noise], sampler, steps) - expected).abs().max()
        assert error < 2e-5 * expected.abs().max(), steps


@pytest.mark.parametrize("steps", AUDIOSR_STEPS)
def test_audiosrs_sampler_takes_the_same_steps(randn, steps):
    noises = [randn(2, 8) for _ in range(steps + 1)]
    expected = theirs_noisy(noises, steps)
    error = (ours(noises, AUDIOSR, steps) - expected).abs().max()
    assert error < 2e-5 * expected.abs().max()
