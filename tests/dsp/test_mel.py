"""Laws of the log-mel: streamed equals whole, a tone lands in its bin, level adds its logarithm."""

from __future__ import annotations

import math

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.mel import LOG_FLOOR, LogMel, MelStream


@pytest.fixture(scope="module")
def mel() -> LogMel:
    return LogMel(MelConfig())


def noise(count: int, channels: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(channels, count, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 479, 480, 784, 785, 1264, 1265, 5_000, 48_000, 100_001])
@pytest.mark.parametrize("block", [333, 4_096, 200_000])
def test_streamed_equals_whole(mel, count, block):
    samples, stream = noise(count, 2), MelStream(mel)
    parts = [stream.push(samples[:, i : i + block]) for i in range(0, count, block)]
    streamed = torch.cat([*parts, stream.flush()], dim=1)
    whole = mel(samples)
    assert streamed.shape == whole.shape == (2, math.ceil(count / 480), 256)
    assert torch.allclose(streamed, whole, atol=2e-4)


def test_silence_is_the_floor_and_gain_adds_its_logarithm(mel):
    silence = mel(torch.zeros(1, 9_600))
    assert torch.allclose(silence, torch.full_like(silence, LOG_FLOOR))
    samples = noise(9_600)
    louder = mel(10 * samples) - mel(samples)
    assert torch.allclose(louder, torch.full_like(louder, math.log(10)), atol=1e-3)


def test_no_bin_above_the_first_hears_a_tone_below(mel):
    times = torch.arange(48_000) / 48_000
    tone = torch.sin(2 * math.pi * 4_000 * times)[None]
    frames = mel(tone)[0, 10:-10]
    first = mel.first_bin_above(4_200)
    assert int(frames.mean(0).argmax()) < first
    assert frames[:, first + 2 :].max() < frames.max() - 8  # 70 dB: the Hann window's side lobes
