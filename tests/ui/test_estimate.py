"""Laws of the estimate: what runs took is remembered, and a slow machine slows all that follows."""

from __future__ import annotations

import itertools

import pytest

from lily.ui.estimate import PASSES, Estimate, Mark, Pace, TimeLeft, time_left
from lily.ui.workload import TYPICAL, Workload

PLAN = dict.fromkeys(PASSES, 10.0)


class Clock:
    """A clock that tests turn by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(pace: Pace, seconds: float, slower: float = 1.0) -> list[tuple[float, float]]:
    """A run at a multiple of the typical cost: pairs of the time left as shown, and as it was."""
    clock = Clock()
    load = Workload("small", seconds, 2)
    estimate = Estimate(pace, load, clock)
    shown = []
    for name in PASSES:
        cost = slower * load.typical(name)
        for step in range(10 if cost else 0):
            estimate.enter(name, step / 10)
            shown.append((estimate.time_left().left, clock.now))
            clock.now += cost / 10
    estimate.finish()
    return [(left, clock.now - at) for left, at in shown]


def test_a_typical_run_is_foretold_from_its_first_moment():
    for shown, true in run(Pace(), 60.0):
        assert shown == pytest.approx(true, rel=0.01, abs=0.01)


def test_on_a_slow_machine_the_first_run_is_within_a_factor_of_1_5_after_its_first_moments():
    pairs = run(Pace(), 600.0, slower=5.0)
    assert all(1 / 1.5 < shown / true < 1.5 for shown, true in pairs[2:])


def test_the_second_run_knows_what_the_first_one_took():
    pace = Pace()
    run(pace, 60.0, slower=5.0)
    for shown, true in run(pace, 120.0, slower=5.0):
        assert shown == pytest.approx(true, rel=0.05, abs=0.5)


def test_a_cost_is_scaled_by_what_the_pass_has_cost_before():
    pace = Pace()
    pace.learn("small", "filling", 0.1, 0.5)
    assert pace.rate("small", "filling", 0.1) == pytest.approx(0.5)
    assert pace.rate("small", "filling", 0.4) == pytest.approx(2.0)
    assert pace.rate("large", "filling", 0.4) == 0.4


def test_one_slow_run_is_forgotten_whatever_the_lengths_of_those_that_follow():
    pace = Pace()
    pace.learn("small", "filling", 0.1, 0.8)
    for count in range(20):
        typical = 0.1 + count / 300
        pace.learn("small", "filling", typical, typical)
    assert pace.rate("small", "filling", 0.1) == pytest.approx(0.1, rel=0.1)


def test_stereo_and_a_comparison_cost_twice_and_a_batch_that_is_not_full_as_much_as_a_full_one():
    once = Workload("small", 60.0, 2)
    assert Workload("small", 60.0, 2, channels=2).typical("filling") == 2 * once.typical("filling")
    assert Workload("small", 60.0, 2, variants=2).typical("filling") == 2 * once.typical("filling")
    short, full = (Workload("small", s, 2, batch_seconds=18.0).sampling for s in (5.0, 18.0))
    assert short == full == TYPICAL["sampling"] * 2 * 18.0


def test_without_the_encoder_nothing_is_expected_of_reading():
    estimate = Estimate(Pace(), Workload("small", 60.0, 2, encoder=False))
    assert estimate.planned("reading") == 0.0 < estimate.planned("filling")


def test_a_machine_that_becomes_slower_is_noticed_before_it_has_been_slow_for_half_the_run():
    marks = [Mark(3.0 * i, "filling", i / 20) for i in range(5)]
    marks += [Mark(marks[-1].at + 9.0 * i, "filling", (4 + i) / 20) for i in range(1, 5)]
    lefts = [time_left(marks[:n], {**PLAN, "filling": 60.0, "drawing": 0.0}).left for n in (5, 9)]
    assert lefts[0] == pytest.approx(48.0, rel=0.05)  # 16 of 20 parts of 3 s
    assert 72.0 < lefts[1] < 108.0  # 12 parts: 6 to 9 s each


def test_the_pass_that_runs_soon_outweighs_the_others():
    """Load slows networks and decoding by different factors: here by 10 and by 1."""
    plan = {**PLAN, "filling": 100.0}
    marks = [Mark(10.0 * i, name, 0.0) for i, name in enumerate(("measuring", "reading"))]
    marks += [Mark(20.0 + 50.0 * i, "filling", 0.05 * i) for i in range(4)]
    true = 850.0 + 10.0 * plan["drawing"]
    assert true / 1.5 < time_left(marks, plan).left < true * 1.5


def test_a_slow_download_says_nothing_of_the_machine():
    marks = [Mark(0.0, "loading", 0.0), Mark(100.0, "loading", 0.5)]
    plan = {**PLAN, "loading": 1.0}
    rest = sum(plan.values()) - 1.0
    assert time_left(marks, plan).left == pytest.approx(100.0 + rest)
    assert time_left([*marks, Mark(200.0, "measuring", 0.0)], plan).left == pytest.approx(rest)


def test_what_is_on_show_counts_down_and_grows_where_the_next_news_is_late():
    as_of = TimeLeft(left=60.0, upcoming=10.0, known=20.0)
    assert [as_of.shown(since) for since in (0.0, 10.0, 30.0)] == [60.0, 50.0, 100.0]


def test_no_share_makes_the_time_left_negative_or_unknown():
    for share, name in itertools.product((0.0, 0.5, 1.0), PASSES):
        marks = [Mark(0.0, name, 0.0), Mark(1.0, name, share)] if share else [Mark(0.0, name, 0.0)]
        found = time_left(marks, PLAN)
        assert 0.0 <= found.upcoming <= found.left + 1e-9
