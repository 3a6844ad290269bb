"""Every limit of the checks, from both sides, with signals of known value."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lily.certify.check import NULL, summary
from lily.certify.null_test import NullDepth
from lily.certify.output_meter import Measurements, OutputMeter, checks
from lily.certify.seams import SeamScore
from lily.dsp.cutoffs import Cutoffs

RATE, LENGTH = 48_000, 400_000
LEVEL = "Level below the crossover, change"
CORRELATION = "Stereo correlation below the crossover, change"
CLIPPED = "Samples clipped by the output"


@pytest.fixture(scope="module")
def recording() -> torch.Tensor:
    """Stereo noise with a correlation of one half."""
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, LENGTH, generator=generator)[[0, 0]] + 0.1 * torch.randn(
        2, LENGTH, generator=generator
    )


def measured(a: torch.Tensor, b: torch.Tensor, block: int = 30_011) -> Measurements:
    meter = OutputMeter(Cutoffs.constant(8_000.0), RATE)
    for piece in a.split(block, -1):
        meter.push(recording=piece)
    for piece in b.split(2 * block, -1):
        meter.push(output=piece)
    return meter.finish()


def passed(found: Measurements, label: str, lengths=(LENGTH, LENGTH), subtype="PCM_24"):
    (check,) = [c for c in checks(found, lengths, subtype) if c.label.startswith(label)]
    return check.passed


@pytest.mark.parametrize(("depth_db", "passes"), [(59.0, False), (61.0, True)])
def test_a_difference_60_db_down_is_the_limit(recording, depth_db, passes):
    generator = torch.Generator().manual_seed(2)
    other = torch.randn(2, LENGTH, generator=generator) * recording.std(-1, keepdim=True)
    found = measured(recording, recording + 10 ** (-depth_db / 20) * other)
    assert found.null.depth_db == pytest.approx(depth_db, abs=0.5)
    assert passed(found, NULL) is passes
    # One spectrum is louder than their mean.
    quieter = measured(recording, recording + 10 ** (-(depth_db + 1) / 20) * other)
    assert passed(quieter, "Null depth, worst 0.34 s") is passes


def test_a_difference_below_24_bit_rounding_passes_whatever_the_recording_is(recording):
    quiet = 2.0**-23 * torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(3))
    assert passed(measured(quiet, (quiet * 2**23).round() / 2**23), NULL) is True
    assert passed(measured(quiet, 20 * quiet), NULL) is False


@pytest.mark.parametrize(("change_db", "passes"), [(0.012, False), (0.008, True), (-0.5, False)])
def test_a_hundredth_of_a_decibel_is_the_limit_of_the_level(recording, change_db, passes):
    found = measured(recording, recording * 10 ** (change_db / 20))
    assert found.null.level_change_db == pytest.approx(change_db, abs=1e-4)
    assert passed(found, LEVEL) is passes


@pytest.mark.parametrize(("offset", "passes"), [(2e-5, False), (0.8e-5, True), (-0.005, False)])
def test_minus_100_dbfs_is_the_limit_of_dc(recording, offset, passes):
    found = measured(recording, recording + torch.tensor([[0.0], [offset]]))
    assert found.dc_change == pytest.approx(abs(offset), rel=0.01)
    assert passed(found, "DC, change") is passes


def test_a_third_of_a_period_of_the_lowest_cutoff_is_allowed_as_dc_of_the_ends():
    null = NullDepth(100.0, 100.0, -120.0, 0.0, None)
    for period, most in ((0.0, 1.0), (96.0, 96 / (0.9 * math.pi))):  # samples: at 500 Hz
        for ratio, passes in ((0.99, True), (1.01, False)):
            dc = 1e-5 + ratio * most / 960
            found = Measurements(null, dc, (-1.0, 0.0), (0, 0), None)
            rows = checks(found, (960, 960), "PCM_24", period)
            (check,) = [row for row in rows if row.label == "DC, change"]
            assert check.passed is passes


@pytest.mark.parametrize(("share", "passes"), [(0.0015, False), (0.0008, True), (0.3, False)])
def test_a_thousandth_is_the_limit_of_the_correlation(recording, share, passes):
    """Channels at equal power with correlation r become r + share when mixed a little."""
    x = recording / recording.std(-1, keepdim=True)
    r = float((x[0] * x[1]).mean())
    # y1 = cos t x1 + sin t x0 has correlation (r cos t + sin t) / sqrt(1 + 2 r sin t cos t).
    target, angle = r + share, 0.0
    for _ in range(60):
        reached = (r * math.cos(angle) + math.sin(angle)) / math.sqrt(1 + r * math.sin(2 * angle))
        angle += target - reached
    y = torch.stack([x[0], math.cos(angle) * x[1] + math.sin(angle) * x[0]])
    found = measured(0.1 * x, 0.1 * y)
    assert found.null.correlation_change == pytest.approx(share, rel=0.15)
    assert passed(found, CORRELATION) is passes


def seams(**changed: float) -> SeamScore:
    return replace(SeamScore(100, 1.0, 0.005, 1.0, 0.005), **changed)


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, True),
        ({"flux_ratio": 1.04}, True),
        ({"flux_ratio": 1.06}, False),
        ({"level_ratio": 0.94}, False),
        ({"level_ratio": 0.94, "level_error": 0.03}, True),  # 2 standard errors
        ({"level_ratio": 0.86, "level_error": 0.04}, False),  # 3.5 standard errors
    ],
)
def test_five_per_cent_or_three_standard_errors_are_the_limit_of_a_seam(changed, passes):
    null = NullDepth(100.0, 100.0, -120.0, 0.0, None)
    found = Measurements(null, 0.0, (-1.0, -1.0), (0, 0), seams(**changed))
    rows = [c.passed for c in checks(found, (10, 10), "PCM_24") if c.label.startswith("Seam")]
    assert len(rows) == 2 and all(rows) is passes


def test_length_and_clipping_count_every_sample(recording):
    found = measured(recording, recording)
    assert passed(found, "Length") is True
    assert passed(found, "Length", (LENGTH, LENGTH - 1)) is False
    clipped = recording.clone()
    clipped[0, 100] = 1.0
    assert passed(found, CLIPPED) is True
    assert passed(measured(recording, clipped), CLIPPED) is False
    assert passed(measured(recording, clipped), CLIPPED, subtype="FLOAT") is True
    assert passed(measured(clipped, clipped), CLIPPED) is True


def test_block_sizes_change_no_figure(recording):
    other = recording.roll(3, -1)
    assert measured(recording, other) == measured(recording, other, block=400_000)


def test_a_summary_names_what_failed_or_the_figures(recording):
    good = checks(measured(recording, recording), (LENGTH, LENGTH), "PCM_24")
    assert summary(good).startswith("7 checks passed, null depth below the crossover 200.0 dB")
    bad = checks(measured(recording, recording), (LENGTH, 1), "PCM_24")
    assert summary(bad) == "failed: length"
