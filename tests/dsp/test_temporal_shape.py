"""Laws of the temporal shape: bits, image, level, silence; attacks get sharper, noise does not."""

from __future__ import annotations

import pytest
import torch

from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import filter_whole, highpass_kernel
from lily.dsp.temporal_shape import TemporalShape, shape_gains

CUTOFF = 8_000.0
SECONDS = 2.3  # more than two blocks of gains, and no whole number of them


def noise(channels: int = 1, seed: int = 0, seconds: float = SECONDS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * 48_000), generator=generator)


def strokes(seconds: float = SECONDS) -> torch.Tensor:
    """A stroke every 0.2 s that falls by 60 dB until the next."""
    time = torch.arange(round(seconds * 48_000)) / 48_000
    return noise(seconds=seconds) * 10 ** (-15 * (time % 0.2))


def shaped(recording, generated, cutoffs=None, block=10_000):
    cutoffs = cutoffs or Cutoffs.constant(CUTOFF)
    shape = TemporalShape(cutoffs, gain=1.0)
    parts = []
    for start in range(0, recording.shape[-1], block):
        span = slice(start, start + block)
        parts.append(shape.push(recording[:, span], generated[..., span]))
    recorded, made = zip(*parts, shape.flush(), strict=True)
    assert torch.equal(torch.cat(recorded, dim=-1), recording)  # in step, and unchanged
    return torch.cat(made, dim=-1)


def top(samples: torch.Tensor) -> torch.Tensor:
    return filter_whole(samples, highpass_kernel(7_600, 8_000, 48_000))


CHANGING = Cutoffs.from_seconds([(0.0, 4_000.0), (1.0, 22_000.0), (1.7, 9_000.0)], 48_000)


@pytest.mark.parametrize("cutoffs", [Cutoffs.constant(CUTOFF), CHANGING])
@pytest.mark.parametrize("block", [997, 48_000, 200_000])
def test_the_size_of_the_blocks_changes_no_bit(cutoffs, block):
    recording, generated = strokes(), noise(seed=1)
    whole = shaped(recording, generated, cutoffs)
    assert whole.shape == generated.shape
    assert torch.equal(shaped(recording, generated, cutoffs, block), whole)


def test_gains_are_the_same_for_all_channels():
    recording = torch.cat([strokes(), 0.1 * noise(seed=2)])
    both = noise(seed=1).expand(2, -1)
    first, second = shaped(recording, both)
    assert torch.equal(first, second)
    variants = shaped(recording, both.expand(3, 2, -1))  # of a comparison
    assert torch.equal(variants, first.expand(3, 2, -1))


def test_attacks_are_sharpened_and_steady_noise_keeps_its_level():
    generated = filter_whole(strokes(), torch.hann_window(2_047, dtype=torch.float64) / 1_023)
    generated = noise(seed=1) * generated.abs().clamp(min=1e-4)
    recording = strokes()
    made, plain = shaped(recording, generated)[0], top(generated)[0]
    before, after = slice(28_800 - 960, 28_800 - 240), slice(28_800 + 240, 28_800 + 960)

    def step(x: torch.Tensor) -> float:
        return float(x[after].square().mean() / x[before].square().mean())

    assert step(made) > 4 * step(plain)
    steady = noise(seed=3)
    ratio = shaped(steady, generated).square().mean() / top(generated).square().mean()
    assert float(ratio) == pytest.approx(1.0, abs=0.15)


def test_digital_silence_stays_silent_and_nothing_is_not_finite():
    silence = torch.zeros(1, 60_000)
    assert not shaped(silence, silence).any()
    square = torch.sign(torch.sin(torch.arange(60_000) * 0.02))[None]
    click = silence.index_fill(1, torch.tensor([30_000]), 1.0)
    tone = torch.sin(torch.arange(60_000) * 0.4)[None]
    for cutoff in (500.0, 8_000.0):
        for recording in (silence, square, click, tone):
            made = shaped(recording, square, Cutoffs.constant(cutoff))
            assert made.isfinite().all()
            assert float(made.abs().max()) < 5 * float(square.abs().max())


@pytest.mark.parametrize("count", [1, 960])
def test_a_recording_of_any_length_keeps_it(count):
    assert shaped(noise()[:, :count], noise()[:, :count]).shape == (1, count)


def test_gains_are_bounded_by_what_a_peak_over_its_mean_can_be():
    level = torch.cat([torch.zeros(1, 40), torch.full((1, 1), 10.0), torch.zeros(1, 40)], 1)
    gains = shape_gains(level)
    assert float(gains.max()) < 4.6
    assert float(gains.min()) > 0.05
