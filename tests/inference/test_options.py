"""Options: a cutoff survives being written, and what is not allowed is one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lily.errors import InputError
from lily.inference.options import (
    check_duration,
    check_range,
    cutoff_segments,
    format_cutoff,
    parse_cutoff,
)


@pytest.mark.parametrize(
    ("text", "cutoff"),
    [("3500", 3500.0), (" 0.1 ", 0.1), ("0:4000,62.5:20000", ((0.0, 4000.0), (62.5, 20000.0)))],
)
def test_a_cutoff_is_a_number_or_segments_and_survives_being_written(text, cutoff):
    assert parse_cutoff(text) == cutoff == parse_cutoff(format_cutoff(cutoff))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4k", "not a cutoff"),
        ("nan", "impossible"),
        ("inf", "impossible"),
        ("0:4000,x:5", "not a cutoff"),
        ("0:4000:1", "not a cutoff"),
        (":", "not a cutoff"),
        ("0:4000,nan:5000", "impossible"),
        ("0:4000,1e99:8000", "impossible"),
        ("-1:4000", "impossible"),
        ("0:nan", "impossible"),
        (",".join(f"{second}:4000" for second in range(65)), "65 segments; at most 64"),
    ],
)
def test_a_cutoff_that_cannot_be_is_one_sentence(text, said):
    with pytest.raises(InputError, match=said):
        parse_cutoff(text)


def test_one_cutoff_is_one_segment_and_none_is_none():
    assert cutoff_segments(None) == ()
    assert cutoff_segments(4000) == ((0.0, 4000),)
    assert cutoff_segments(((0.0, 4e3), (1.0, 8e3))) == ((0.0, 4e3), (1.0, 8e3))


def test_a_range_names_its_ends():
    for value in (1, 5):
        check_range("steps", value, 1, 5)
    for value in (0, 6, float("nan")):
        with pytest.raises(InputError, match="steps is .*; give 1 to 5"):
            check_range("steps", value, 1, 5)


def test_a_limit_is_the_longest_that_is_taken():
    check_duration("a.wav", 60.0, 60.0)
    check_duration("a.wav", 1e9, None)
    with pytest.raises(InputError, match="a.wav is longer than 1 min"):
        check_duration("a.wav", 60.1, 60.0)


def test_options_need_no_torch():
    code = "import sys, lily.inference.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
