"""A run that is killed goes on to the same bytes; ``kill.py`` is the long form, 20 moments."""

from __future__ import annotations

import sys

import pytest
from fuzz import tiny_folder
from kill import Killing, measure


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_run_killed_at_three_random_moments_ends_in_the_same_bytes(tmp_path):
    folder = tiny_folder(tmp_path / "model")
    killing = Killing(tmp_path / "runs", ["--weights", str(folder), "--steps", "8"], seconds=6)
    figures = list(measure(killing, moments=3))
    assert all(not wrong for *_, wrong in figures), figures
    assert any(kept for _, kept, _ in figures), figures
