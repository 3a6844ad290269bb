"""A waiting visitor reads how many runs are before theirs, and for how long where it is known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lily.ui.waiting import ENGINE, Waiting, sentence


@pytest.mark.parametrize(
    ("before", "left", "said"),
    [
        (1, 39.6, "Waiting: 1 run before yours, about 40 s"),
        (1, 0.2, "Waiting: 1 run before yours, about 1 s"),
        (1, None, "Waiting: 1 run before yours"),
        (2, 125.0, "Waiting: 2 runs before yours; the first ends in about 2:05 min"),
        (3, None, "Waiting: 3 runs before yours"),
    ],
)
def test_the_time_is_only_of_the_run_that_is_known(before, left, said):
    assert sentence(before, left) == said


def test_the_place_is_that_of_the_visitors_own_run(shelf):
    events = [SimpleNamespace(session_hash=name) for name in ("a", "b")]
    line = SimpleNamespace(queue=events, current_concurrency=1)
    queue = SimpleNamespace(event_queue_per_concurrency_id={ENGINE: line})
    waiting = Waiting(shelf)
    waiting.page = SimpleNamespace(_queue=queue)
    assert "1 run before" in waiting.look({"visitor": "a"})["text"]
    assert "2 runs before" in waiting.look({"visitor": "b"})["text"]
    for asked in ({"visitor": "c"}, {"visitor": ""}, {"visitor": 3}, {}, None, "a"):
        assert waiting.look(asked) == {"text": ""}


def test_the_time_left_is_of_the_run_under_way_and_of_no_earlier_one(shelf):
    assert shelf.acquire(0) and shelf.seconds_left() is None
    shelf.estimate = SimpleNamespace(time_left=lambda: SimpleNamespace(left=40.0))
    assert shelf.seconds_left() == 40.0
    shelf.release()
    assert shelf.seconds_left() is None
