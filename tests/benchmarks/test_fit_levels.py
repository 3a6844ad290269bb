"""The table of level corrections: what is too quiet by a known amount is corrected by as much."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.filters import filter_whole, lowpass_kernel
from lily.dsp.level import LEVELS_DB
from lily.dsp.mel import LogMel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fit_levels import fitted, frame_errors  # noqa: E402


def test_a_table_is_found_again_from_frames_between_its_columns():
    table = torch.tensor([9.0, 4.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    levels = [12 + 72 * torch.rand(2_000, generator=generator) for _ in range(3)]
    nodes = torch.tensor(LEVELS_DB, dtype=torch.float64)

    def at(level):
        upper = torch.searchsorted(nodes, level.double()).clamp(1, len(nodes) - 1)
        share = (level - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1])
        return torch.lerp(table[upper - 1], table[upper], share)

    errors = [at(level) + torch.randn(len(level), generator=generator) for level in levels]
    torch.testing.assert_close(fitted(levels, errors), table, atol=0.5, rtol=0)


@pytest.mark.parametrize("decibels", [-6.0, 6.0])
def test_the_error_of_a_frame_is_the_level_that_is_missing(randn, decibels):
    reference = 0.1 * randn(1, 48_000)
    low = filter_whole(reference, lowpass_kernel(8_000, 8_200, 48_000))
    made = low + 10 ** (-decibels / 20) * (reference - low)
    level, errors = frame_errors(reference, low, made, 8_000.0, LogMel(MelConfig()))
    assert errors.median() == pytest.approx(decibels, abs=0.2)
    assert level.std() < 2  # noise of a constant level
