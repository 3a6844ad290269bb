"""Laws of the timeline: what is missing is silent and reported, jitter and drift change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from lily.audio.info import DecodeWarning, clock
from lily.audio.timeline import LONGEST_GAP, Timeline

RATE = 48_000
FRAME = 960  # 20 ms


def play(times, begin=None, damaged=(), rate=RATE, frame=FRAME):
    """Push frames of ones at `times` in seconds; returns samples and warnings."""
    timeline, out = Timeline(rate, 1), []
    timeline.begin(begin)
    for number, time in enumerate(times):
        if number in damaged:
            timeline.damaged()
        out += timeline.push(time, np.ones((1, frame), np.float32))
    out += timeline.flush()
    pieces = [item for item in out if isinstance(item, np.ndarray)]
    samples = np.concatenate(pieces, axis=1)[0]
    assert len(samples) == timeline.frames
    return samples, [item for item in out if isinstance(item, DecodeWarning)]


def steady(count, start=0.0):
    return [start + 0.02 * number for number in range(count)]


def silences(samples) -> list[tuple[int, int]]:
    """(start, length) of every run of zeros."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], samples, [1]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def test_frames_that_follow_each_other_are_joined():
    samples, warnings = play(steady(100))
    assert len(samples) == 100 * FRAME and samples.all() and not warnings


@pytest.mark.parametrize("lost", [1, 2, 3, 75, 1_000])
def test_lost_frames_become_silence_of_their_length_and_are_reported(lost):
    times = steady(50) + steady(60, 1.0 + 0.02 * lost)
    samples, (warning,) = play(times)
    assert silences(samples) == [(48_000, lost * FRAME)]
    assert warning.start == 1.0 and warning.seconds == pytest.approx(0.02 * lost)
    assert "at 1.00 s" in warning.text


@pytest.mark.parametrize("position", [1, 48, 49])
def test_gaps_near_the_ends_count_too(position):
    times = steady(50)
    times[position:] = [time + 0.1 for time in times[position:]]
    samples, warnings = play(times)
    assert silences(samples) == [(position * FRAME, 4_800)] and len(warnings) == 1


def test_several_gaps_are_each_in_their_place():
    times = steady(100) + steady(100, 2.5) + steady(100, 5.0)
    samples, warnings = play(times)
    assert silences(samples) == [(96_000, 24_000), (96_000 + 24_000 + 96_000, 24_000)]
    assert [round(w.start, 6) for w in warnings] == [2.0, 4.5]


@pytest.mark.parametrize("spread", [0.001, 0.005, 0.012])
def test_jitter_makes_no_silence(spread):
    draw = np.random.default_rng(0)
    times = [time + draw.uniform(-spread, spread) for time in steady(1_000)]
    samples, warnings = play(times)
    assert len(samples) == 1_000 * FRAME and samples.all() and not warnings


def test_a_burst_after_a_pause_of_the_clock_makes_no_silence():
    times = steady(200)
    times[100:110] = [2.15 + 0.005 * number for number in range(10)]  # late, then catching up
    samples, warnings = play(times)
    assert samples.all() and not warnings


@pytest.mark.parametrize("drift", [1e-3, -1e-3, 5e-3])
def test_a_clock_that_runs_fast_or_slow_makes_no_silence(drift):
    samples, warnings = play([time * (1 + drift) for time in steady(3_000)])
    assert samples.all() and not warnings


def test_time_stamps_rounded_to_milliseconds_keep_the_length_of_a_gap():
    frame = 1_024  # 21.33 ms
    times = [round(number * frame / RATE, 3) for number in range(40)]
    later = [round(1.5 + number * frame / RATE, 3) for number in range(40)]
    samples, (warning,) = play(times + later, frame=frame)
    assert warning.seconds == pytest.approx(1.5 - 40 * frame / RATE, abs=0.0011)


def test_frames_without_time_stamps_follow_and_the_next_stamp_shows_the_gap():
    times = [*steady(50), None, None, *steady(50, 2.0)]
    samples, (warning,) = play(times)
    assert silences(samples) == [(52 * FRAME, 96_000 - 52 * FRAME)]


@pytest.mark.parametrize(
    ("begin", "first", "silent"),
    [(0.0, 1.5, 72_000), (1.4, 1.48, 0), (1.4, 2.0, 28_800), (None, 7.0, 0), (0.0, -0.02, 0)],
)
def test_a_late_start_is_silent_where_the_clock_has_a_zero(begin, first, silent):
    samples, warnings = play(steady(60, first), begin=begin)
    assert silences(samples) == ([(0, silent)] if silent else [])
    assert len(warnings) == bool(silent)


def test_a_clock_that_was_set_is_reported_and_parts_are_joined():
    times = steady(60) + steady(60, 1.2 + LONGEST_GAP + 1) + steady(60, 5.0)
    samples, (warning,) = play(times)
    assert samples.all() and len(samples) == 180 * FRAME
    assert "jump by 601.00 s" in warning.text and warning.seconds == 0


def test_damage_is_called_damage_and_reported_even_without_a_gap():
    _, (warning,) = play(steady(50) + steady(50, 1.1), damaged=[50])
    assert "0.10 s at 1.00 s could not be decoded" in warning.text
    samples, (warning,) = play(steady(100), damaged=[50])
    assert samples.all() and "damaged at 1.00 s" in warning.text and warning.seconds == 0


def test_a_second_part_has_a_clock_of_its_own():
    timeline = Timeline(RATE, 2)
    piece = np.ones((2, FRAME), np.float32)
    items = [item for time in steady(20, 9.0) for item in timeline.push(time, piece)]
    items += timeline.flush()
    timeline.begin(0.0)
    items += [item for time in steady(20, 0.5) for item in timeline.push(time, piece)]
    (warning,) = [item for item in items if isinstance(item, DecodeWarning)]
    assert (warning.start, warning.seconds) == (0.4, 0.5)
    assert timeline.frames == 40 * FRAME + 24_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 s"), (59.994, "59.99 s"), (59.996, "1:00.00"), (3_723.4, "1:02:03.40")],
)
def test_positions_read_as_on_a_clock(seconds, text):
    assert clock(seconds) == text
