"""Laws of the progress: cells follow events, the clock follows the work, everything is JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lily.inference.events import Analyzed, ChunksDone, ContextRead, Planned, Reading, Sampling
from lily.ui.progress import DONE, Progress, clock_time, idle

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


def test_remaining_time_is_the_pace_so_far_times_the_work_left():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    clock.now = 100.0  # reading and loading must not count towards the pace
    progress.tell(THREE)
    assert progress.value()["remaining"] is None
    clock.now = 110.0
    progress.tell(Sampling((0,), 4, 4))
    progress.tell(ChunksDone((0,), 1, 3))
    assert progress.value()["elapsed"] == 110.0
    assert progress.value()["remaining"] == 20.0


def test_remaining_time_counts_both_rows():
    clock = Clock()
    progress = Progress(["encoder off", "encoder on"], clock)
    progress.tell(THREE)
    clock.now = 10.0
    progress.tell(Sampling((0, 1, 2), 4, 4))
    progress.tell(ChunksDone((0, 1, 2), 3, 3))
    assert progress.value()["remaining"] == 10.0


def test_chunks_of_an_earlier_run_are_done_and_say_nothing_of_the_pace():
    clock = Clock()
    progress = Progress(["encoder on"], clock)
    progress.tell(THREE)
    progress.tell(ChunksDone((0,), 1, 3))
    assert progress.value()["rows"][0]["cells"] == [DONE, 0, 0]
    assert progress.value()["remaining"] is None
    clock.now = 10.0
    progress.tell(Sampling((1,), 4, 4))
    assert progress.value()["remaining"] == 10.0


def test_fraction_grows_from_zero_to_one():
    progress = Progress(["encoder on"])
    progress.tell(THREE)
    fractions = [progress.value()["fraction"]]
    for chunk in range(3):
        for step in range(1, 5):
            progress.tell(Sampling((chunk,), step, 4))
            fractions.append(progress.value()["fraction"])
        progress.tell(ChunksDone((chunk,), chunk + 1, 3))
        fractions.append(progress.value()["fraction"])
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


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
