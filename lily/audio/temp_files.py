"""Write files that appear under their final names only when they are complete.

A file is written under a temporary name in the folder of its final name and hard-linked to the
final name at the end: linking fails if the name is taken, so no existing file is overwritten, not
even one that was created in the meantime. An open temporary file is locked. The operating system
releases the lock with the process, even after ``kill -9``, so a temporary file without a lock is
stale and may be deleted.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lily.errors import InputError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted: no lock is needed
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".part"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of a file system
MIN_AGE_SECONDS = 1.0  # a file that was created a moment ago may not be locked yet
SHOWN_CHARACTERS = 24  # of the final name: with the digits below 120 bytes of UTF-8 at most
NAME_BYTES = 255  # longest file name where the system does not say: NTFS, ext4, APFS, XFS


class NewFile:
    """A file that is being written to `temporary` and will be named `path`."""

    def __init__(self, path: Path) -> None:
        """Create and lock the temporary file; raises InputError if the folder does not allow it."""
        self.path = path
        self.temporary = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex[:8]}{SUFFIX}")
        try:
            self._handle = open(self.temporary, "xb")  # noqa: SIM115, holds the lock
        except OSError as error:
            raise InputError(
                f"Cannot write into {path.parent} ({error.strerror}); give a folder that exists "
                "and that you may write to."
            ) from error
        lock(self._handle)

    def commit(self) -> None:
        """Give the file its final name; raises FileExistsError if the name is taken."""
        with open(self.temporary, "r+b") as file:
            os.fsync(file.fileno())  # a full network disk reports it here at the latest
        if os.name == "nt":
            self._handle.close()  # Windows renames no open file, and none to a name that is taken
            os.rename(self.temporary, self.path)
        else:
            link_new(self.temporary, self.path)

    def discard(self) -> None:
        """Delete the temporary file, if it is still there."""
        self._handle.close()
        self.temporary.unlink(missing_ok=True)


class FileGroup:
    """Files that get their final names together when the `with` block ends, or none of them."""

    def __init__(self) -> None:
        self._files: list[NewFile] = []

    def __enter__(self) -> FileGroup:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    def create(self, path: str | os.PathLike[str]) -> NewFile:
        """Start a file; raises InputError if it exists, its name is too long, or no folder."""
        require_new(Path(path))
        self._files.append(NewFile(Path(path)))
        return self._files[-1]

    def write_text(self, path: str | os.PathLike[str], text: str) -> None:
        """Add a complete UTF-8 text file."""
        self.create(path).temporary.write_text(text, encoding="utf-8")

    def drop(self, file: NewFile) -> None:
        """Delete a file and take it out of the group."""
        self._files.remove(file)
        file.discard()

    def commit(self) -> None:
        """Name all files; raises InputError if a name is taken by now, after deleting them all."""
        named: list[Path] = []
        try:
            for file in self._files:
                file.commit()
                named.append(file.path)
        except BaseException as error:
            for path in named:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise _taken(file.path) from error
            raise
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete every temporary file."""
        while self._files:
            self._files.pop().discard()


def require_new(path: Path) -> None:
    """Delete what a killed process left of `path`; raises InputError if `path` cannot be created.

    The folder may be missing. Checked before the work starts, so that no run is lost at its end.
    """
    limit = _name_limit(path.parent)
    size = len(os.fsencode(path.name))
    if size > limit:
        raise InputError(
            f"The file name {path.name[:40]}... has {size} bytes and the file system allows "
            f"{limit}; give the input a shorter name."
        )
    remove_stale(path)
    if os.path.lexists(path):
        raise _taken(path)


def remove_stale(path: Path) -> None:
    """Delete temporary files of `path` that no living process is writing."""
    for temporary in path.parent.glob(f"{glob.escape(_prefix(path))}*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another process is deleting it
            if time.time() - temporary.stat().st_mtime < MIN_AGE_SECONDS:
                continue
            with temporary.open("r+b") as file:  # NFS locks no file that is open for reading only
                stale = lock(file, without=False)
            if stale:
                temporary.unlink()


def lock(file: IO[Any], without: bool = True) -> bool:
    """Lock an open file until it is closed; false if another process or object holds the lock.

    Returns `without` on a file system that has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return without and error.errno in NO_LOCKS
    return True


def link_new(temporary: Path, path: Path) -> None:
    """Link a complete file to its final name; raises FileExistsError if the name is taken.

    The temporary name stays, unless the file system has no hard links.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here (FAT, some network file systems): reserve the name
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _prefix(path: Path) -> str:
    """How temporary names of `path` begin: hidden, recognisable, and short for any final name."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return f".{path.name[:SHOWN_CHARACTERS]}.{digest}."


def _name_limit(folder: Path) -> int:
    """The longest file name in bytes that a folder, which may be missing, can hold."""
    if not hasattr(os, "pathconf"):
        return NAME_BYTES
    for parent in (folder, *folder.absolute().parents):
        try:
            return os.pathconf(parent, "PC_NAME_MAX")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                break
    return NAME_BYTES


def _taken(path: Path) -> InputError:
    return InputError(f"{path} exists already and is not overwritten; give another output folder.")
