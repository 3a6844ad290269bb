"""A run that is killed goes on to the same bytes; ``kill.py`` is the long form, 20 moments."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from fuzz import tiny_folder
from kill import LOOK_EVERY, Killing, measure

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


def test_a_run_killed_at_three_random_moments_ends_in_the_same_bytes(tmp_path):
    folder = tiny_folder(tmp_path / "model")
    killing = Killing(tmp_path / "runs", ["--weights", str(folder), "--steps", "8"], seconds=6)
    figures = list(measure(killing, moments=3))
    assert all(not wrong for *_, wrong in figures), figures
    assert any(kept for _, kept, _ in figures), figures


def test_a_terminated_run_keeps_its_chunks_and_no_other_file(tmp_path):
    folder = tiny_folder(tmp_path / "model")
    killing = Killing(tmp_path / "runs", ["--weights", str(folder), "--steps", "8"], seconds=6)
    pid = killing.start(out := tmp_path / "out")
    while not killing.kept(out) and not os.waitpid(pid, os.WNOHANG)[0]:
        time.sleep(LOOK_EVERY)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert [path.name for path in out.iterdir()] == ["recording.wav.part"]
