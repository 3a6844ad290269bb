"""Laws of the stereo image: generated noise relates between channels as the recording does."""

from __future__ import annotations

import pytest
import torch

from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.dsp.stereo_image import StereoImage, StereoImageMeter

RATE = 48_000


def noises(channels: int, length: int = 200_000) -> torch.Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(channels))


def recording(mix: list[list[float]]) -> torch.Tensor:
    """Mixes (C, K) of independent sources, which end at 8 kHz."""
    sources = filter_whole(noises(len(mix[0])), lowpass_kernel(7_500, 8_000, RATE))
    return 0.1 * torch.tensor(mix) @ sources


def correlation(samples: torch.Tensor, cutoff_hz: float = 8_000.0, block: int = 7_777):
    meter = StereoImageMeter(len(samples), RATE)
    for part in samples.split(block, dim=-1):
        meter.push(part)
    return meter.correlation(cutoff_hz)


MIXES = [
    [[1.0], [-1.0]],
    [[1.0], [0.3]],
    [[1.0, 0.0], [0.0, 1.0]],
    [[1.0, 0.0], [-0.5, 0.866]],
    [[1.0, 0.0], [0.8, 0.6]],
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.7, 0.0, 0.7]],
    [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.1]],  # a silent channel first
]


@pytest.mark.parametrize("mix", MIXES)
def test_noise_has_the_correlation_of_the_recording(mix):
    found = correlation(recording(mix))
    image = StereoImage.of(found)
    made = image.signs[:, None] * image.mix(noises(len(mix)))
    assert torch.allclose(torch.corrcoef(made).double(), found, atol=0.05)
    assert torch.allclose(made.std(-1), torch.ones(len(mix)), atol=0.01)


@pytest.mark.parametrize(("gain", "sign"), [(1.0, 1.0), (0.01, 1.0), (-1.0, -1.0), (-0.3, -1.0)])
def test_channels_that_are_alike_get_the_same_noise_and_the_sign_of_their_polarity(gain, sign):
    image = StereoImage.of(correlation(recording([[1.0], [gain]])))
    assert image.signs.tolist() == [1.0, sign]
    first, second = image.mix(noises(2))
    assert torch.equal(first, second) and torch.equal(first, noises(2)[0])


def test_one_channel_gets_its_noise_as_it_is():
    image = StereoImage.of(correlation(recording([[1.0]])))
    assert torch.equal(image.mix(noises(1)), noises(1)) and image.signs.tolist() == [1.0]


def test_silence_has_no_relation_and_blocks_change_nothing():
    assert torch.equal(correlation(torch.zeros(2, 50_000)), torch.eye(2, dtype=torch.float64))
    mixed = recording([[1.0, 0.0], [0.8, 0.6]])
    assert torch.allclose(correlation(mixed), correlation(mixed, block=50_000), atol=2e-4)


def test_only_the_band_below_the_cutoff_counts():
    low = recording([[1.0], [1.0]])
    bass = filter_whole(noises(1), lowpass_kernel(800, 1_000, RATE))
    samples = low + torch.cat([bass, -bass])  # loud and of opposite polarity, but far below
    assert float(correlation(samples)[0, 1]) > 0.95
