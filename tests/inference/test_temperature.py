"""The temperature scales the initial noise, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lily.config.inference import InferenceConfig
from lily.config.presets import load_config
from lily.config.sections import build
from lily.diffusion.noise import NoiseField
from lily.inference.sample import ChunkItem, ChunkSampler, SamplingConfig
from lily.model.latent_diffusion import LatentDiffusion

CONFIG = SamplingConfig(
    length=16,
    steps=2,
    sampler="dpmpp2m",
    guidance=1.0,
    guided=(0, 1000),
    temperature=1.0,
    draws_low=False,
    conditioned=(False,),
)


@pytest.fixture(scope="module")
def sampler() -> ChunkSampler:
    config = load_config("tiny")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LatentDiffusion(**config["model"]["params"]).eval()
    inference = build(InferenceConfig, config["inference"], "inference")
    return ChunkSampler(model, inference, torch.device("cpu"), torch.float32)


class Scaled(NoiseField):
    """Noise of another scale at its source."""

    scale = 1.0

    def latent(self, step, starts, length):
        return self.scale * super().latent(step, starts, length)


def log_mels(sampler, seed=0, scale=1.0, **changes) -> torch.Tensor:
    noise = Scaled(seed, 4, 16)
    noise.scale = scale
    log_mel = torch.linspace(-9, -3, 256).expand(128, 256)
    item = ChunkItem(0, 0, 0, log_mel, noise, (None,), replace(CONFIG, **changes))
    *_, last = sampler.steps([item])
    return last.log_mels


def test_at_zero_every_seed_gives_the_same(sampler):
    assert torch.equal(log_mels(sampler, 1, temperature=0.0), log_mels(sampler, 2, temperature=0.0))
    assert not torch.equal(log_mels(sampler, 1), log_mels(sampler, 2))


def test_a_temperature_is_a_scale_of_the_noise(sampler):
    assert torch.equal(log_mels(sampler, temperature=0.5), log_mels(sampler, scale=0.5))
