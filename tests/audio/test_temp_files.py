"""Laws of temporary files: stale ones go, live ones stay, final names come together or not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lily.audio import temp_files
from lily.audio.temp_files import MIN_AGE_SECONDS, FileGroup, lock, remove_stale, require_new
from lily.audio.write import AudioWriter
from lily.errors import InputError

WRITER = """
import sys, torch
from lily.audio.write import AudioWriter
with AudioWriter(sys.argv[1], 48_000, 1, frames=100) as writer:
    writer.write(torch.zeros(1, 100))
    print("open", flush=True)
    sys.stdin.read()
"""


def aged(folder: Path) -> list[Path]:
    """The temporary files of a folder, made to look as old as a lost run's."""
    parts = sorted(folder.glob(".*.part"))
    for path in parts:
        os.utime(path, (time.time() - 2 * MIN_AGE_SECONDS,) * 2)
    return parts


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no open file")
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_killed_writers_file_is_deleted_and_a_live_ones_is_kept(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    command = [sys.executable, "-c", WRITER, path]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"open\n"
    with AudioWriter(path, 48_000, 1, frames=100) as here:
        here.write(torch.zeros(1, 100))
        both = aged(tmp_path)
        remove_stale(path)
        assert len(both) == 2 and aged(tmp_path) == both
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert names(tmp_path) == [file.name for file in both], "killed: nothing has a final name"
        remove_stale(tmp_path / f"b.{ending}")
        assert len(aged(tmp_path)) == 2, "another file's"
        remove_stale(path)
        assert len(aged(tmp_path)) == 1
    assert names(tmp_path) == [f"a.{ending}"]


def test_a_file_that_was_created_a_moment_ago_is_kept(tmp_path):
    with FileGroup() as files:
        new = files.create(tmp_path / "a")
        new._handle.close()  # unlocked
        remove_stale(tmp_path / "a")
        assert new.temporary.exists()
        aged(tmp_path)
        remove_stale(tmp_path / "a")
        assert not new.temporary.exists()
        files.discard()


def test_files_of_a_group_are_named_at_its_end(tmp_path):
    with FileGroup() as files:
        for name in ("a", "b"):
            files.write_text(tmp_path / name, f"text of {name}")
        assert not {"a", "b"} & set(names(tmp_path))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a": "text of a",
        "b": "text of b",
    }


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_group_is_named_as_a_whole_or_not_at_all(tmp_path, monkeypatch, failing):
    calls, link = [], os.link

    def full(source, target):
        calls.append(target)
        if len(calls) > failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"), FileGroup() as files:
        for name in ("a", "b", "c"):
            files.write_text(tmp_path / name, "text")
    assert names(tmp_path) == []


@pytest.mark.parametrize("taken", ["a", "b", "c"])
def test_a_name_that_is_taken_meanwhile_keeps_its_file(tmp_path, taken):
    with pytest.raises(InputError, match=f"{taken} exists already"), FileGroup() as files:
        for name in ("a", "b", "c"):
            files.write_text(tmp_path / name, "text")
        (tmp_path / taken).write_text("older")
    assert names(tmp_path) == [taken] and (tmp_path / taken).read_text() == "older"


def test_without_hard_links_files_are_named_and_nothing_is_overwritten(tmp_path, monkeypatch):
    def refuse(_source, _target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with FileGroup() as files:
        files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text" and names(tmp_path) == ["a"]
    with pytest.raises(InputError, match="exists already"), FileGroup() as files:
        files.write_text(tmp_path / "b", "text")
        (tmp_path / "b").write_text("older")
    assert (tmp_path / "b").read_text() == "older" and names(tmp_path) == ["a", "b"]


LIMIT = os.pathconf("/", "PC_NAME_MAX") if hasattr(os, "pathconf") else 255


@pytest.mark.parametrize("letter", ["x", "録", os.fsdecode(b"\xe9")])
def test_a_name_of_any_length_that_fits_has_a_temporary_name_that_fits(tmp_path, letter):
    size = len(os.fsencode(letter))
    for count in (1, 8, 24, 25, (LIMIT - 4) // size):
        path = tmp_path / (letter * count + ".wav")
        with FileGroup() as files:
            files.write_text(path, "text")
        assert path.read_text() == "text"


@pytest.mark.parametrize("folder", ["", "not/there/yet"])
def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path, folder):
    require_new(tmp_path / folder / ("x" * LIMIT))
    with pytest.raises(InputError, match=f"has {LIMIT + 1} bytes and the file system allows"):
        require_new(tmp_path / folder / ("x" * (LIMIT + 1)))


def test_two_files_that_begin_alike_do_not_delete_each_others(tmp_path):
    first, second = (tmp_path / ("x" * 30 + ending) for ending in "ab")
    assert temp_files._prefix(first) != temp_files._prefix(second)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
@pytest.mark.parametrize(
    ("number", "held"), [(errno.EWOULDBLOCK, False), (errno.ENOLCK, True), (errno.EOPNOTSUPP, True)]
)
def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch, number, held):
    def refused(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(temp_files.fcntl, "flock", refused)
    with (tmp_path / "a").open("wb") as file:
        assert lock(file) is held
        assert not lock(file, without=False)  # nothing says that a file is stale
