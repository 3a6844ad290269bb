"""The energy distance: two draws are scored against the recording, and credited for differing."""

from __future__ import annotations

import pytest

from lily.training.losses import distance, energy_distance, log_spectra


def test_draws_are_credited_with_their_own_distance(randn):
    target, first, second = (0.1 * randn(2, 24_000) for _ in range(3))
    loss, plain = energy_distance(target, first, second)
    x, y1, y2 = map(log_spectra, (target, first, second))
    between = (distance(x, y1) + distance(x, y2)) / 2
    assert float(plain) == pytest.approx(float(between), rel=1e-5)
    assert float(loss) == pytest.approx(float(2 * between - distance(y1, y2)), rel=1e-5)


def test_fresh_noise_scores_better_than_one_answer_given_twice(randn):
    """The score is proper: noise is best answered by noise, not by a fixed draw."""
    target, first, second = (0.1 * randn(4, 24_000) for _ in range(3))
    drawn, _ = energy_distance(target, first, second)
    fixed, _ = energy_distance(target, first, first)
    assert float(drawn) < 0.75 * float(fixed)
