"""The random history of an album follows from its generator, within the bounds of the recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lily.config.presets import MelConfig, load_config
from lily.config.training import training_config
from lily.dsp.mel import LogMel, bin_centres_hz
from lily.training.history import EFFECT_SPEEDS_HZ, MIXED_DB, SPEEDS_HZ, _mixed, live_through

PLAIN = {"equalised": 0.0, "own_bandwidth": 0.0, "codecs": 0.0}


@pytest.fixture
def noise(randn):
    return [0.1 * randn(1, 96_000)]


def lived(parts, seed=0, under=(), effect=False, **recipe):
    config = replace(training_config(load_config("tiny")["training"]), **{**PLAIN, **recipe})
    generator = torch.Generator().manual_seed(seed)
    return live_through(parts, under, config, MelConfig(), generator, effect=effect)


def test_the_same_generator_gives_the_same_history(noise):
    first, second, other = (lived(noise, seed) for seed in (1, 1, 2))
    assert torch.equal(first.low, second.low) and torch.equal(first.target, second.target)
    assert not torch.equal(first.low[:100], other.low[:100])


def test_the_input_is_the_original_below_the_cutoff_and_empty_above(noise):
    heard = lived(noise, seed=3)
    centres = bin_centres_hz(LogMel(MelConfig()))
    below, above = centres < 0.5 * heard.cutoff_hz, centres > 1.1 * heard.cutoff_hz
    assert (heard.low - heard.target)[:, below].abs().median() < 0.1
    assert (heard.target - heard.low)[:, above].median() > 3
    assert not heard.altered


def test_an_edge_of_its_own_ends_the_original_too(noise):
    heard = lived(noise, own_bandwidth=1.0)
    assert heard.altered
    assert heard.target[:, -8:].median() < heard.target[:, 60:90].median() - 3


def test_effects_are_played_at_more_speeds_than_other_recordings(noise):
    speeds = {lived(noise, seed, effect=True).speed for seed in range(12)}
    assert speeds <= {hz / 48_000 for hz in EFFECT_SPEEDS_HZ}
    assert max(speeds) > max(SPEEDS_HZ) / 48_000


def test_the_second_layer_lies_within_ten_decibels(randn):
    x, under = randn(1, 50_000), 0.01 * randn(1, 7_000)
    for seed in range(8):
        added = _mixed(x, under, torch.Generator().manual_seed(seed)) - x
        level = 10 * (added.square().mean() / x.square().mean()).log10()
        assert abs(level) <= MIXED_DB + 0.1
