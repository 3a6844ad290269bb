"""Paired intervals: no difference holds zero, a steady one does not, and 95 % means 95 %."""

import pytest
import torch

from lily.evaluation.statistics import paired_difference

EACH = [str(number) for number in range(40)]  # every recording a collection of its own


def scores(seed: int) -> list[float]:
    return torch.randn(40, generator=torch.Generator().manual_seed(seed)).tolist()


def test_the_same_scores_differ_by_nothing():
    found = paired_difference(scores(0), scores(0), EACH)
    assert (found["mean"], found["low"], found["high"]) == (0, 0, 0)


def test_noise_around_nothing_holds_zero_in_its_interval():
    found = paired_difference(scores(0), scores(1), EACH)
    assert found["low"] < 0 < found["high"]


def test_a_steady_gain_under_large_scatter_excludes_zero():
    base = [10 + 5 * score for score in scores(0)]
    better = [b - 0.5 + 0.1 * noise for b, noise in zip(base, scores(1), strict=True)]
    found = paired_difference(better, base, EACH)
    assert found["high"] < 0
    assert found["mean"] == pytest.approx(-0.5, abs=0.05)
    assert found["relative"] < 0


@pytest.mark.parametrize("count", [50, 800])
def test_the_interval_is_that_of_95_per_cent(count):
    """Of a mean of normal draws it is 1.96 standard errors on each side."""
    noise = torch.randn(count, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = paired_difference(noise.tolist(), [0.0] * count, [str(n) for n in range(count)])
    error = float(noise.std(correction=0)) / count**0.5
    assert found["mean"] - found["low"] == pytest.approx(1.96 * error, rel=0.06)
    assert found["high"] - found["mean"] == pytest.approx(1.96 * error, rel=0.06)
    assert found == paired_difference(noise.tolist(), [0.0] * count, [str(n) for n in range(count)])


def test_one_recording_has_no_interval():
    found = paired_difference([3.0], [2.0], ["a"])
    assert (found["mean"], found["low"], found["high"], found["relative"]) == (1.0, 1.0, 1.0, 0.5)


def test_recordings_of_one_collection_count_as_one_where_collections_are_resampled():
    """Four collections of ten equal recordings: the interval is that of four values."""
    values = [-1.0, -0.5, 0.25, 0.5]
    repeated = [value for value in values for _ in range(10)]
    sources = [name for name in "abcd" for _ in range(10)]
    found = paired_difference(repeated, [0.0] * 40, sources)
    alone = paired_difference(values, [0.0] * 4, list("abcd"))
    assert (found["collection_low"], found["collection_high"]) == (alone["low"], alone["high"])
    assert found["collection_low"] < found["low"] < found["high"] < found["collection_high"]


def test_a_large_collection_keeps_its_weight():
    found = paired_difference([1.0] * 9 + [0.0], [0.0] * 10, ["a"] * 9 + ["b"])
    assert found["mean"] == 0.9
    assert (found["collection_low"], found["collection_high"]) == (0.0, 1.0)
