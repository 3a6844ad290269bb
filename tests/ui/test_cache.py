"""Laws of the page's files: the old and the too much go, what is used or not ours stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lily.audio.temp_files import lock
from lily.ui.cache import Cache

HOUR = 3600.0
UPLOADS = [f"{number:064x}" for number in range(4)]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cache"


def upload(folder: Path, name: str, size: int = 1_000, age: float = 0.0) -> Path:
    """A file as Gradio keeps it, so many seconds old."""
    path = folder / name / "take.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for part in (path, path.parent):
        os.utime(part, (time.time() - age,) * 2)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_old_goes_and_what_is_young_stays(folder):
    upload(folder, UPLOADS[0], age=2 * HOUR)
    upload(folder, UPLOADS[1], age=0.5 * HOUR)
    (folder / "tmpab_12xyz").write_bytes(b"an upload that broke off")
    os.utime(folder / "tmpab_12xyz", (0, 0))
    Cache(folder, HOUR, 1e9).tidy()
    assert names(folder) == {UPLOADS[1]}


def test_a_folder_is_as_old_as_its_newest_file(folder):
    path = upload(folder, "lily-run", age=2 * HOUR)
    (path.parent / "new.wav").write_bytes(b"x")
    Cache(folder, HOUR, 1e9).tidy()
    assert (path.parent / "new.wav").exists() and path.exists()


def test_over_its_size_the_oldest_go_first(folder):
    for age, name in enumerate(reversed(UPLOADS)):
        upload(folder, name, 100_000, age=60.0 * age)
    left = Cache(folder, HOUR, 220_000).tidy()
    assert names(folder) == set(UPLOADS[2:]) and left <= 220_000


def test_what_a_run_uses_stays_and_is_young_afterwards(folder):
    path = upload(folder, UPLOADS[0], age=2 * HOUR)
    cache = Cache(folder, HOUR, 10)
    with cache.holding([path, Path("/elsewhere/example.flac")]):
        cache.tidy()
        assert path.exists()
        assert not cache.has_room(1)
    Cache(folder, HOUR, 1e9).tidy()
    assert path.exists()
    assert cache.has_room(1) and not cache.has_room(100)


def test_names_that_are_not_ours_are_left_alone(folder):
    others = ["photos", "tmp", "abc", "f" * 63, "notes.txt", "F" * 64]
    for name in others:
        upload(folder, name, age=99 * HOUR)
    Cache(folder, 1.0, 1).tidy()
    assert names(folder) == set(others)


def test_a_link_is_removed_and_not_what_it_points_to(folder, tmp_path):
    target = upload(tmp_path, "precious", age=9 * HOUR)
    folder.mkdir()
    (folder / "lily-link").symlink_to(target.parent)
    os.utime(folder / "lily-link", (0, 0), follow_symlinks=False)
    Cache(folder, HOUR, 1e9).tidy()
    assert target.exists() and names(folder) <= {"lily-link"}


def test_the_folder_is_tidied_while_nobody_asks(folder):
    upload(folder, UPLOADS[0], age=2.0)
    Cache(folder, 1.0, 1e9).watch()
    deadline = time.monotonic() + 30
    while UPLOADS[0] in names(folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_other_users_of_the_machine_read_no_upload(folder, caplog):
    Cache(folder, HOUR, 1e9).new_folder()
    assert folder.stat().st_mode & 0o077 == 0 and not caplog.text
    folder.chmod(0o755)  # somebody has made it otherwise: it may be theirs
    Cache(folder, HOUR, 1e9).new_folder()
    assert "can read" in caplog.text and folder.stat().st_mode & 0o077


def test_when_the_last_server_ends_everything_of_it_goes_and_nothing_else(folder):
    first, second = (Cache(folder, HOUR, 1e9) for _ in range(2))
    first.watch()
    upload(folder, UPLOADS[0])
    upload(folder, "lily-run")
    (folder / "vibe_edit_history").mkdir()
    (folder / "notes.txt").write_text("the host's own")
    (folder / ".server-999999").touch()  # of a server that was killed
    first.close()
    assert names(folder) == {"notes.txt"}
    (folder / "notes.txt").unlink()
    second.watch()
    second.close()
    second.close()
    assert not folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
def test_servers_of_one_process_number_leave_each_other_s_files(folder, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers that share the folder
    first, second = (Cache(folder, HOUR, 1e9) for _ in range(2))
    first.watch()
    second.watch()
    path = upload(folder, UPLOADS[0])
    first.close()
    assert path.exists()
    second.close()
    assert not folder.exists()


def test_a_server_that_cannot_lock_its_file_does_not_start(folder, monkeypatch):
    monkeypatch.setattr("lily.ui.cache.lock_file", lambda file: False)
    if os.name != "nt":
        with pytest.raises(OSError, match="could not be locked"):
            Cache(folder, HOUR, 1e9).watch()
        assert not names(folder)


@pytest.mark.skipif(os.name == "nt", reason="another process's open files stay there anyway")
def test_while_another_server_runs_its_files_stay(folder):
    cache = Cache(folder, HOUR, 1e9)
    cache.watch()
    path = upload(folder, UPLOADS[0])
    with (folder / ".server-999999").open("wb") as other:
        assert lock(other)
        cache.close()
    assert path.exists()
    cache.watch()
    cache.close()
    assert not folder.exists()
