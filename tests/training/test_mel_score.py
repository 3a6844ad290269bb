"""The score of the last stage is proper: it is least for draws distributed as the originals."""

from __future__ import annotations

import pytest
import torch

from lily.training.mel_score import Weights, frame_weights, mel_score

SHAPE = (64, 32, 64)  # rows, frames, mel bins


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda scale=1.0: scale * torch.randn(SHAPE, generator=generator) - 5


def score(target, first, second, spread=1.0, weights=None):
    plain = Weights(torch.ones(SHAPE[:2]), torch.ones(SHAPE[0], SHAPE[2]))
    loss, figures = mel_score(
        target, first, second, weights or plain, torch.full((SHAPE[0],), spread)
    )
    return float(loss), {key: float(value) for key, value in figures.items()}


def test_draws_of_the_right_spread_score_best(draw):
    target = draw()
    scores = {scale: score(target, draw(scale), draw(scale))[0] for scale in (0, 0.5, 1, 1.5, 2)}
    assert min(scores, key=scores.get) == 1


def test_without_spread_the_mean_scores_best(draw):
    target = draw()
    scores = {s: score(target, draw(s), draw(s), spread=0)[0] for s in (0, 0.5, 1)}
    assert min(scores, key=scores.get) == 0


def test_a_level_that_is_off_is_told_in_db_and_costs(draw):
    target, first, second = draw(), draw(), draw()
    right, plain = score(target, first, second)
    louder, figures = score(target, first + 0.5, second + 0.5)
    assert figures["bias_db"] - plain["bias_db"] == pytest.approx(0.5 * 20 / 2.302585, rel=1e-3)
    assert louder > right


def test_frames_and_bins_without_weight_do_not_count(draw):
    target, first, second = draw(), draw(), draw()
    weights = Weights(torch.ones(SHAPE[:2]), torch.ones(SHAPE[0], SHAPE[2]))
    weights.frames[:, :8] = 0
    weights.bins[:, 56:] = 0
    changed = first.clone()
    changed[:, :8] += 3
    changed[:, :, 56:] += 3
    plain, other = (score(target, x, second, weights=weights) for x in (first, changed))
    assert plain[0] == pytest.approx(other[0], rel=1e-5)
    assert plain[1] == pytest.approx(other[1], rel=1e-5, abs=1e-5)


def test_quiet_frames_weigh_little_and_wide_ones_nothing():
    target = torch.full((1, 16, 64), -3.0)
    target[:, 8:12] = -11
    narrow = torch.ones(1, 16, dtype=torch.bool)
    narrow[:, 12:] = False
    weights = frame_weights(target, narrow)[0]
    assert weights[:8].tolist() == [1] * 8
    assert 0 < weights[8] < 0.5
    assert not weights[12:].any()
