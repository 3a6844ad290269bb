"""Laws of the progress: cells follow events, the clock follows the work, everything is JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_report import result

from lily.checkpoints.events import Downloading
from lily.inference.events import (
    Analyzed,
    ChunksDone,
    ContextRead,
    Finished,
    Planned,
    Reading,
    Sampling,
    Written,
)
from lily.ui.estimate import PASSES, Estimate, Pace
from lily.ui.progress import DONE, Progress, clock_time, idle
from lily.ui.workload import Workload

THREE = Planned(((0.0, 5.12), (4.48, 9.6), (8.96, 14.08)), 4, "ddim", 1.0, 7, True)


class Clock:
    """A clock that tests turn by hand, in seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cell_goes_from_waiting_through_its_steps_to_done():
    progress = Progress(["encoder on"])
    progress.tell(THREE)
    seen = [progress.value()["rows"][0]["cells"]]
    for event in (Sampling((0, 1), 1, 4), Sampling((0, 1), 4, 4), ChunksDone((0, 1), 2, 3)):
        progress.tell(event)
        seen.append(progress.value()["rows"][0]["cells"])
    assert seen == [[0, 0, 0], [1, 1, 0], [4, 4, 0], [DONE, DONE, 0]]


def test_a_chunk_whose_channels_take_turns_never_goes_back():
    progress = Progress(["encoder on"])
    progress.tell(THREE)
    for step in (3, 4, 1, 2):
        progress.tell(Sampling((0,), step, 4))
    assert progress.value()["rows"][0]["cells"] == [4, 0, 0]


def test_two_rows_share_a_plan_and_each_moves_with_its_take():
    progress = Progress(["encoder off", "encoder on"])
    progress.tell(THREE)
    progress.tell(Sampling((2,), 3, 4, variant=0))
    progress.tell(Sampling((0,), 1, 4, variant=1))
    rows = progress.value()["rows"]
    assert [row["cells"] for row in rows] == [[0, 0, 3], [1, 0, 0]]
    assert [row["label"] for row in rows] == ["encoder off", "encoder on"]


def expecting(progress: Progress, clock: Clock, seconds: float = 14.0, runs: int = 1) -> None:
    """Give a run an estimate that knows nothing yet."""
    progress.expect(Estimate(Pace(), Workload("small", seconds, 4, variants=runs), clock))


def test_the_time_left_is_told_from_the_first_pass_and_covers_all_that_follow():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    assert progress.value()["remaining"] is None
    expecting(progress, clock)
    progress.tell(Reading(1.0))
    load = Workload("small", 14.0, 4)
    expected = sum(map(load.typical, PASSES))
    assert progress.value()["remaining"] == pytest.approx(expected, rel=0.1)


def test_while_filling_the_time_left_follows_the_pace_of_both_rows():
    clock = Clock()
    progress = Progress(["encoder off", "encoder on"], clock)
    expecting(progress, clock, runs=2)
    progress.tell(THREE)
    clock.now = 60.0
    progress.tell(Sampling((0, 1, 2), 4, 4))
    progress.tell(ChunksDone((0, 1, 2), 3, 3))
    clock.now = 100.0
    progress.tell(Written(7.0, (), ()))
    assert progress.value()["remaining"] == pytest.approx(100.0, rel=0.3)


def test_chunks_of_an_earlier_run_are_done_and_say_nothing_of_the_pace():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    expecting(progress, clock)
    progress.tell(THREE)
    progress.tell(ChunksDone((0,), 1, 3))
    assert progress.value()["rows"][0]["cells"] == [DONE, 0, 0]
    clock.now = 60.0
    progress.tell(Sampling((1,), 4, 4))
    clock.now = 100.0
    progress.tell(Written(7.0, (), ()))
    assert progress.value()["remaining"] == pytest.approx(100.0, rel=0.3)


def test_a_batch_that_is_not_full_takes_as_long_as_one_that_is():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    expecting(progress, clock)
    progress.tell(replace(THREE, steps=1))
    clock.now = 60.0
    progress.tell(Sampling((0, 1), 1, 1))
    progress.tell(ChunksDone((0, 1), 2, 3))
    clock.now = 100.0
    progress.tell(Written(7.0, (), ()))
    assert progress.value()["remaining"] == pytest.approx(100.0, rel=0.3)


def test_a_large_download_says_how_long_it_takes():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    load = Workload("small", 14.0, 4, loads=True)
    progress.expect(Estimate(Pace(), load, clock))
    progress.load(Downloading("config.json", 900, 900))
    clock.now = 100.0
    progress.load(Downloading("model.safetensors", 10**9, 2 * 10**9))
    assert progress.value()["remaining"] == pytest.approx(100.0, rel=0.2)
    clock.now = 200.0
    progress.tell(Reading(1.0))
    assert progress.value()["remaining"] < 50.0  # a slow line is no slow machine


def test_the_bar_never_goes_back_and_is_full_at_the_end():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    expecting(progress, clock)
    bars = []
    events = [Reading(14.0), ContextRead(0.5), ContextRead(1.0), THREE]
    for chunk in range(3):
        events += [Sampling((chunk,), step, 4) for step in range(1, 5)]
        events += [ChunksDone((chunk,), chunk + 1, 3)]
    for event in events:
        clock.now += 5.0
        progress.tell(event)
        bars.append(progress.value()["fraction"])
    assert progress.value()["phase"] == "writing"
    assert bars == sorted(bars) and bars[-1] < 1.0
    progress.tell(Finished(result()))
    assert progress.value()["fraction"] == 1.0 and progress.value()["remaining"] is None


def test_the_memory_foretold_is_told_while_filling():
    progress = Progress(["encoder on"])
    progress.tell(replace(THREE, memory=6 * 2**30))
    assert progress.value()["text"].endswith("tensors take up to 6.0 GiB")


def test_phases_are_named_in_order():
    progress = Progress(["encoder on"])
    phases = [progress.value()["phase"]]
    measured = Analyzed("a.wav", 8000, 1, 14.0, 4000.0, False)
    for event in (Reading(3.0), measured, ContextRead(0.5), THREE):
        progress.tell(event)
        phases.append(progress.value()["phase"])
    assert phases == ["waiting", "measuring", "reading", "reading", "filling"]


def test_every_value_is_json_and_says_whether_it_runs():
    progress = Progress(["encoder on"])
    progress.tell(THREE)
    assert json.loads(json.dumps(progress.value()))["running"] is True
    assert json.loads(json.dumps(idle()))["running"] is False


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00"), (125.4, "2:05"), (3723, "1:02:03")],
)
def test_times_read_like_a_clock(seconds, text):
    assert clock_time(seconds) == text
