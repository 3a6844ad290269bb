"""Malformed and odd recordings: measured or refused in a sentence, nothing left, nobody falls over.

A fair sample of what ``fuzz.py`` runs whole; its helpers are the same.
"""

from __future__ import annotations

import collections

import lengths
import pytest
from fuzz import outcomes, tiny_engine
from malformed import CONTAINERS, cases

STEP, ENGINE = 23, 9  # every 23rd case; of these every ninth through the whole engine


@pytest.fixture(scope="module")
def everything():
    return list(cases())


def test_there_are_two_thousand_cases_of_every_kind(everything):
    assert len(everything) >= 2_000
    assert {case.data for case in everything[:200]} == {case.data for case in list(cases())[:200]}
    kinds = collections.Counter(case.kind for case in everything)
    assert all(kinds[f"cut at {percent} %"] == len(CONTAINERS) for percent in range(100))


@pytest.mark.slow
def test_a_sample_is_measured_or_refused_and_leaves_nothing(everything, tmp_path):
    engine = tiny_engine(tmp_path / "model")
    told = list(outcomes(engine, everything[::STEP], tmp_path, ENGINE))
    broken = [f"{case.name} ({case.kind}): {text}" for case, text in told if "BROKEN" in text]
    assert not broken, "\n".join(broken)
    counts = collections.Counter(text for _, text in told)
    assert counts["measured"] > 30 and counts["refused"] > 30 and counts["filled"] > 3
    assert not list((tmp_path / "files").iterdir())


@pytest.mark.slow
def test_the_length_of_a_damaged_file_is_right_or_something_is_reported(tmp_path):
    told = list(lengths.outcomes(200, 0, tmp_path))
    broken = [f"{name}: {text}" for name, text in told if "BROKEN" in text]
    assert not broken, "\n".join(broken)
    counts = collections.Counter(text for _, text in told)
    assert counts["whole"] > 20 and counts["reported"] > 40
