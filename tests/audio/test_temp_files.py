"""Laws of leftovers: what a killed process was writing goes, what is being written stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from lily.audio.read import AudioWriter
from lily.audio.temp_files import YOUNGEST, remove_dead

WRITER = """
import sys, torch
from lily.audio.read import AudioWriter
with AudioWriter(sys.argv[1], 48_000, 1) as writer:
    writer.write(torch.zeros(1, 100))
    print("open", flush=True)
    sys.stdin.read()
"""


def aged(folder) -> list:
    """The temporary files of a folder, made to look as old as a lost run's."""
    parts = sorted(folder.glob(".*.part"))
    for path in parts:
        os.utime(path, (time.time() - 2 * YOUNGEST,) * 2)
    return parts


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_killed_writers_file_goes_and_a_living_ones_stays(tmp_path, ending):
    command = [sys.executable, "-c", WRITER, tmp_path / f"a.{ending}"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"open\n"
    with AudioWriter(tmp_path / f"b.{ending}", 48_000, 1) as here:
        here.write(torch.zeros(1, 100))
        both = aged(tmp_path)
        remove_dead(tmp_path, ".*.part")
        assert len(both) == 2 and aged(tmp_path) == both
        child.send_signal(signal.SIGKILL)
        child.communicate()
        remove_dead(tmp_path, ".*.part")
        assert aged(tmp_path) == both[1:]
    assert [path.name for path in tmp_path.iterdir()] == [f"b.{ending}"]


def test_a_file_that_was_made_just_now_stays(tmp_path):
    (tmp_path / ".a.part").write_bytes(b"x")
    remove_dead(tmp_path, ".*.part")
    assert list(tmp_path.iterdir())
