"""Laws of the estimate: what runs took is remembered, and a slow machine slows all that follows."""

from __future__ import annotations

import pytest

from lily.ui.estimate import PASSES, TYPICAL, Estimate, Pace, Workload


class Clock:
    """A clock that tests turn by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(pace: Pace, seconds: float, slower: float = 1.0) -> list[tuple[float, float]]:
    """A run at a multiple of the typical cost: pairs of the time left as told, and as it was."""
    clock = Clock()
    load = Workload("small", seconds, 2)
    estimate = Estimate(pace, load, clock)
    told = []
    for name in PASSES:
        cost = slower * TYPICAL[name] * load.work(name) * seconds
        for step in range(10):
            estimate.enter(name, step / 10)
            told.append((estimate.remaining(), clock.now))
            clock.now += cost / 10
    estimate.finish()
    return [(left, clock.now - at) for left, at in told]


def test_a_typical_run_is_foretold_from_its_first_moment():
    for told, true in run(Pace(), 60.0):
        assert told == pytest.approx(true, rel=0.35, abs=0.5)


def test_on_a_slow_machine_the_first_run_is_within_a_factor_of_1_5_after_its_first_passes():
    pairs = run(Pace(), 600.0, slower=5.0)
    late = [told / true for told, true in pairs[15:] if true > 1]
    assert all(1 / 1.5 < ratio < 1.5 for ratio in late)


def test_the_second_run_knows_what_the_first_one_took():
    pace = Pace()
    run(pace, 60.0, slower=5.0)
    for told, true in run(pace, 120.0, slower=5.0):
        assert told == pytest.approx(true, rel=0.35, abs=0.5)


def test_more_steps_than_ever_seen_are_scaled_from_those_that_were():
    pace = Pace()
    pace.learn("small", "filling", 2, 0.5)
    assert pace.rate("small", "filling", 20) == pytest.approx(5.0)
    assert pace.rate("small", "filling", 2) == 0.5
    assert pace.rate("large", "filling", 3) == pytest.approx(3 * TYPICAL["filling"])


def test_without_the_encoder_nothing_is_expected_of_reading():
    estimate = Estimate(Pace(), Workload("small", 60.0, 2, encoder=False))
    assert estimate.planned("reading") == 0.0 < estimate.planned("filling")
