"""Laws of wall and brightness: the decibels that were asked for, nothing from silence."""

from __future__ import annotations

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.level import NEPER_DB
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.dsp.tone_controls import ToneControls

MEL = LogMel(MelConfig())
HZ = bin_centres_hz(MEL)
LOUD = torch.full((10, len(HZ)), -2.0)


@pytest.mark.parametrize("decibels", [-12.0, 3.0, 24.0])
def test_brightness_adds_its_decibels_to_every_bin(decibels):
    made = ToneControls(None, decibels, MEL).apply(LOUD)
    torch.testing.assert_close((made - LOUD) * NEPER_DB, torch.full_like(made, decibels))


def test_silence_stays_silence():
    silent = torch.full_like(LOUD, LOG_FLOOR)
    for wall, decibels in ((None, 24.0), (None, -24.0), (12_000.0, 24.0)):
        assert torch.equal(ToneControls(wall, decibels, MEL).apply(silent), silent)


@pytest.mark.parametrize("wall", [6_000.0, 16_000.0, 20_000.0])
def test_a_wall_leaves_what_lies_below_it_and_ends_what_lies_above(wall):
    made = ToneControls(wall, None, MEL).apply(LOUD)
    assert torch.equal(made[:, wall >= HZ], LOUD[:, wall >= HZ])
    fall = (LOUD - made)[0, wall < HZ] * NEPER_DB
    assert (fall.diff() >= 0).all()
    assert fall[HZ[wall < HZ] > 1.15 * wall].min() >= 60
    assert made.min() >= LOG_FLOOR


def test_nothing_set_changes_nothing():
    assert torch.equal(ToneControls(None, None, MEL).apply(LOUD), LOUD)
    assert torch.equal(ToneControls(24_000.0, 0.0, MEL).apply(LOUD), LOUD)
