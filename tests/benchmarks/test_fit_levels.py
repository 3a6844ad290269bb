"""Tables of level and colour: what is too quiet by a known amount is corrected by as much."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.filters import filter_whole, highpass_kernel, lowpass_kernel
from lily.dsp.level import level_places
from lily.dsp.mel import LogMel, bin_centres_hz

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fit_levels import RIDGE, errors_of, fitted  # noqa: E402


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_found_again_from_frames_between_its_columns(seed):
    table = torch.tensor([9.0, 4.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    shares = [level_places(12 + 72 * torch.rand(2_000, generator=generator)) for _ in range(3)]
    errors = [s.double() @ table + torch.randn(len(s), generator=generator) for s in shares]
    torch.testing.assert_close(fitted(shares, errors, RIDGE), table, atol=0.5, rtol=0)


@pytest.mark.parametrize("decibels", [-6.0, 6.0])
def test_the_error_of_a_frame_and_a_mel_is_the_level_that_is_missing(randn, decibels):
    reference, mel = 0.1 * randn(1, 48_000), LogMel(MelConfig())
    low = filter_whole(reference, lowpass_kernel(8_000, 8_200, 48_000))
    high = reference - low
    top = filter_whole(high, highpass_kernel(15_000, 15_200, 48_000))
    made = low + 10 ** (-decibels / 20) * (high - top) + top
    errors = errors_of(reference, low, made, 8_000.0, mel)
    assert errors.top_db.std() < 2  # noise of a constant level
    hz = bin_centres_hz(mel)[bin_centres_hz(mel) > 8_400]
    assert errors.colour_db[hz < 14_500].mean() == pytest.approx(decibels, abs=0.2)
    assert errors.colour_db[hz > 15_700].abs().max() < 0.5
    share = float(((hz < 15_000) & (hz < 20_000)).sum() / (hz < 20_000).sum())
    assert errors.level_db.median() == pytest.approx(decibels * share, abs=0.4)


def test_a_recording_that_ends_at_the_cutoff_has_no_errors(randn):
    low = filter_whole(0.1 * randn(1, 48_000), lowpass_kernel(8_000, 8_200, 48_000))
    assert errors_of(low, low, low, 8_000.0, LogMel(MelConfig())) is None
