"""The profile of a recording: measured rightly, scored by its likelihood, set where it is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lily.config.presets import MelConfig
from lily.dsp.mel import LOG_FLOOR, LogMel, bin_centres_hz
from lily.model import recording_profile
from lily.model.recording_profile import (
    COUNT,
    DB,
    EDGE,
    KNOWN,
    LEVELS,
    in_units,
    likelihood_loss,
    measure,
    standardised,
    with_known,
    with_wall,
)

BINS_HZ = bin_centres_hz(LogMel(MelConfig()))


def recording(edge_hz: float = 18_000, tilt_db: float = 0.0, frames: int = 200) -> torch.Tensor:
    """A flat log-mel with a band edge, tilted by so many dB an octave above 1 kHz, moving a bit."""
    octaves = (BINS_HZ / 1_000).clamp(min=1).log2()
    log_mel = -5 + tilt_db / DB * octaves + 0.2 * torch.sin(torch.arange(frames))[:, None]
    return torch.where(edge_hz >= BINS_HZ, log_mel, LOG_FLOOR)


@pytest.mark.parametrize("edge_hz", [9_000, 14_000, 18_000, 21_000])
def test_the_edge_is_where_the_band_ends(edge_hz):
    found = 1000 * in_units(measure(recording(edge_hz), BINS_HZ))[EDGE]
    assert abs(found - edge_hz) < 0.02 * edge_hz


def test_levels_are_those_of_the_tilt_and_do_not_depend_on_loudness():
    levels = in_units(measure(recording(tilt_db=-3), BINS_HZ))[LEVELS]
    reference = (BINS_HZ[(BINS_HZ >= 1_000) & (BINS_HZ <= 2_000)] / 1_000).log2().mean()
    for level, (low, high) in zip(levels, recording_profile.BANDS_HZ, strict=True):
        band = BINS_HZ[(low <= BINS_HZ) & (min(high, 18_000) >= BINS_HZ)]
        expected = -3 * ((band / 1_000).log2().mean() - reference)
        assert float(level) == pytest.approx(float(expected), abs=0.2)
    quieter = in_units(measure(recording(tilt_db=-3) - 1, BINS_HZ))[LEVELS]
    torch.testing.assert_close(quieter, levels, atol=0.1, rtol=0)


def test_a_band_above_the_edge_has_no_level_and_silence_no_profile():
    assert measure(recording(9_000), BINS_HZ)[5:7].isnan().all()
    assert measure(torch.full((50, 256), LOG_FLOOR), BINS_HZ).isnan().all()


def test_highs_that_move_twice_as_much_as_the_lows_have_slope_two(randn):
    move = randn(300, 1)
    log_mel = torch.full((300, 256), -5.0)
    log_mel = log_mel + move * torch.where(BINS_HZ < 3_000, 0.3, 0.6)
    assert in_units(measure(log_mel, BINS_HZ))[recording_profile.SLOPE] == pytest.approx(2, abs=0.1)


def test_the_likelihood_is_best_at_the_truth_and_leaves_out_what_is_not_given(randn):
    profile = randn(3, COUNT)
    right = torch.cat([profile, torch.full((3, COUNT), -2.0), randn(3, 8)], dim=1)
    assert likelihood_loss(right, profile) == pytest.approx(-1.0)
    for change in (1.0, -1.0):
        wrong = torch.cat([right[:, :COUNT] + change, right[:, COUNT:]], dim=1)
        assert likelihood_loss(wrong, profile) > likelihood_loss(right, profile)
    unsure = torch.cat([right[:, :COUNT] + 1, torch.zeros(3, COUNT)], dim=1)
    sure = torch.cat([right[:, :COUNT] + 1, torch.full((3, COUNT), -4.0)], dim=1)
    assert likelihood_loss(unsure, profile) < likelihood_loss(sure, profile)
    part = profile.clone()
    part[:, 3:] = math.nan
    wrong = right.clone()
    wrong[:, 3:COUNT] += 5
    assert likelihood_loss(wrong, part) == likelihood_loss(right, part)


def test_figures_that_are_known_take_the_place_of_the_estimate(make_context):
    context = make_context()
    known = torch.full((1, COUNT), math.nan)
    known[0, EDGE] = 1.25
    vector = with_known(context, known).vector[0]
    assert vector[EDGE] == 1.25 and vector[COUNT + EDGE] == KNOWN
    assert torch.equal(vector[1:COUNT], context.vector[0, 1:COUNT])
    assert torch.equal(vector[2 * COUNT :], context.vector[0, 2 * COUNT :])


def test_the_networks_own_loss_does_not_move_the_estimate(make_context):
    context = make_context()
    vector = context.vector.requires_grad_()
    nothing = torch.full((1, COUNT), math.nan)
    with_known(replace(context, vector=vector), nothing).vector.square().sum().backward()
    assert not vector.grad[:, : 2 * COUNT].any()
    assert vector.grad[:, 2 * COUNT :].all()


def test_a_wall_sets_its_figure_in_units_and_is_certain(make_context):
    context = make_context()
    made = with_wall(context, 17_500)
    assert in_units(made.vector[:, :COUNT])[0, EDGE] == pytest.approx(17.5)
    changed = (made.vector != context.vector)[0].nonzero()[:, 0].tolist()
    assert changed == [EDGE, COUNT + EDGE]


def test_reading_gives_back_figures_and_spreads_in_units(make_context):
    context = make_context()
    truth = torch.zeros(1, COUNT)
    truth[0, EDGE] = standardised(in_units(torch.zeros(COUNT)) + 1.0)[EDGE]  # 1 kHz above average
    read = recording_profile.read(with_known(context, truth))
    edge, spread = read["edge"]
    assert edge == pytest.approx(20.5)
    assert spread < 0.3
