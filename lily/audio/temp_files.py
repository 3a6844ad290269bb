"""Decide which temporary files are nobody's: those whose process has ended, however it ended.

A file that is being written is locked; the system takes the lock away with the process, even at a
``kill -9``. So whoever gets the lock of a temporary file may remove it. Where there are no such
locks (Windows), an open file cannot be removed, which comes to the same.
"""

import contextlib
import time
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

YOUNGEST = 1.0  # seconds: a file that was made just now may not have its lock yet


def hold(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; false if another process or object holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        return False
    return True


def remove_dead(folder: Path, pattern: str) -> None:
    """Remove the files of a folder that match a pattern and that nobody is writing any more."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # somebody else is removing it
            if time.time() - path.stat().st_mtime < YOUNGEST:
                continue
            with path.open("r+b") as file:  # NFS locks nothing that is open for reading
                dead = hold(file)
            if dead:
                path.unlink()
