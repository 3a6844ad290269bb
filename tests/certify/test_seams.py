"""Laws of the seam score: 1 where nobody joined anything, something else where joins are heard."""

from __future__ import annotations

import math

import pytest
import torch

from lily.certify.seams import SeamMeter, SeamScore
from lily.dsp.cutoffs import Cutoffs
from lily.dsp.filters import filter_whole, highpass_kernel

RATE, CUTOFF, WIDTH = 48_000, 8_000.0, 0.32
SECONDS = 90
JOINS = [4.8 + 4.48 * n for n in range(19)]


def score(samples: torch.Tensor, joins=JOINS, block: int = 50_001) -> SeamScore:
    meter = SeamMeter(joins, WIDTH, Cutoffs.constant(CUTOFF), RATE)
    for piece in samples.split(block, dim=-1):
        meter.push(piece)
    result = meter.result()
    assert result is not None
    return result


@pytest.fixture(scope="module")
def recording() -> torch.Tensor:
    """Noise whose level wanders, the same below and above the cutoff."""
    generator = torch.Generator().manual_seed(4)
    steps = torch.randn(1, 1, SECONDS * 20, generator=generator)
    steps = torch.nn.functional.avg_pool1d(steps, 9, 1, 4) * 3
    levels = torch.nn.functional.interpolate(steps, SECONDS * RATE, mode="linear")[0]
    return 0.05 * torch.randn(1, SECONDS * RATE, generator=generator) * (levels / 2).exp()


@pytest.fixture(scope="module")
def highs(recording) -> torch.Tensor:
    return filter_whole(recording, highpass_kernel(0.9 * CUTOFF, CUTOFF, RATE))


def at_joins(inside: float, width: float) -> torch.Tensor:
    """A gain (T,) that is ``inside`` within ``width`` seconds around every join, else 1."""
    gain = torch.ones(SECONDS * RATE)
    for join in JOINS:
        gain[round((join - width / 2) * RATE) : round((join + width / 2) * RATE)] = inside
    return gain


def test_where_nothing_was_joined_the_score_is_one(recording):
    for joins in (JOINS, [join + 1.5 for join in JOINS]):
        found = score(recording, joins)
        assert found.joins == len(joins)
        assert abs(found.flux_ratio - 1) < 0.05 and abs(found.level_ratio - 1) < 0.05
        assert found.flux_error < 0.03 and found.level_error < 0.03


def test_block_sizes_do_not_change_the_score(recording):
    a, b = score(recording), score(recording, block=9_999_999)
    assert math.isclose(a.flux_ratio, b.flux_ratio, rel_tol=1e-4)
    assert math.isclose(a.level_ratio, b.level_ratio, rel_tol=1e-4)


def test_the_last_digits_of_a_join_do_not_change_the_score(recording):
    scores = [score(recording, [join + by for join in JOINS]) for by in (-1e-9, 0.0, 1e-9)]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0] == score(recording, [round(join, 6) for join in JOINS])


@pytest.mark.parametrize("decibels", [-6.0, -3.0, 3.0])
def test_a_dip_or_a_bump_of_the_highs_at_joins_is_measured(recording, highs, decibels):
    gain = 10 ** (decibels / 20)
    found = score(recording + (at_joins(gain, WIDTH) - 1) * highs)
    assert found.level_ratio == pytest.approx(gain, rel=0.12)


def test_a_gap_and_a_jump_at_joins_raise_the_flux(recording, highs):
    gap = score(recording + (at_joins(0.0, 0.02) - 1) * highs)
    assert gap.flux_ratio > 1.05
    gain = torch.ones(SECONDS * RATE)
    for start, stop in zip(JOINS[::2], JOINS[1::2], strict=False):  # every other chunk 12 dB down
        gain[round(start * RATE) : round(stop * RATE)] = 0.25
    assert score(recording + (gain - 1) * highs).flux_ratio > 1.05


def test_a_blend_that_blurs_lowers_the_flux(recording, highs):
    """Within joins the highs are a chord that stands still, as an average of many draws would."""
    generator = torch.Generator().manual_seed(9)
    period = torch.fft.irfft(  # tones every 375 Hz, of any phase
        torch.exp(2j * math.pi * torch.rand(65, generator=generator)), n=128
    )
    chord = period.repeat(SECONDS * RATE // 128)[None]
    chord *= highs.std() / filter_whole(chord, highpass_kernel(7_200, 8_000, RATE)).std()
    inside = 1 - at_joins(0.0, WIDTH)
    chord = filter_whole(chord, highpass_kernel(7_200, 8_000, RATE))
    assert score(recording + inside * (chord - highs)).flux_ratio < 0.9


def test_too_few_joins_and_silence_tell_nothing(recording):
    for samples, joins in ((recording, JOINS[:2]), (0 * recording, JOINS), (recording, [])):
        meter = SeamMeter(joins, WIDTH, Cutoffs.constant(CUTOFF), RATE)
        meter.push(samples)
        assert meter.result() is None
    meter = SeamMeter(JOINS, WIDTH, Cutoffs.constant(23_990.0), RATE)  # no band is left above
    meter.push(recording)
    meter.result()
